"""Module: traversal, state_dict, modes, hooks, dtypes, copies and lookup."""

import copy
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from statezoo.core import (
    BatchNorm1d,
    Buffer,
    Dropout,
    Linear,
    Module,
    ModuleDict,
    ModuleError,
    ModuleList,
    Parameter,
    ReLU,
    Sequential,
    Tensor,
)


class Tied(Module):
    """A parameter under two names, a module in two places, a view, and a buffer that shares a parameter's memory."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Linear(3, 2)
        self.decoder = Linear(2, 3)
        self.decoder.weight = Parameter(self.encoder.weight.T)
        self.head = Linear(3, 2, bias=False)
        self.head.weight = self.encoder.weight
        self.again = self.decoder
        self.register_buffer("first_row", self.encoder.weight.data[0])
        self.register_buffer("scratch", np.zeros(2, np.float32), persistent=False)
        self.steps = Parameter(np.zeros((), np.int64), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.decoder(self.encoder(x)))


TIED_PARAMETERS = ["steps", "encoder.weight", "encoder.bias", "decoder.weight", "decoder.bias"]


# --- traversal


def test_each_tensor_and_module_is_listed_once_under_its_first_name():
    model = Tied()
    assert [name for name, _ in model.named_parameters()] == TIED_PARAMETERS
    assert [name for name, _ in model.named_buffers()] == ["first_row", "scratch"]
    assert [name for name, _ in model.named_modules()] == ["", "encoder", "decoder", "head"]
    assert [name for name, _ in model.named_children()] == ["encoder", "decoder", "head"]
    assert list(model.modules()) == [model, model.encoder, model.decoder, model.head]
    assert list(model.children()) == [model.encoder, model.decoder, model.head]
    assert [id(p) for p in model.parameters()] == [id(p) for _, p in model.named_parameters()]
    assert [id(b) for b in model.buffers()] == [id(b) for _, b in model.named_buffers()]


def test_without_remove_duplicate_every_name_is_listed():
    model = Tied()
    names = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    assert names == [*TIED_PARAMETERS, "head.weight", "again.weight", "again.bias"]
    modules = [name for name, _ in model.named_modules(remove_duplicate=False)]
    assert modules == ["", "encoder", "decoder", "head", "again"]


def test_a_prefix_is_added_to_names_and_recursion_can_be_turned_off():
    model = Tied()
    assert [name for name, _ in model.named_parameters("net", recurse=False)] == ["net.steps"]
    assert [name for name, _ in model.named_buffers("net")] == ["net.first_row", "net.scratch"]
    assert [name for name, _ in model.named_modules(prefix="net")] == ["net", "net.encoder", "net.decoder", "net.head"]
    assert list(model.buffers(recurse=False)) == [model.first_row, model.scratch]


def test_modules_in_memo_are_skipped_with_their_children_and_found_ones_are_added():
    model = Sequential(Sequential(Linear(1, 1)), ReLU())
    memo: set[Any] = {model[0]}
    assert [name for name, _ in model.named_modules(memo)] == ["", "1"]
    assert memo == {model, model[0], model[1]}


# --- state_dict


def test_a_state_lists_every_name_and_the_arrays_are_the_models_own():
    model = Tied()
    state = model.state_dict()
    assert list(state) == [
        "steps",
        "first_row",
        *("encoder.weight", "encoder.bias", "decoder.weight", "decoder.bias"),
        *("head.weight", "again.weight", "again.bias"),
    ]
    assert state["encoder.weight"] is model.encoder.weight.data
    assert state["head.weight"] is state["encoder.weight"]
    assert np.shares_memory(state["decoder.weight"], state["encoder.weight"])
    assert list(model.encoder.state_dict(prefix="net.")) == ["net.weight", "net.bias"]
    assert list(Sequential(Linear(1, 1)).state_dict("net_")) == ["net_0.weight", "net_0.bias"]


def test_none_is_not_in_a_state():
    assert list(Linear(1, 1, bias=False).state_dict()) == ["weight"]


class Counter(Module):
    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self.scale = Parameter([1.0])

    def get_extra_state(self) -> int:
        return self.count

    def set_extra_state(self, state: int) -> None:
        self.count = state


def test_extra_state_is_in_a_state_only_if_the_module_defines_it():
    model = Sequential(Counter(), Linear(1, 1))
    model[0].count = 5
    state = model.state_dict()
    assert list(state) == ["0.scale", "0._extra_state", "1.weight", "1.bias"]
    assert state["0._extra_state"] == 5
    with pytest.raises(ModuleError, match=r"Linear has no extra state: it does not define get_extra_state\(\)"):
        Linear(1, 1).get_extra_state()
    with pytest.raises(ModuleError, match=r"Linear has no extra state: it does not define set_extra_state\(\)"):
        Linear(1, 1).set_extra_state(1)


# --- changes to the whole module


def test_train_and_eval_reach_every_module_and_return_the_model():
    model = Sequential(Dropout(), ModuleList([BatchNorm1d(2)]))
    assert all(module.training for module in model.modules())
    assert model.eval() is model
    assert not any(module.training for module in model.modules())
    model.train()
    assert all(module.training for module in model.modules())
    with pytest.raises(ModuleError, match=r"train\(\) takes True or False, not Tensor"):
        model.train(Tensor(1.0))  # pyright: ignore[reportArgumentType]


def test_a_modules_own_train_method_is_called():
    class Frozen(BatchNorm1d):
        def train(self, mode: bool = True) -> Any:
            return super().train(False)

    model = Sequential(Frozen(2)).train()
    assert not model[0].training


def test_freezing_and_clearing_gradients_reach_every_parameter():
    model = Linear(2, 2)
    model(Tensor(np.ones((1, 2), np.float32))).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    model.zero_grad()
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.requires_grad_(False) is model
    assert not model(Tensor(np.ones((1, 2), np.float32))).requires_grad
    assert all(parameter.requires_grad for parameter in model.requires_grad_().parameters())


def test_a_gradient_that_one_parameter_cannot_have_changes_nothing():
    model = Sequential(Linear(1, 1)).requires_grad_(False)
    model.register_parameter("ids", Parameter([1, 2], requires_grad=False))
    with pytest.raises(ValueError, match="only a tensor of floats can require a gradient, not int64"):
        model.requires_grad_()
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_apply_visits_children_first():
    seen: list[str] = []
    model = Sequential(Sequential(ReLU()), Dropout())
    assert model.apply(lambda module: seen.append(type(module).__name__)) is model
    assert seen == ["ReLU", "Sequential", "Dropout", "Sequential"]


@pytest.mark.parametrize("dtype", [np.float64, np.float16, ml_dtypes.bfloat16])
def test_to_converts_floats_only_and_keeps_ties_views_and_identity(dtype):
    model = Tied()
    parameters = list(model.parameters())
    model(Tensor(np.ones((1, 3), np.float32))).sum().backward()
    before = {name: array.astype(np.float64) for name, array in model.state_dict().items()}
    assert model.to(dtype) is model
    assert list(map(id, model.parameters())) == list(map(id, parameters))
    state = model.state_dict()
    assert state["steps"].dtype == np.int64
    assert {array.dtype for name, array in state.items() if name != "steps"} == {np.dtype(dtype)}
    for name, array in state.items():
        np.testing.assert_allclose(array.astype(np.float64), before[name], rtol=1e-2)
    assert model.encoder.weight.grad is not None
    assert model.encoder.weight.grad.dtype == dtype
    assert_tied(model)


def assert_tied(model: Tied) -> None:
    """Assert that a change to the encoder's weight shows everywhere, and that the view's gradient is the base's."""
    model.encoder.weight.data[...] = np.arange(6).reshape(2, 3)
    np.testing.assert_array_equal(model.decoder.weight.data.astype(float), np.arange(6).reshape(2, 3).T)
    np.testing.assert_array_equal(model.first_row.data.astype(float), [0, 1, 2])
    assert model.head.weight is model.encoder.weight
    assert model.again is model.decoder
    model.zero_grad()
    (model.decoder.weight * 2.0).sum().backward()
    assert model.decoder.weight.grad is None
    assert model.encoder.weight.grad is not None
    np.testing.assert_array_equal(model.encoder.weight.grad.astype(float), np.full((2, 3), 2.0))


def test_float_and_double_are_shorthand_for_to():
    model = Linear(1, 1)
    assert model.double().weight.dtype == np.float64
    assert model.float().weight.dtype == np.float32


def test_to_the_same_dtype_keeps_the_arrays():
    model = Linear(1, 1)
    model.running = Buffer(np.zeros(1))
    arrays = model.state_dict()
    model.float()
    assert [model.state_dict()[name] is array for name, array in arrays.items()] == [True, True, False]


@pytest.mark.parametrize("dtype", [np.int64, bool, "U3"])
def test_to_refuses_a_dtype_that_is_not_floating(dtype):
    with pytest.raises(ModuleError, match=r"Module\.to\(\) takes a floating-point dtype such as numpy\.float64, not "):
        Linear(1, 1).to(dtype)


def test_a_view_is_converted_together_with_its_base():
    model = Tied()
    model.decoder.double()
    assert model.encoder.weight.dtype == np.float64
    (model.decoder.weight * 2.0).sum().backward()
    assert model.encoder.weight.grad is not None
    np.testing.assert_array_equal(model.encoder.weight.grad, np.full((2, 3), 2.0))


# --- copies


def test_a_deep_copy_is_tied_within_itself_and_to_nothing_else():
    model = Tied()
    twin = copy.deepcopy(model)
    assert repr(twin) == repr(model)
    for (name, array), (other, copied) in zip(model.state_dict().items(), twin.state_dict().items(), strict=True):
        assert name == other
        np.testing.assert_array_equal(array, copied)
    for array in model.state_dict().values():
        assert not any(np.may_share_memory(array, copied) for copied in twin.state_dict().values())
    before = {name: array.copy() for name, array in model.state_dict().items()}
    assert_tied(twin)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
    assert list(twin.state_dict()) == list(model.state_dict())
    assert "scratch" in dict(twin.named_buffers())


def test_a_deep_copy_of_the_half_with_a_view_has_its_own_base():
    model = Tied()
    half = copy.deepcopy(model.decoder)
    base = half.weight.base
    assert base is not None
    assert base is not model.encoder.weight
    (half.weight * 2).sum().backward()
    assert base.grad is not None
    assert model.encoder.weight.grad is None


def test_models_that_share_parameters_still_share_them_when_copied_together():
    one, other = Linear(2, 2), Linear(2, 2)
    other.weight = one.weight
    first, second = copy.deepcopy([one, other])
    assert first.weight is second.weight
    assert first.weight is not one.weight


def test_other_attributes_modes_and_hooks_are_copied_too():
    calls: list[int] = []
    model = Linear(2, 2).eval()
    model.notes = {"a": [1]}
    model.register_forward_hook(lambda *_: calls.append(1))
    twin = copy.deepcopy(model)
    twin.notes["a"].append(2)
    assert model.notes == {"a": [1]}
    assert not twin.training
    twin(np.ones((1, 2), np.float32))
    assert calls == [1]


# --- calling


def test_hooks_run_around_forward_and_can_replace_arguments_and_output():
    model, calls = ReLU(), []
    model.register_forward_pre_hook(lambda module, args: calls.append(("before", module, args[0].item())))
    negate = model.register_forward_pre_hook(lambda module, args: -args[0])
    model.register_forward_hook(lambda module, args, out: calls.append(("after", module, args[0].item(), out.item())))
    double = model.register_forward_hook(lambda module, args, out: out * 2)
    assert model(Tensor(-3.0)).item() == 6
    assert calls == [("before", model, -3.0), ("after", model, 3.0, 3.0)]
    negate.remove()
    double.remove()
    double.remove()
    assert model(Tensor(-3.0)).item() == 0


def test_keyword_arguments_reach_forward():
    class Scale(Module):
        def forward(self, x: float, by: float = 1) -> float:
            return x * by

    assert Scale()(2, by=3) == 6


def test_a_module_without_forward_says_so():
    class Net(Module):
        pass

    with pytest.raises(NotImplementedError) as caught:
        Net()(1)
    assert isinstance(caught.value, ModuleError)
    assert str(caught.value) == (
        "Net has no forward(). Define forward(self, x) in the class; calling the module runs it."
    )


# --- lookup


def test_parts_are_found_by_their_dotted_names():
    model = ModuleDict({"net": Sequential(Linear(1, 2), BatchNorm1d(2))})
    assert model.get_submodule("") is model
    assert model.get_submodule("net.0") is model["net"][0]
    assert model.get_parameter("net.0.weight") is model["net"][0].weight
    assert model.get_buffer("net.1.running_mean") is model["net"][1].running_mean


@pytest.mark.parametrize(
    ("look", "message"),
    [
        (lambda m: m.get_submodule("net.00"), "ModuleDict has no module 'net.00'. Did you mean 'net.0'?"),
        (lambda m: m.get_submodule("net.0.weight"), "ModuleDict has no module 'net.0.weight'."),
        (
            lambda m: m.get_parameter("net.0.weigth"),
            "ModuleDict has no parameter 'net.0.weigth'. Did you mean 'net.0.weight'?",
        ),
        (lambda m: m.get_parameter("qqq"), "ModuleDict has no parameter 'qqq'."),
        (lambda m: m.get_buffer("net.0.weight"), "ModuleDict has no buffer 'net.0.weight'."),
    ],
)
def test_an_unknown_name_is_an_error_with_the_nearest_one(look, message):
    model = ModuleDict({"net": Sequential(Linear(1, 2))})
    with pytest.raises(AttributeError) as caught:
        look(model)
    assert str(caught.value).startswith(message)


def test_parameters_are_counted_once_even_if_tied_or_viewed():
    assert Tied().num_parameters() == 6 + 2 + 3 + 1
    assert Linear(784, 128).num_parameters() == 784 * 128 + 128
    assert ReLU().num_parameters() == 0
