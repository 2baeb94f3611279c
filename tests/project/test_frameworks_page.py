"""docs/frameworks.md: the code of each section runs, and its adapter works in everything that takes a model."""

import os
import re
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from statezoo.checkpoints import History, MismatchError, diff, fingerprint, load_file, load_model, save_file, save_model
from statezoo.checkpoints.models import adapters
from statezoo.checkpoints.testing import assert_roundtrip

os.environ.setdefault("KERAS_BACKEND", "torch")
PAGE = (Path(__file__).parents[2] / "docs" / "frameworks.md").read_text(encoding="utf-8")
SECTIONS = dict(zip(*[iter(re.split(r"^## (.*)\n", PAGE, flags=re.MULTILINE)[1:])] * 2, strict=True))
MARKS = {"PyTorch": "torch", "Keras": "keras", "JAX": "jax", "MLX": "mlx"}


def run(section: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    for block in re.findall(r"^```python\n(.*?)^```", SECTIONS[section], re.MULTILINE | re.DOTALL):
        exec(compile(block, "docs/frameworks.md", "exec"), names)
    return names


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize(
    "section", [pytest.param(name, marks=[getattr(pytest.mark, mark)]) for name, mark in MARKS.items()]
)
def test_the_code_for_a_framework_runs(section: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    run(section)


def test_the_code_for_objects_with_a_state_dict_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert run("A state dict, and objects that have one")["state"]["count"] == 0


class Value:
    """A number of micrograd."""

    def __init__(self, data: float) -> None:
        self.data = data


class Neuron:
    """A row of weights and a bias."""

    def __init__(self, count: int) -> None:
        self.w = [Value(float(place)) for place in range(count)]
        self.b = Value(0.5)


class Layer:
    """A few neurons."""

    def __init__(self, inputs: int, outputs: int) -> None:
        self.neurons = [Neuron(inputs) for _ in range(outputs)]


class MLP:
    """A model with the attributes of micrograd's."""

    def __init__(self, inputs: int, sizes: list[int]) -> None:
        self.layers = [Layer(*pair) for pair in zip([inputs, *sizes], sizes, strict=False)]


@pytest.fixture
def micrograd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names in the code of the page, with a stand-in for micrograd."""
    package, module = types.ModuleType("micrograd"), types.ModuleType("micrograd.nn")
    vars(module)["MLP"], vars(package)["nn"] = MLP, module
    monkeypatch.setitem(sys.modules, "micrograd", package)
    monkeypatch.setitem(sys.modules, "micrograd.nn", module)
    monkeypatch.setattr(adapters, "_registered", {})
    monkeypatch.chdir(tmp_path)
    return run("Your own framework")


def test_the_adapter_for_micrograd_works_in_everything_that_takes_a_model(micrograd: dict[str, Any], tmp_path: Path):
    model, other = micrograd["model"], MLP(3, [4, 1])
    other.layers[0].neurons[1].w[2].data = -7.0
    state = load_file("micrograd.safetensors")
    assert {name: array.shape for name, array in state.items()} == {
        "layers.0.weight": (4, 3), "layers.0.bias": (4,), "layers.1.weight": (1, 4), "layers.1.bias": (1,)
    }  # fmt: skip
    assert [change.name for change in diff(model, other).tensors] == ["layers.0.weight"]
    save_model(other, "other.h5")
    value = model.layers[0].neurons[1].w[2]
    assert load_model(model, "other.h5") == ([], [])
    assert model.layers[0].neurons[1].w[2] is value
    assert value.data == -7.0
    assert isinstance(value.data, float)
    assert fingerprint(model) == fingerprint("other.h5")
    with History(tmp_path / "run") as history:
        history.save(1, model)
    assert_roundtrip(model)
    save_file(state | {"layers.1.bias": np.zeros(2)}, "wrong.safetensors")
    with pytest.raises(MismatchError, match=r"layers\.1\.bias  is \(2,\) in the file, \(1,\) in the model"):
        load_model(model, "wrong.safetensors")
    assert value.data == -7.0


def test_the_adapter_is_as_short_as_the_page_says():
    (block,) = re.findall(r"^class Micrograd.*?\n\n(?=register)", PAGE, re.MULTILINE | re.DOTALL)
    assert len([line for line in block.splitlines() if line]) <= 20
