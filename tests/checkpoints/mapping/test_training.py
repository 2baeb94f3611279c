"""A training goes on in a model with other names and layouts: what the optimizer keeps follows the parameters."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from statezoo.checkpoints import MappingError, MismatchError, load_training, save_training
from statezoo.checkpoints.mapping import Concatenate, Ignore, Mapping, Rewrite, Split, Transpose, reverse
from statezoo.checkpoints.mapping.moments import mapped_optimizer
from statezoo.core import Linear, Module, Parameter, Tensor, cat, optim

WIDTH = 4


class Fused(Module):
    """q, k and v in one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = Linear(WIDTH, 3 * WIDTH)
        self.head = Linear(3 * WIDTH, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.qkv(x))


class Apart(Module):
    """The same function with q, k and v in (in, out) weights of their own."""

    def __init__(self) -> None:
        super().__init__()
        for name in "qkv":
            self.register_parameter(f"{name}_kernel", Parameter(np.zeros((WIDTH, WIDTH), np.float32)))
            self.register_parameter(f"{name}_bias", Parameter(np.zeros(WIDTH, np.float32)))
        self.out = Linear(3 * WIDTH, 2)

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = (cat([self.get_parameter(f"{n}_{what}") for n in "qkv"], -1) for what in ("kernel", "bias"))
        return self.out(x @ weight + bias)


TO_APART: Mapping = [
    Transpose(r"qkv\.weight"),
    Split(r"qkv\.weight", ("q_kernel", "k_kernel", "v_kernel"), axis=1),
    Split(r"qkv\.bias", ("q_bias", "k_bias", "v_bias")),
    Rewrite(r"head\.(.*)", r"out.\1"),
]
OPTIMIZERS: dict[str, Callable[[Iterator[Any]], Any]] = {
    "SGD": lambda parameters: optim.SGD(parameters, lr=0.1, momentum=0.9),
    "AdamW": lambda parameters: optim.AdamW(parameters, lr=0.01, weight_decay=0.1),
}


def train(model: Module, optimizer: optim.Optimizer, steps: int) -> None:
    x = np.random.default_rng(1).standard_normal((8, WIDTH)).astype(np.float32)
    for _ in range(steps):
        optimizer.zero_grad()
        (model(Tensor(x)) ** 2).mean().backward()
        optimizer.step()


def output(model: Module) -> np.ndarray:
    return model(Tensor(np.eye(WIDTH, dtype=np.float32))).data


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("direction", ["split", "put together"])
def test_a_training_continues_in_a_model_of_another_layout(tmp_path: Path, kind: str, direction: str):
    first, second, mapping = (
        (Fused(), Apart(), TO_APART) if direction == "split" else (Apart(), Fused(), reverse(TO_APART))
    )
    if direction != "split":
        for parameter in first.parameters():
            parameter.data[...] = 0.3 * np.random.default_rng(2).standard_normal(parameter.shape)
    optimizers = [OPTIMIZERS[kind](model.parameters()) for model in (first, second)]
    train(first, optimizers[0], 3)
    save_training(first, optimizers[0], tmp_path / "a.safetensors", progress={"step": 3})
    assert load_training(second, optimizers[1], tmp_path / "a.safetensors", mapping=mapping) == {"step": 3}
    np.testing.assert_allclose(output(second), output(first), rtol=1e-5, atol=1e-6)
    for model, optimizer in zip((first, second), optimizers, strict=True):
        train(model, optimizer, 3)
    np.testing.assert_allclose(output(second), output(first), rtol=1e-4, atol=1e-5)


def test_an_ignored_parameter_is_ignored_in_the_optimizer_too(tmp_path: Path):
    model, head = Fused(), Linear(3 * WIDTH, 2)
    optimizer, other = optim.Adam(model.parameters()), optim.Adam(head.parameters())
    train(model, optimizer, 1)
    save_training(model, optimizer, tmp_path / "a.safetensors")
    rules: Mapping = [Ignore(r"qkv\..*", "another model"), Rewrite(r"head\.(.*)", r"\1")]
    load_training(head, other, tmp_path / "a.safetensors", mapping=rules)
    np.testing.assert_array_equal(
        other.state_dict()["state"][0]["exp_avg"], optimizer.state_dict()["state"][2]["exp_avg"]
    )


def test_a_mapping_that_does_not_fit_the_model_changes_nothing(tmp_path: Path):
    model, other = Fused(), Apart()
    optimizers = [optim.Adam(model.parameters()), optim.Adam(other.parameters())]
    train(model, optimizers[0], 1)
    save_training(model, optimizers[0], tmp_path / "a.safetensors")
    before = output(other).copy()
    with pytest.raises(MismatchError, match=r"optimizer\.param_groups\[0\] trains qkv\.bias in the file, not here"):
        load_training(other, optimizers[1], tmp_path / "a.safetensors", mapping=[Rewrite(r"head\.(.*)", r"out.\1")])
    with pytest.raises(MappingError, match="matches no name"):
        load_training(other, optimizers[1], tmp_path / "a.safetensors", mapping=[Transpose("nothing")])
    np.testing.assert_array_equal(output(other), before)
    assert optimizers[1].state_dict()["state"] == {}


W = np.arange(4.0)
TOGETHER = [Concatenate(("a", "b"), "ab")]


@pytest.mark.parametrize(
    ("kept", "groups", "message"),
    [
        ({"a": {"m": W}}, [["a", "b"]], "the optimizer has m for some parts of 'ab', but not for 'b'."),
        ({"a": {"n": 1}, "b": {"n": 2}}, [["a", "b"]], "the optimizer's n differs between the parts that become 'ab'"),
        ({"a": {"m": W[:2]}, "b": {"m": W[:2]}}, [["a", "b"]], "has the shape (2,), not that of the parameter"),
        ({}, [["a"], ["b"]], "the parts that become 'ab' are in groups 0 and 1 of the optimizer."),
    ],
)
def test_a_state_of_an_optimizer_that_cannot_follow_is_an_error(kept: Any, groups: Any, message: str):
    with pytest.raises(MappingError, match=re.escape(message)):
        mapped_optimizer(kept, groups, TOGETHER, {"a": W, "b": W}, "a file")


def test_numbers_are_copied_to_every_part():
    kept = {"ab": {"step": np.array(3), "m": W}}
    found, groups = mapped_optimizer(kept, [["x", "ab"]], [Split("ab", ("a", "b"))], {"ab": W, "x": W}, "a file")
    assert groups == [["x", "a", "b"]]
    assert {name: int(values["step"]) for name, values in found.items()} == {"a": 3, "b": 3}
    assert not np.shares_memory(found["a"]["step"], found["b"]["step"])
    np.testing.assert_array_equal(found["b"]["m"], W[2:])


@pytest.mark.torch
def test_a_training_of_torch_modules_continues_in_another_layout(tmp_path: Path):
    import torch

    fused = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Linear(6, 2))
    first: Any = torch.nn.ModuleDict({"qkv": fused[0], "out": fused[1]})
    second: Any = torch.nn.ModuleDict({name: torch.nn.Linear(4, 2) for name in "qkv"} | {"out": torch.nn.Linear(6, 2)})
    optimizers: list[Any] = [torch.optim.AdamW(model.parameters()) for model in (first, second)]
    functions = [
        lambda x: fused(x),
        lambda x: second["out"](torch.cat([second[name](x) for name in "qkv"], -1)),
    ]
    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))

    def train(number: int) -> Any:
        for _ in range(3):
            optimizers[number].zero_grad()
            (functions[number](x) ** 2).mean().backward()
            optimizers[number].step()
        return functions[number](x).detach().numpy()

    train(0)
    save_training(first, optimizers[0], tmp_path / "a.safetensors")
    rule = Split(r"qkv\.(.*)", (r"q.\1", r"k.\1", r"v.\1"))
    load_training(second, optimizers[1], tmp_path / "a.safetensors", mapping=rule)
    np.testing.assert_allclose(train(1), train(0), rtol=1e-5, atol=1e-6)
