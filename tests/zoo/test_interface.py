"""The interface in a manifest is enough to use a model without this library, and an invalid one is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from statezoo import zoo
from statezoo.checkpoints import load_file
from statezoo.core import Tensor, no_grad
from statezoo.zoo.data.images import EXAMPLE, parse_image
from statezoo.zoo.entry import GOLDEN, open_entry
from statezoo.zoo.interface.applying import prepare
from statezoo.zoo.loading import find

# --- an independent reader of manifests, in plain Python: lists and numbers, nothing of the library


def flat(value: Any) -> list[Any]:
    return [inner for item in value for inner in flat(item)] if isinstance(value, list) else [value]


def each(value: Any, change: Any) -> Any:
    return [each(item, change) for item in value] if isinstance(value, list) else change(value)


def input_for(manifest: dict[str, Any], raw: dict[str, Any]) -> Any:
    """Return the input of a model as nested lists, without the batch axis."""
    joined: list[Any] = []
    for field in manifest["preprocessing"]:
        value, options = raw[field["name"]], field.get("options")
        if field["kind"] == "choice":
            value = options.index(value)
        elif field["kind"] == "text":
            value = [options.index(symbol) for symbol in value]
        for step in field["steps"]:
            if step["op"] == "flatten":
                value = flat(value)
            elif step["op"] == "one_hot":
                value = each(value, lambda index, options=options: [int(index == i) for i in range(len(options))])
            elif step["op"] == "append":
                value = value + step["values"]
            elif step["op"] == "scale":
                value = each(value, lambda x, step=step: x * step["factor"] + step["offset"])
            else:
                raise NotImplementedError(step["op"])
        joined = joined + value
    return joined


def answer_of(manifest: dict[str, Any], run: Any, x: list[Any]) -> Any:
    """Return the answer of a model for an input. run: the model, from an array with a batch axis to another one."""
    steps = manifest["postprocessing"]
    if steps and steps[0]["op"] == "generate":
        taken = []
        for position in range(steps[0]["start"], steps[0]["start"] + steps[0]["count"]):
            taken.append(int(np.argmax(run(x)[position])))
            if position + 1 < len(x):
                x[position + 1] = taken[-1]
        return taken
    output = run(x)
    for step in steps:
        if step["op"] == "softmax":
            output = np.exp(output) / np.exp(output).sum()
        elif step["op"] == "argmax":
            output = output.argmax(-1)
        else:
            assert step["op"] == "reshape"
            output = output.reshape(step["shape"])
    return output


RAW: dict[str, dict[str, Any]] = {
    "lenet.digits28": {"image": parse_image(EXAMPLE, 28).tolist()},
    "linear-regression": {"point": [3, 4]},
    "gpt.conjugator": {"verb": "hablar____", "tense": "presente", "person": "yo"},
    "lstm.conjugator": {"verb": "hablar____", "tense": "presente", "person": "yo"},
    "mnist-classifier.digits28": {"image": parse_image(EXAMPLE, 28).tolist()},
    "simple-mlp.digits": {"image": parse_image(EXAMPLE, 8).tolist()},
    "simple-mlp.digits-bn": {"image": parse_image(EXAMPLE, 8).tolist()},
    "tense-mlp": {"verb": "hablar", "person": "yo"},
    "tied-autoencoder.digits": {"image": parse_image(EXAMPLE, 8).tolist()},
    "transformer-block.modadd": {"numbers": ["45", "60"]},
    "transformer-block.sort": {"digits": "352914"},
    "vae.digits": {"image": parse_image(EXAMPLE, 8).tolist()},
}


def manifest_of(name: str) -> dict[str, Any]:
    return open_entry(find(name)).manifest


@pytest.mark.parametrize("name", RAW)
def test_the_declared_preprocessing_gives_the_input_that_predict_gives_the_model(name: str):
    model, manifest, seen = zoo.load(name), manifest_of(name), []
    model.register_forward_pre_hook(lambda module, inputs: seen.append(np.array(inputs[0])))
    model.predict(*manifest["example"])
    declared = np.array([input_for(manifest, RAW[name])], manifest["input"]["dtype"])
    given = seen[0] if seen[0].ndim == declared.ndim else seen[0][None]
    if manifest["postprocessing"] and manifest["postprocessing"][0]["op"] == "generate":
        declared = declared[:, : given.shape[1]]  # what comes later has no influence, and is left out
    assert given.dtype == declared.dtype
    assert np.array_equal(given, declared)
    assert np.array_equal(
        prepare(manifest["preprocessing"], RAW[name], manifest["input"]["dtype"])[None][:, : given.shape[1]], declared
    )


@pytest.mark.parametrize("name", RAW)
def test_the_declared_steps_give_the_answer_of_predict(name: str):
    model, manifest = zoo.load(name), manifest_of(name)

    def run(x: list[Any]) -> np.ndarray:
        with no_grad():
            return model(Tensor(np.array([x], manifest["input"]["dtype"]))).data[0]

    refuse_other_answer(manifest, model.predict(*manifest["example"]), run, RAW[name])


@pytest.mark.onnx
@pytest.mark.parametrize("name", RAW)
def test_the_onnx_file_and_the_manifest_give_the_answer_of_predict(name: str):
    import onnxruntime

    entry = open_entry(find(name))
    session = onnxruntime.InferenceSession(entry.path("model.onnx"), providers=["CPUExecutionProvider"])
    given, returned = entry.manifest["input"], entry.manifest["output"]

    def run(x: list[Any]) -> np.ndarray:
        found: Any = session.run([returned["name"]], {given["name"]: np.array([x], given["dtype"])})[0]
        return found[0]

    refuse_other_answer(entry.manifest, zoo.load(name).predict(*entry.manifest["example"]), run, RAW[name])


def refuse_other_answer(manifest: dict[str, Any], predicted: Any, run: Any, raw: dict[str, Any]) -> None:
    answer = answer_of(manifest, run, input_for(manifest, raw))
    if isinstance(predicted, list) and isinstance(predicted[0], tuple):
        shares = {str(one[0]): one.probability for one in predicted}
        predicted = [shares[label] for label in manifest["labels"]]
    if isinstance(predicted, str):  # up to the first label, which fills what is left
        predicted = [manifest["labels"].index(letter) for letter in predicted]
        answer = [*answer, 0][: [*answer, 0].index(0)]
    np.testing.assert_allclose(answer, predicted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", RAW)
def test_the_declared_shapes_are_those_of_the_golden_values(name: str):
    manifest, golden = manifest_of(name), load_file(find(name) / GOLDEN)
    for side in ("input", "output"):
        assert manifest[side]["shape"] == [None, *golden[side].shape[1:]]
        assert manifest[side]["dtype"] == golden[side].dtype
        assert len(manifest[side]["axes"]) == golden[side].ndim
    assert not manifest["labels"] or len(manifest["labels"]) == golden["output"].shape[-1]


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([{"op": "scale", "factor": 0.5, "offset": 1}], [[1, 1.5], [2, 2.5]]),
        ([{"op": "normalize", "mean": 1, "std": 2}], [[-0.5, 0], [0.5, 1]]),
        ([{"op": "normalize", "mean": [0, 1], "std": [1, 2]}, {"op": "flatten"}], [0, 0, 2, 1]),
        ([{"op": "flatten"}, {"op": "append", "values": [7, 8]}], [0, 1, 2, 3, 7, 8]),
    ],
)
def test_steps_are_applied_in_order(steps: list[dict[str, Any]], expected: Any):
    field = {"name": "image", "kind": "image", "height": 2, "width": 2, "range": [0, 3], "steps": steps}
    assert np.array_equal(prepare([field], {"image": [[0, 1], [2, 3]]}, np.float32), expected)


@pytest.mark.parametrize("raw", [{}, {"verb": "fly", "person": "yo"}, {"verb": ["hablar"], "person": "yo"}])
def test_a_raw_value_that_is_no_option_is_an_input_error(raw: dict[str, Any]):
    with pytest.raises(zoo.InputError, match="is not a value of the field 'verb'"):
        prepare(manifest_of("tense-mlp")["preprocessing"], raw, np.float32)


@pytest.mark.parametrize("image", [[[0, 1]], "abc", [[0, "x"], [1, 2]], None])
def test_a_raw_image_of_another_shape_is_an_input_error(image: Any):
    field = {"name": "image", "kind": "image", "height": 2, "width": 2, "range": [0, 3], "steps": []}
    with pytest.raises(zoo.InputError, match="is not a value of the field 'image'"):
        prepare([field], {"image": image}, np.float32)


# --- a manifest can come from anywhere

IMAGE = {"name": "image", "kind": "image", "height": 2, "width": 2, "range": [0, 1], "steps": [{"op": "flatten"}]}
CHOICE = {"name": "verb", "kind": "choice", "options": ["a", "b"], "steps": [{"op": "one_hot"}]}
SIDE = {"name": "x", "dtype": "float32", "axes": ["batch", "pixel"], "shape": [None, 4]}
INVALID: dict[str, tuple[dict[str, Any], str]] = {
    "no input": ({"input": None}, "'input' is missing or not of type dict"),
    "no name": ({"input": {**SIDE, "name": 5}}, "'input' has no name"),
    "an unknown dtype": ({"input": {**SIDE, "dtype": "object"}}, "'input' has no name, or an unknown dtype"),
    "a dtype of another type": ({"output": {**SIDE, "dtype": ["float32"]}}, "'output' has no name"),
    "axes with one name": ({"input": {**SIDE, "axes": ["batch", "batch"]}}, "no distinct names of axes"),
    "axes that are not text": ({"input": {**SIDE, "axes": ["batch", {}]}}, "no distinct names of axes"),
    "a fixed batch": ({"input": {**SIDE, "shape": [1, 4]}}, "with null for the batch"),
    "a negative size": ({"input": {**SIDE, "shape": [None, -4]}}, "no size for each axis"),
    "an enormous size": ({"input": {**SIDE, "shape": [None, 10**30]}}, "no size for each axis"),
    "more sizes than axes": ({"output": {**SIDE, "shape": [None, 2, 2]}}, "no size for each axis"),
    "a field that is a text": ({"preprocessing": ["image"]}, "a field without a name, or of an unknown kind"),
    "an unknown kind": ({"preprocessing": [{**IMAGE, "kind": "sound"}]}, "a field without a name, or of an unknown"),
    "a kind of another type": ({"preprocessing": [{**IMAGE, "kind": []}]}, "a field without a name, or of an unknown"),
    "a height of 0": ({"preprocessing": [{**IMAGE, "height": 0}]}, "an invalid field 'image'"),
    "a range of one value": ({"preprocessing": [{**IMAGE, "range": [1, 1]}]}, "an invalid field 'image'"),
    "options twice": ({"preprocessing": [{**CHOICE, "options": ["a", "a"]}]}, "an invalid field 'verb'"),
    "no options": ({"preprocessing": [{**CHOICE, "options": []}]}, "an invalid field 'verb'"),
    "an unknown step": ({"preprocessing": [{**IMAGE, "steps": [{"op": "eval"}]}]}, "an unknown or invalid step"),
    "no steps": ({"preprocessing": [{**IMAGE, "steps": None}]}, "an unknown or invalid step"),
    "a division by 0": (
        {"preprocessing": [{**IMAGE, "steps": [{"op": "normalize", "mean": 0, "std": [1, 0]}]}]},
        "an unknown or invalid step",
    ),
    "a mean of another length": (
        {"preprocessing": [{**IMAGE, "steps": [{"op": "normalize", "mean": [0, 0, 0], "std": 1}]}]},
        "does not give the declared shape",
    ),
    "one_hot of an image": ({"preprocessing": [{**IMAGE, "steps": [{"op": "one_hot"}]}]}, "'one_hot' without options"),
    "another shape": ({"preprocessing": [{**IMAGE, "height": 3}]}, "does not give the declared shape of the input"),
    "fields that cannot be joined": ({"preprocessing": [IMAGE, {**CHOICE, "steps": []}]}, "does not give the declared"),
    "an answer along no axis": (
        {"postprocessing": [{"op": "softmax", "axis": "batch"}]},
        "which is no axis of the output",
    ),
    "an answer of another kind": ({"postprocessing": [{"op": "exec"}]}, "an unknown or invalid step"),
    "an answer of another size": ({"postprocessing": [{"op": "reshape", "shape": [5]}]}, "another number of elements"),
    "an answer without end": (
        {"postprocessing": [{"op": "generate", "start": 0, "count": 10**9}]},
        "'generate' beyond the positions of the input",
    ),
    "too few labels": ({"labels": ["a"]}, "'labels' does not name each position"),
    "labels that are numbers": ({"labels": [1, 2, 3, 4]}, "'labels' does not name each position"),
    "an onnx that is no text": ({"onnx": {"opset": 17}}, "'onnx' holds a value that is not text"),
}


@pytest.mark.parametrize("name", INVALID)
def test_an_invalid_interface_is_refused(name: str, tiny_entry: Path):
    changes, message = INVALID[name]
    path = tiny_entry / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest |= {"input": SIDE, "output": SIDE}
    path.write_text(json.dumps(manifest))
    assert zoo.load(f"file:{tiny_entry}").state_dict()
    path.write_text(json.dumps(manifest | changes))
    with pytest.raises(zoo.EntryError, match=rf"manifest\.json is not a manifest: .*{message}"):
        zoo.load(f"file:{tiny_entry}")


def test_a_model_that_declares_nothing_is_published_with_the_shapes_of_its_golden_values(tiny_entry: Path):
    manifest = open_entry(tiny_entry).manifest
    side = {"dtype": "float32", "axes": ["batch", "axis_1"], "shape": [None, 4]}
    assert manifest["input"] == {"name": "x", **side}
    assert manifest["output"] == {"name": "output", **side}
    assert manifest["preprocessing"] == manifest["postprocessing"] == manifest["labels"] == []
