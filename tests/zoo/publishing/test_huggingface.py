"""An entry as a folder for the Hugging Face hub: everything in it is used without this library."""

import json
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from computing import IDS, IMAGE, OPERATIONS, Computes, draw

from statezoo import zoo
from statezoo.checkpoints import fingerprint, load_file
from statezoo.core import (
    Embedding,
    Linear,
    Module,
    Tensor,
    TransformerBlock,
    no_grad,
)
from statezoo.zoo.entry import GOLDEN, open_entry
from statezoo.zoo.loading import find
from statezoo.zoo.publishing.huggingface.code import code_of
from statezoo.zoo.publishing.huggingface.exporter import _MODELING
from statezoo.zoo.publishing.onnx.tracing import trace_twice


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the folder of each entry."""
    parent = tmp_path_factory.mktemp("hub")
    return {name: zoo.export(name, parent / name, to="huggingface") for name in zoo.list_models()}


@pytest.mark.torch
@pytest.mark.parametrize("name", zoo.list_models())
def test_the_code_gives_the_golden_output_in_plain_pytorch(folders: dict[str, Path], name: str):
    import torch

    forward = runpy.run_path(str(folders[name] / "modeling.py"))["forward"]
    golden = load_file(find(name) / GOLDEN)
    for rows in (slice(None), slice(0, 1), slice(0, 3)):
        with torch.no_grad():
            found = forward(torch.tensor(golden["input"][rows])).numpy()
        expected = golden["output"][rows]
        assert found.dtype == expected.dtype
        assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("name", zoo.list_models())
def test_the_code_is_short_and_needs_nothing_but_torch_and_safetensors(folders: dict[str, Path], name: str):
    lines = (folders[name] / "modeling.py").read_text(encoding="utf-8").splitlines()
    imported = {line.split()[1].partition(".")[0] for line in lines if line.startswith(("import ", "from "))}
    assert imported == {"pathlib", "torch", "safetensors"}
    most = (
        45 if name.endswith(".conjugator") else 25
    )  # a line an operation: two blocks, or a network in both directions
    assert sum(bool(line) for line in lines) <= most


@pytest.mark.parametrize("name", zoo.list_models())
def test_the_weights_have_each_name_with_its_own_bytes(folders: dict[str, Path], name: str):
    import safetensors

    state = zoo.load(name).state_dict()
    with safetensors.safe_open(folders[name] / "model.safetensors", "numpy") as file:
        assert set(file.keys()) == set(state)
        assert file.metadata()["format"] == "pt"
        for key, array in state.items():
            assert np.array_equal(file.get_tensor(key), array)
    assert fingerprint(folders[name] / "model.safetensors") == open_entry(find(name)).manifest["fingerprint"]


@pytest.mark.parametrize("name", zoo.list_models())
def test_the_card_has_a_valid_header_and_only_files_of_the_folder(folders: dict[str, Path], name: str):
    text = (folders[name] / "README.md").read_text(encoding="utf-8")
    _, header, body = text.split("---\n", 2)
    about = yaml.safe_load(header)
    assert about["license"] == "apache-2.0"
    assert about["model-index"][0]["name"] == name
    pictures = {line.partition("](")[2].rstrip(")") for line in body.splitlines() if line.startswith("![")}
    listed = {line.split("`")[1] for line in body.splitlines() if line.startswith("| `") and "`" in line[3:]}
    there = {path.name for path in folders[name].iterdir()}
    assert pictures <= there
    assert there - {"README.md"} <= listed
    assert "model.h5" not in text
    assert "model.onnx" not in text


@pytest.mark.huggingface_hub
@pytest.mark.parametrize("name", zoo.list_models())
def test_the_hub_library_reads_the_card(folders: dict[str, Path], name: str):
    from huggingface_hub import ModelCard

    data: Any = ModelCard.load(folders[name] / "README.md").data
    assert data.pipeline_tag == open_entry(find(name)).manifest["task"]
    assert {result.metric_type for result in data.eval_results} == set(open_entry(find(name)).manifest["metrics"])


@pytest.mark.parametrize("name", zoo.list_models())
def test_labels_and_preprocessing_are_those_of_the_entry(folders: dict[str, Path], name: str):
    manifest = open_entry(find(name)).manifest
    config = json.loads((folders[name] / "config.json").read_text(encoding="utf-8"))
    assert list(config.get("id2label", {}).values()) == manifest["labels"]
    assert config["model_type"] == manifest["architecture"]
    assert manifest["config"].items() <= config.items()
    processing = json.loads((folders[name] / "preprocessor_config.json").read_text(encoding="utf-8"))
    assert processing["preprocessing"] == manifest["preprocessing"]


def test_the_same_entry_gives_the_same_bytes(folders: dict[str, Path], tmp_path: Path):
    again = zoo.export("tense-mlp", tmp_path / "again", to="huggingface")
    contents = [{path.name: path.read_bytes() for path in folder.iterdir()} for folder in (again, folders["tense-mlp"])]
    assert contents[0] == contents[1]


def test_an_entry_of_ones_own_is_exported_by_its_folder(tiny_entry: Path, tmp_path: Path):
    out = zoo.export(f"file:{tiny_entry}", tmp_path / "out", to="huggingface")
    assert fingerprint(out / "model.safetensors") == open_entry(tiny_entry).manifest["fingerprint"]
    assert zoo.export(open_entry(tiny_entry), tmp_path / "other", to="huggingface").is_dir()


def test_a_folder_with_files_is_never_replaced(tmp_path: Path):
    (tmp_path / "out").mkdir()
    zoo.export("tense-mlp", tmp_path / "out", to="huggingface")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    with pytest.raises(zoo.ExportError, match=r"out exists and is not replaced\. Remove it, or choose another folder"):
        zoo.export("tense-mlp", tmp_path / "out", to="huggingface")
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    (tmp_path / "file").write_text("")
    with pytest.raises(zoo.ExportError, match="file exists and is not replaced"):
        zoo.export("tense-mlp", tmp_path / "file", to="huggingface")


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_an_export_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException):
    from statezoo.zoo.publishing.huggingface import exporter

    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(exporter, "_card", fail)
    expected = zoo.ExportError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        zoo.export("tense-mlp", tmp_path / "out", to="huggingface")
    assert not list(tmp_path.iterdir())


def test_a_damaged_entry_is_an_error(tiny_entry: Path, tmp_path: Path):
    weights = tiny_entry / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(zoo.EntryError, match="SHA-256 differs"):
        zoo.export(f"file:{tiny_entry}", tmp_path / "out", to="huggingface")
    assert not (tmp_path / "out").exists()


def test_a_model_that_is_no_entry_and_an_unknown_kind_are_errors_that_say_what_to_do(tmp_path: Path):
    with pytest.raises(zoo.ExportError, match=r"is made from an entry.*Publish this Linear first"):
        zoo.export(Linear(2, 1), tmp_path / "out", to="huggingface")
    with pytest.raises(zoo.ExportError, match='to="onnx" or to="huggingface", not \'tflite\''):
        zoo.export("tense-mlp", tmp_path / "out", to="tflite")  # type: ignore[arg-type]


# --- the code for models of all kinds


def run(model: Module, *inputs: np.ndarray, names: tuple[str, ...] = ("x", "y", "z")) -> list[np.ndarray]:
    """Return the outputs of the code of a model, after comparing them with ours for other batches too."""
    import torch

    lines = code_of(model, trace_twice(model, inputs), names[: len(inputs)])
    scope: dict[str, Any] = {"w": {name: torch.tensor(array) for name, array in model.state_dict().items()}}
    header = [line for line in _MODELING.splitlines() if line.startswith("import torch")]
    exec("\n".join([*header, *lines]), scope)
    model.eval()
    outputs = []
    for count in (1, 2, 5, len(inputs[0])):
        batch = [array[np.arange(count) % len(array)] for array in inputs]
        with no_grad(), torch.no_grad():
            expected, found = model(*map(Tensor, batch)), scope["forward"](*map(torch.tensor, batch))
        outputs = [one.numpy() for one in (found if isinstance(found, tuple) else (found,))]
        for one, wanted in zip(outputs, expected if isinstance(expected, tuple) else (expected,), strict=True):
            largest = np.nanmax(np.abs(wanted.data), initial=0)
            np.testing.assert_allclose(one, wanted.data, rtol=1e-5, atol=1e-5 * largest)
    return outputs


@pytest.mark.torch
@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_compute_the_same_in_pytorch(name: str):
    run(Computes(OPERATIONS[name]), IMAGE)


@pytest.mark.torch
@pytest.mark.parametrize("is_causal", [False, True])
def test_a_transformer_computes_the_same_in_pytorch(is_causal: bool):
    block = TransformerBlock(8, 2, dropout=0.1)
    model = Computes(lambda ids: block(table(ids), is_causal=is_causal), block=block, table=(table := Embedding(7, 8)))
    run(model, IDS)


@pytest.mark.torch
def test_the_inputs_may_have_the_names_that_the_code_uses_itself():
    layer = Linear(6, 3)
    model = Computes(lambda x, y: layer(x) * y.reshape(len(y), 1), layer=layer)
    run(model, draw(4, 6), draw(4), names=("w", "batch"))


def test_an_operation_without_a_counterpart_is_named():
    from statezoo.core import functional as F

    model = Computes(lambda x: F.mse_loss(x, x * 0))
    with pytest.raises(zoo.ExportError, match="The operation 'mse_loss' has no counterpart in the PyTorch code"):
        code_of(model, trace_twice(model, [IMAGE]), ["x"])


def test_a_size_that_is_not_the_batch_but_follows_it_is_refused_where_no_operation_can_tell_it():
    model = Computes(lambda x: x.reshape(-1, 1, 5)[:, :, :1].expand(-1, 2, 5) * 1 + x.reshape(-1, 1, 5))
    with pytest.raises(zoo.ExportError, match="has a size that follows the batch, but is not it"):
        code_of(model, trace_twice(model, [IMAGE]), ["x"])
