"""An exported model computes the same in onnxruntime, for any batch size, or is refused with its reason."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from computing import IDS, IMAGE, OPERATIONS, ROWS, Computes, attention, draw

from statezoo import zoo
from statezoo.checkpoints import load_file
from statezoo.core import (
    BatchNorm1d,
    Dropout,
    Embedding,
    Linear,
    Module,
    MultiHeadAttention,
    Parameter,
    ReLU,
    Sequential,
    Tensor,
    TransformerBlock,
    no_grad,
)
from statezoo.core import functional as F
from statezoo.zoo.entry import GOLDEN
from statezoo.zoo.loading import find

pytestmark = pytest.mark.onnx


def run(path: Path, *inputs: np.ndarray) -> Any:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {given.name: array for given, array in zip(session.get_inputs(), inputs, strict=True)})


def exported(model: Module, *inputs: np.ndarray, path: Path) -> Any:
    """Export a model, compare it on five other batch sizes, and return the ONNX model."""
    import onnx

    zoo.export(model, path, inputs)
    model.eval()
    for count in (1, 2, 5, 17):
        batch = [array[np.arange(count) % len(array)] for array in inputs]
        with no_grad():
            expected = model(*map(Tensor, batch))
        for found, wanted in zip(
            run(path, *batch), expected if isinstance(expected, tuple) else (expected,), strict=True
        ):
            assert found.dtype == wanted.dtype
            np.testing.assert_allclose(
                found, wanted.data, rtol=1e-5, atol=1e-5 * np.nanmax(np.abs(wanted.data), initial=0)
            )
    return onnx.load(path)


@pytest.mark.parametrize("name", zoo.list_models())
def test_every_entry_gives_its_golden_output_in_onnxruntime(name: str, tmp_path: Path):
    golden = load_file(find(name) / GOLDEN)
    path = zoo.export(name, tmp_path / "model.onnx")
    for rows in (slice(None), slice(0, 1), slice(0, 3)):
        (found,), expected = run(path, golden["input"][rows]), golden["output"][rows]
        assert found.dtype == expected.dtype
        assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("name", zoo.list_models())
def test_an_entry_is_exported_to_the_bytes_that_were_published(name: str, tmp_path: Path):
    path = zoo.export(name, tmp_path / "model.onnx")
    assert path.read_bytes() == (find(name) / "model.onnx").read_bytes()


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_compute_the_same(name: str, tmp_path: Path):
    exported(Computes(OPERATIONS[name]), IMAGE, path=tmp_path / "model.onnx")


def test_a_change_in_place_computes_the_same(tmp_path: Path):
    def in_place(x: Tensor) -> Tensor:
        y = x * 3
        y += x
        return y.relu_() * 2

    exported(Computes(in_place), IMAGE, path=tmp_path / "model.onnx")


@pytest.mark.parametrize("is_causal", [False, True])
def test_a_transformer_computes_the_same(is_causal: bool, tmp_path: Path):
    block = TransformerBlock(8, 2, dropout=0.1)
    model = Computes(lambda ids: block(table(ids), is_causal=is_causal), block=block, table=(table := Embedding(7, 8)))
    found = exported(model, IDS, path=tmp_path / "model.onnx")
    assert {one.name for one in found.graph.initializer} >= set(model.state_dict())


@pytest.mark.parametrize("kind", ["bool", "float"])
def test_an_attention_mask_is_an_input_and_a_row_that_may_attend_to_nothing_gives_0(kind: str, tmp_path: Path):
    attention = MultiHeadAttention(8, 2)
    mask = np.random.default_rng(0).random((4, 1, 6, 6)) > 0.4
    mask[0, 0, 2] = False
    given = mask if kind == "bool" else np.where(mask, 0, -np.inf).astype(np.float32)
    model = Computes(lambda x, mask: attention(x, attn_mask=mask), attention=attention)
    exported(model, draw(4, 6, 8), given, path=tmp_path / "model.onnx")


def test_attention_of_separate_queries_computes_the_same(tmp_path: Path):
    model = Computes(lambda q, k: F.scaled_dot_product_attention(q, k, k * 2))
    exported(model, draw(4, 2, 5, 8), draw(4, 2, 3, 8), path=tmp_path / "model.onnx")


def test_batch_norm_and_dropout_are_those_of_eval_mode_and_the_model_stays_as_it_was(tmp_path: Path):
    model = Sequential(Linear(6, 4), BatchNorm1d(4), ReLU(), Dropout(0.5), Linear(4, 2))
    model(Tensor(ROWS))  # moves the running statistics
    model[1].eval()
    before = {name: array.copy() for name, array in model.state_dict().items()}
    zoo.export(model, tmp_path / "model.onnx", ROWS)
    assert [module.training for module in model] == [True, False, True, True, True]
    assert all(np.array_equal(array, before[name]) for name, array in model.state_dict().items())
    exported(model, ROWS, path=tmp_path / "model.onnx")


def test_a_tensor_may_have_a_name_that_nodes_use_too(tmp_path: Path):
    names = ("relu", "scores", "weights", "linear", "constant", "add")
    model = Computes(lambda x: x, **{name: Parameter(draw(6)) for name in names})
    model.function = lambda x: sum((getattr(model, name) * x.relu() for name in names), x + 1)
    found = exported(model, ROWS, path=tmp_path / "model.onnx")
    assert {one.name for one in found.graph.initializer} >= set(names)


def test_shared_memory_is_stored_once(tmp_path: Path):
    one, other, part = Linear(6, 6), Linear(6, 6, bias=False), Linear(6, 2, bias=False)
    other.weight = Parameter(one.weight.T)
    part.weight = Parameter(one.weight[2:4])
    model = Computes(lambda x: part(other(one(one(x)))), one=one, same=one, other=other, part=part)
    found = exported(model, ROWS, path=tmp_path / "model.onnx")
    assert [name.name for name in found.graph.initializer if "weight" in name.name] == ["one.weight"]


def test_the_file_says_its_opset_its_inputs_and_a_batch_axis_without_a_size(tmp_path: Path):
    model = Computes(lambda x: x.reshape(-1, 30), scale=Linear(1, 1))
    found = exported(model, IMAGE, path=tmp_path / "model.onnx")
    assert [(opset.domain, opset.version) for opset in found.opset_import] == [("", 17)]
    assert (found.ir_version, found.producer_name, found.producer_version, found.doc_string) == (8, "statezoo", "", "")
    shapes = [
        [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in (*found.graph.input, *found.graph.output)
    ]
    assert shapes == [["batch", 6, 5], ["batch", 30]]


def test_the_bytes_are_the_same_in_another_process(tmp_path: Path):
    program = "import sys; from statezoo import zoo; zoo.export('transformer-block.sort', sys.argv[1])"
    contents = []
    for seed in "12":
        path = tmp_path / f"{seed}.onnx"
        subprocess.run([sys.executable, "-c", program, str(path)], check=True, env={"PYTHONHASHSEED": seed})
        contents.append(path.read_bytes())
    assert contents[0] == contents[1]


REFUSED: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "a loss": (lambda x: F.mse_loss(x, x * 0), "The operation 'mse_loss' has no counterpart in ONNX here"),
    "NumPy on the values": (lambda x: x * float(x.data.max()), "takes out of its tensors"),
    "a view of the values": (lambda x: x * Tensor(x.data[:, ::2][:, :1]), "takes out of its tensors"),
    "another path for another batch": (lambda x: x.relu() if len(x) == 4 else x.tanh(), "computes something else"),
    "a slice that follows the batch": (lambda x: x[:, : len(x) - 1], "which follows the batch: for another one"),
    "an index of booleans": (lambda x: x[:, np.array([True] * 3 + [False] * 3)], "An index of booleans"),
    "causal attention over the batch": (
        lambda x: attention(x.transpose(0, 1), is_causal=True),
        "Causal attention between the examples of a batch",
    ),
    "no tensor": (lambda x: {"out": x}, "returns dict"),
    "statistics of the batch": (
        lambda x: F.batch_norm(x, None, None, training=True),
        "batch_norm with the statistics of the batch cannot be exported",
    ),
    "random numbers": (lambda x: F.dropout(x, 0.5, training=True), "The operation 'dropout' has no counterpart"),
    "an index of several arrays": (lambda x: x[:, np.array([0, 1]), np.array([0, 1])], "An index of several arrays"),
    "bits of integers": (lambda x: (x.long() & 3).float(), "bitwise_and of integers"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_exported_is_refused_and_leaves_no_file(name: str, tmp_path: Path):
    function, message = REFUSED[name]
    (tmp_path / "model.onnx").write_bytes(b"before")
    with pytest.raises(zoo.ExportError, match=message):
        zoo.export(Computes(function, layer=Linear(1, 1)), tmp_path / "model.onnx", IMAGE)
    assert (tmp_path / "model.onnx").read_bytes() == b"before"


def test_a_model_needs_an_example_and_inputs_need_a_batch_axis(tmp_path: Path):
    model = Linear(6, 2)
    with pytest.raises(zoo.ExportError, match="needs an example of its input"):
        zoo.export(model, tmp_path / "model.onnx")
    with pytest.raises(zoo.ExportError, match="must have one batch axis in front"):
        zoo.export(model, tmp_path / "model.onnx", (ROWS, ROWS[:2]))


def test_a_file_that_computes_something_else_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from statezoo.zoo.publishing.onnx import operations

    monkeypatch.setitem(operations.TABLE, "relu", operations.TABLE["tanh"])
    with pytest.raises(zoo.ExportError, match=r"Output 0 of the exported model differs by \S+; its largest value is"):
        zoo.export(Sequential(Linear(6, 4), ReLU()), tmp_path / "model.onnx", ROWS)
    assert not (tmp_path / "model.onnx").exists()


def test_a_missing_package_is_an_error_with_the_install_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(zoo.MissingExtraError, match=r'pip install "statezoo\[onnx\]"'):
        zoo.export(Linear(6, 2), tmp_path / "model.onnx", ROWS)
