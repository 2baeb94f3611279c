"""The doctor beyond the museum's bugs: every hiding place, and findings with exact names and numbers."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from statezoo.core import Linear, Module, Parameter, ReLU, Sequential, Sigmoid, Tensor, doctor, init, optim
from statezoo.core import functional as F
from statezoo.core.autograd.tensor import record

RANDOM = np.random.default_rng(11)
X = RANDOM.standard_normal((32, 8)).astype(np.float32)
BATCH = (X, np.arange(32) % 4)
ADAPTER = Linear(4, 4)  # a layer of this file, which GlobalNet's forward uses
GLOBAL_LIST = [Linear(4, 4)]


class Net(Module):
    """A layer followed by `after`."""

    def __init__(self, after: Callable[..., Any] | None = None) -> None:
        super().__init__()
        self.fc = Linear(8, 4)
        self.after = after

    def forward(self, x: Tensor) -> Tensor:
        out = self.fc(x)
        return out if self.after is None else self.after(out)


class GlobalNet(Net):
    def forward(self, x: Tensor) -> Tensor:
        return ADAPTER(self.fc(x))


class GlobalListNet(Net):
    def forward(self, x: Tensor) -> Tensor:
        return GLOBAL_LIST[0](self.fc(x))


def scale(x: Tensor, factor: Any) -> Tensor:
    return x * factor


def by_closure() -> Module:
    adapter = Linear(4, 4)
    return Net(lambda x: adapter(x))


def by_closure_over_a_dict() -> Module:
    layers = {"a": [Linear(4, 4)]}
    return Net(lambda x: layers["a"][0](x))


def by_default() -> Module:
    def after(x: Tensor, layer: Module = Linear(4, 4)) -> Tensor:  # noqa: B008
        return layer(x)

    return Net(after)


def by_keyword_default() -> Module:
    def after(x: Tensor, *, layer: Module = Linear(4, 4)) -> Tensor:  # noqa: B008
        return layer(x)

    return Net(after)


def by_hook() -> Module:
    model, adapter = Net(), Linear(4, 4)
    model.fc.register_forward_hook(lambda module, args, output: output + adapter(output))
    return model


def by_forward_of_the_instance() -> Module:
    model, adapter = Net(), Linear(4, 4)
    inner = model.fc
    model.forward = lambda x: adapter(inner(x))
    return model


def by_set() -> Module:
    model = Net()
    object.__setattr__(model, "parts", {Linear(4, 4)})
    model.after = lambda x: next(iter(model.parts))(x)
    return model


HIDING_PLACES: list[tuple[Callable[[], Module], str]] = [
    (by_closure, "the variable adapter in after"),
    (by_closure_over_a_dict, "the variable layers['a'][0] in after"),
    (by_default, "the default layer in after"),
    (by_keyword_default, "the default layer in after"),
    (by_hook, "the variable adapter in a forward hook of fc"),
    (by_forward_of_the_instance, "the variable adapter in forward"),
    (lambda: Net(functools.partial(scale, factor=Parameter([2.0]))), "after.keywords['factor']"),
    (
        lambda: Net(functools.partial(F.linear, weight=Parameter(np.eye(4, dtype=np.float32)))),
        "after.keywords['weight']",
    ),
    (lambda: Net(functools.partial(Linear(4, 4))), "after.func"),
    (lambda: Net(functools.partial(lambda m, x: m(x), Linear(4, 4))), "after.args[0]"),
    (lambda: Net(Linear(4, 4).forward), "after.__self__"),
    (GlobalNet, "the global ADAPTER in forward"),
    (GlobalListNet, "the global GLOBAL_LIST[0] in forward"),
]


@pytest.mark.parametrize(("build", "place"), HIDING_PLACES)
@pytest.mark.parametrize("with_step", [False, True])
def test_a_layer_is_found_wherever_it_is_hidden(build: Callable[[], Module], place: str, with_step: bool):
    report = doctor(build(), None, *(BATCH, F.cross_entropy) if with_step else (None, None))
    assert [finding.name for finding in report.findings] == [place]
    assert report.findings[0].kind == "unregistered"


def test_a_layer_hidden_on_purpose_is_found_only_if_the_graph_shows_that_it_trains():
    assert doctor(by_set())
    (finding,) = doctor(by_set(), None, BATCH, F.cross_entropy).findings
    assert finding.name == "parts"


def test_a_hidden_layer_that_is_frozen_or_registered_elsewhere_is_not_reported():
    frozen = Linear(4, 4).requires_grad_(False)
    assert doctor(Net(lambda x: frozen(x)), None, BATCH, F.cross_entropy)
    assert doctor(Net(lambda x: frozen(x)))
    model = Net()
    model.extra = Linear(4, 4)
    model.after = model.extra.forward
    assert doctor(model, None, BATCH, F.cross_entropy)


def test_every_tensor_in_a_tuple_or_dict_that_the_model_returns_is_examined():
    class Pair(Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = Linear(8, 1), Linear(8, 1)

        def forward(self, x: Tensor) -> Any:
            return self.one(x), {"sum": [self.one(x) + self.two(x).squeeze(-1)]}

    (finding,) = doctor(Pair(), batch=X).findings
    assert (finding.kind, finding.name) == ("broadcast", "the output")
    assert finding.seen.startswith("add broadcasts (32, 1) with (32,) to (32, 32)")


def test_targets_that_broadcast_against_the_output_are_found_even_without_a_new_axis():
    def loss(output: Tensor, target: Any) -> Tensor:
        return ((output - Tensor(target)) ** 2).mean()

    (finding,) = doctor(Linear(8, 3), None, (X, X[:, :1]), loss).findings
    assert finding.seen.startswith("subtract broadcasts (32, 3) with (32, 1) to (32, 3)")


def test_a_loss_that_is_not_finite_is_traced_to_the_operation_after_its_module():
    model = Sequential(Linear(8, 4), ReLU())

    def loss(output: Tensor, target: Any) -> Tensor:
        return output.log().mean()

    report = doctor(model, None, BATCH, loss)
    assert report.findings[0].seen.startswith("it is -inf: log after 1 makes ")


def test_a_sigmoid_before_binary_cross_entropy_with_logits_is_reported_by_its_modules_name():
    model = Sequential(Linear(8, 1), Sigmoid())
    target = (np.arange(32) % 2).astype(np.float32).reshape(32, 1)
    (finding,) = doctor(model, None, (X, target), F.binary_cross_entropy_with_logits).findings
    assert (finding.kind, finding.name) == ("loss", "1")
    assert finding.seen.startswith("binary_cross_entropy_with_logits expects logits but gets the result of a sigmoid")


def test_a_replaced_view_of_some_rows_is_found():
    model = Module()
    model.big, model.small = Linear(8, 6), Linear(8, 2)
    model.small.weight = Parameter(model.big.weight[:2])
    assert doctor(model)
    model.small.weight = Parameter(X[:2])
    (finding,) = doctor(model).findings
    assert (finding.kind, finding.name) == ("tie", "small.weight")
    assert finding.fix.startswith("model.small.weight = Parameter(model.big.weight[...])")


def test_read_only_memory_and_a_loss_without_a_graph_are_findings_of_the_step():
    model = Linear(8, 4)
    model.weight.data.flags.writeable = False
    (finding,) = doctor(model, optim.SGD(model.named_parameters(), lr=0.1), BATCH, F.cross_entropy).findings
    assert (finding.kind, finding.name) == ("step", "Linear")
    assert finding.seen == "weight is read-only, perhaps mapped from a file"
    assert finding.fix == "Train copy.deepcopy(model) instead."
    report = doctor(Linear(8, 4), None, BATCH, lambda output, target: output.detach().sum())
    assert report.findings[0].seen == "backward() needs a tensor that requires a gradient"


def test_a_few_dead_units_are_not_reported_but_nearly_all_are():
    def first_bias(dead: int) -> Module:
        model = Sequential(Linear(8, 20), ReLU(), Linear(20, 4))
        model[0].bias.data[:dead] = -100
        return model

    assert doctor(first_bias(10), None, BATCH, F.cross_entropy)
    (finding,) = doctor(first_bias(19), None, BATCH, F.cross_entropy).findings
    assert (finding.kind, finding.name) == ("dead units", "0")
    assert finding.seen.startswith("19 of the 20 inputs of relu are never above 0 in 32 examples")


def test_units_that_are_nan_are_not_called_dead():
    model = Sequential(Linear(8, 20), ReLU(), Linear(20, 4))
    examples = np.full((32, 8), np.nan, np.float32)
    report = doctor(model, None, (examples, np.zeros(32, np.int64)), F.cross_entropy)
    assert [finding.kind for finding in report.findings] == ["loss"]


@pytest.mark.parametrize(("std", "found"), [(0.02, 0), (0.3, 0), (1.0, 1), (1e-4, 1)])
def test_the_scale_of_a_weight_is_measured_against_its_fan_in(std: float, found: int):
    model = Linear(256, 4)
    init.normal_(model.weight, std=std)
    assert len(doctor(model).findings) == found


def test_a_weight_on_the_right_of_a_product_has_its_inputs_first():
    class Net(Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = Parameter(RANDOM.standard_normal((8, 64)).astype(np.float32) * 8**-0.5)

        def forward(self, x: Tensor) -> Tensor:
            return x @ self.w

    assert doctor(Net(), batch=X)
    model = Net()
    model.w.data *= 10
    (finding,) = doctor(model, batch=X).findings
    assert finding.fix == 'init.kaiming_uniform_(model.w, a=5 ** 0.5, mode="fan_out")'
    exec(finding.fix, {"init": init, "model": model})
    assert doctor(model, batch=X)


def test_a_registered_buffer_that_forward_assigns_is_not_reported():
    class Average(Module):
        def __init__(self):
            super().__init__()
            self.layer = Linear(4, 3)
            self.register_buffer("mean", np.zeros(3, np.float32))

        def forward(self, x: Tensor) -> Tensor:
            out = self.layer(x)
            self.mean = 0.9 * self.mean.data + 0.1 * out.data.mean(axis=0)
            return out

    x, y = np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32), np.arange(8) % 3
    assert doctor(Average(), None, (x, y), F.cross_entropy)


def test_a_users_own_operation_appears_under_its_recorded_name():
    def reciprocal_root(x: Tensor) -> Tensor:
        with np.errstate(all="ignore"):
            data = 1 / np.sqrt(x.data)
        return record("reciprocal_root", data, (x,), lambda gradient: (gradient * -0.5 * data**3,))

    class Net(Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = Linear(8, 4)

        def forward(self, x: Tensor) -> Tensor:
            return reciprocal_root(self.fc(x) * 0)

    (finding,) = [each for each in doctor(Net(), None, BATCH, F.cross_entropy).findings if each.kind == "loss"]
    assert "reciprocal_root after fc makes 128 of 128 elements NaN or infinite from finite values" in finding.seen
