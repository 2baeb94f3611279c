"""The doctor on invalid values, and the lines that fix them: NaN in the model or batch, classes out of range."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from statezoo.core import (
    BatchNorm1d,
    Linear,
    LogSoftmax,
    Module,
    Parameter,
    ReLU,
    ReLU6,
    Sequential,
    Softmax,
    Tensor,
    doctor,
)
from statezoo.core import functional as F

RANDOM = np.random.default_rng(11)
X = RANDOM.standard_normal((32, 8)).astype(np.float32)
BATCH = (X, np.arange(32) % 4)


@pytest.mark.parametrize(("variable", "part"), [("x", "input"), ("y", "target")])
def test_a_batch_with_nan_is_named_as_the_cause_and_the_fix_fixes_it(variable: str, part: str):
    batch = {"x": X.copy(), "y": X[:, :4].copy()}
    batch[variable][3, 2:4] = np.nan, np.inf
    (finding,) = doctor(Linear(8, 4), None, (batch["x"], batch["y"]), F.mse_loss).findings
    assert (finding.kind, finding.name) == ("loss", "the batch")
    size = batch[variable].size
    assert finding.seen == f"it is nan, and so are 2 of the {size} elements of the {part} in the batch"
    assert finding.fix == f"{variable} = np.nan_to_num({variable}, posinf=0, neginf=0); or leave these examples out"
    exec(finding.fix.partition(";")[0], {"np": np}, batch)
    assert doctor(Linear(8, 4), None, (batch["x"], batch["y"]), F.mse_loss)


def test_nan_from_a_constant_in_the_loss_is_reported_without_a_place():
    model = Linear(8, 4)
    (finding,) = doctor(model, loss=lambda: model(Tensor(X)).mean() + Tensor(np.float32("nan"))).findings
    assert finding.seen == "it is nan, and so is an input from outside the model"


def test_a_fully_masked_row_is_reported_but_the_mask_itself_is_not():
    mask = np.zeros((32, 4), np.float32)
    mask[5] = -np.inf

    def loss(output: Tensor, target: Any) -> Tensor:
        return F.mse_loss(F.softmax(output + Tensor(mask), dim=1), target)

    (finding,) = doctor(Linear(8, 4), None, (X, X[:, :4]), loss).findings
    assert finding.seen == "it is nan: softmax makes 4 of 128 elements NaN from infinite values"
    assert finding.fix == "x = x.clamp(min=-1e9, max=1e9) before the softmax"


class Masked(Module):
    """A layer and a mask of -inf, as in attention."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = Linear(8, 4)
        self.register_buffer("mask", np.where(np.eye(4, dtype=bool), 0, -np.inf).astype(np.float32))
        self.bounds = Parameter(np.full(2, np.inf, np.float32), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x)


def normalized() -> Module:
    return Sequential(Linear(8, 4), BatchNorm1d(4))


VALUES: list[tuple[Callable[[], Module], str, float, str]] = [
    (normalized, "0.weight", np.nan, "model[0].reset_parameters()"),
    (normalized, "0.bias", -np.inf, "model[0].reset_parameters()"),
    (normalized, "1.weight", np.nan, "model[1].reset_parameters()"),
    (normalized, "1.bias", np.inf, "model[1].reset_parameters()"),
    (normalized, "1.running_mean", np.nan, "model[1].running_mean.data[...] = 0"),
    (normalized, "1.running_var", np.inf, "model[1].running_var.data[...] = 1"),
    (Masked, "mask", np.nan, "model.mask.data[...] = 0"),
]


@pytest.mark.parametrize(("build", "name", "value", "line"), VALUES)
def test_nan_and_infinity_in_the_model_are_found_without_a_batch_and_named_once_with_one(
    build: Callable[[], Module], name: str, value: float, line: str
):
    model = build()
    tensor = model.state_dict()[name]
    tensor.reshape(-1)[-1] = value
    (finding,) = doctor(model).findings
    assert (finding.kind, finding.name) == ("value", name)
    assert finding.seen.startswith(f"1 of its {tensor.size} elements are NaN")
    assert finding.fix == f"{line}; or model.load_state_dict(...) of an earlier checkpoint"
    assert doctor(model, None, BATCH, F.cross_entropy).findings == (finding,)
    exec(line, {"model": model})
    assert doctor(model, None, BATCH, F.cross_entropy)


def test_infinity_in_a_mask_or_a_frozen_parameter_is_not_reported_and_views_are_named_by_their_base():
    assert doctor(Masked(), None, BATCH, F.cross_entropy)
    model = Sequential(Linear(8, 4, bias=False), Linear(4, 8, bias=False))
    model[1].weight = Parameter(model[0].weight.T)
    model[0].weight.data[0, 0] = np.nan
    assert [finding.name for finding in doctor(model).findings] == ["0.weight"]


CLASSES: list[tuple[np.ndarray, str]] = [
    (np.arange(32) % 4 + 1, "target = target - 1"),
    (np.arange(32) % 5 + 1, "model[2] = Linear(16, 6), before the optimizer is created"),
    (np.arange(32) % 6, "model[2] = Linear(16, 6), before the optimizer is created"),
    (
        np.where(np.arange(32) < 3, -100, np.arange(32) % 4 + 1),
        "model[2] = Linear(16, 5), before the optimizer is created",
    ),
    (np.arange(32) % 5 - 1, "loss = F.cross_entropy(output, target, ignore_index=-1)"),
]


@pytest.mark.parametrize(("target", "line"), CLASSES)
def test_classes_that_the_model_does_not_have_get_a_line_that_fixes_them(target: np.ndarray, line: str):
    model, loss = Sequential(Linear(8, 4), Linear(4, 16), Linear(16, 4)), F.cross_entropy
    (finding,) = doctor(model, None, (X, target), loss).findings
    assert (finding.kind, finding.name, finding.fix) == ("step", "Sequential", line)
    assert finding.seen.startswith("cross_entropy: class ")
    names = {"model": model, "target": target, "Linear": Linear}
    if line.startswith("loss"):
        loss = functools.partial(F.cross_entropy, ignore_index=-1)
    else:
        exec(line.partition(", before")[0], names)
    assert doctor(model, None, (X, names["target"]), loss)


class Gram(Linear):
    def forward(self, x: Tensor) -> Tensor:
        h = super().forward(x)
        return h @ h.T


def test_token_classes_are_counted_on_the_last_axis_and_only_a_linear_head_gets_a_line():
    def loss(output: Tensor, target: Any) -> Tensor:
        return F.cross_entropy(output.reshape(-1, output.shape[-1]), target.reshape(-1))

    x = RANDOM.standard_normal((6, 5, 8)).astype(np.float32)
    target = np.arange(30).reshape(6, 5) % 9
    (finding,) = doctor(Linear(8, 7, bias=False), None, (x, target), loss).findings
    assert finding.fix == "model = Linear(8, 9, bias=False), before the optimizer is created"
    (finding,) = doctor(Gram(8, 4), None, (X, np.arange(32) + 2), F.cross_entropy).findings
    assert finding.fix == "follow the error message"


def test_the_model_is_examined_even_if_the_loss_stops_the_step():
    model = Sequential(Linear(8, 20), ReLU(), Linear(20, 4))
    model[0].bias.data[:] = -100
    found = doctor(model, None, (X, BATCH[1] + 9), F.cross_entropy).findings
    assert [finding.kind for finding in found] == ["step", "dead units"]


def test_a_loss_without_arguments_that_stops_the_step_is_a_finding():
    model = Sequential(BatchNorm1d(8), Linear(8, 4))
    (finding,) = doctor(model, loss=lambda: F.cross_entropy(model(Tensor(X)), BATCH[1] + 9)).findings
    assert (finding.kind, finding.fix) == ("step", "follow the error message")


@pytest.mark.parametrize("loss", [F.nll_loss, lambda o, t: F.kl_div(o, np.full((32, 4), 0.25, np.float32))])
def test_a_loss_of_logarithms_that_gets_logits_or_probabilities_is_found(loss: Any) -> None:
    target = np.arange(32) % 4
    for model in (Linear(8, 4), Sequential(Linear(8, 4), Softmax(1))):
        (finding,) = [each for each in doctor(model, None, (X, target), loss).findings if each.kind == "loss"]
        assert "expects logarithms of probabilities, at most 0, but gets positive numbers" in finding.seen
    assert doctor(Sequential(Linear(8, 4), LogSoftmax(1)), None, (X, target), loss)


@pytest.mark.parametrize("activation", [ReLU(), ReLU6(inplace=True)])
def test_dead_units_are_found_after_every_relu(activation: Module) -> None:
    model = Sequential(Linear(8, 16), activation, Linear(16, 4))
    model[0].bias.data -= 9
    kinds = {finding.kind for finding in doctor(model, None, (X, np.arange(32) % 4), F.cross_entropy).findings}
    assert "dead units" in kinds
