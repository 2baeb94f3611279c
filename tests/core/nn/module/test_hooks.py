"""Hooks around forward and backward: what they get, what they may replace, and in which order they run, as in torch."""

import copy
import pickle
import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from statezoo import core
from statezoo.core import Linear, Module, Sequential, Tensor

Log = list[Any]


def libraries() -> list[Any]:
    torch = pytest.importorskip("torch")
    return [core, SimpleNamespace(**vars(torch.nn), Tensor=torch.Tensor, tensor=torch.tensor)]


def plain(value: Any) -> Any:
    """Return what both libraries log in the same form."""
    if isinstance(value, tuple | list):
        return type(value)(map(plain, value))
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    return np.asarray(value.detach()).tolist() if hasattr(value, "detach") else value


def both_agree(scenario: Callable[[Any, Log], Any]) -> Log:
    """Assert that a scenario logs the same with torch and here. Return the log."""
    logs: list[Log] = []
    for nn in libraries():
        log: Log = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            log.append(("returned", scenario(nn, log)))
        logs.append(plain(log))
    assert logs[0] == logs[1]
    return logs[0]


def two_in(nn: Any, outputs: int = 1) -> Any:
    """Return a module of two inputs, and its two inputs, which require a gradient."""

    class Both(nn.Module):
        def forward(self, a: Any, b: Any, scale: float = 1.0) -> Any:
            return a * b * scale if outputs == 1 else (a * 2.0, b * 3.0, a * b)

    given = [nn.tensor([float(n), 2.0], requires_grad=True) for n in (1, 3)]
    return (Both(), *given)


# --- forward


@pytest.mark.torch
def test_hooks_run_in_torchs_order_and_with_torchs_arguments():
    def scenario(nn: Any, log: Log) -> Any:
        module, a, b = two_in(nn)
        module.register_forward_pre_hook(lambda _, args: log.append(("second", args)))
        module.register_forward_pre_hook(lambda _, args: log.append(("first", args)), prepend=True)
        module.register_forward_pre_hook(
            lambda _, args, kwargs: (args, {"scale": kwargs["scale"] * 2}), with_kwargs=True
        )
        module.register_forward_hook(lambda _, args, out: log.append(("third", args, out)))
        module.register_forward_hook(lambda _, args, kwargs, out: log.append(kwargs) or out + 1.0, with_kwargs=True)
        module.register_forward_hook(lambda *args: log.append("before all"), prepend=True)
        return module(a, b, scale=3.0)

    log = both_agree(scenario)
    assert log[-1] == ("returned", [19.0, 25.0])


@pytest.mark.torch
def test_a_hook_that_is_always_called_runs_after_an_error_too_and_may_fail():
    def scenario(nn: Any, log: Log) -> Any:
        module, a, _ = two_in(nn)
        module.register_forward_hook(lambda *args: log.append("not this one"))
        module.register_forward_hook(lambda _, args, out: log.append((args, out)), always_call=True)
        module.register_forward_hook(lambda *_: 1 / 0, always_call=True)
        with pytest.raises(TypeError):
            module(a)

    assert both_agree(scenario)[0] == (([1.0, 2.0],), None)


def test_an_error_in_a_hook_that_is_always_called_is_a_warning():
    module = Linear(2, 2)
    module.register_forward_hook(lambda *_: 1 / 0, always_call=True)
    with (
        pytest.warns(UserWarning, match=r"always_call=True raised ZeroDivisionError"),
        pytest.raises(core.ShapeError),
    ):
        module(Tensor([1.0]))


def test_a_pre_hook_with_kwargs_must_return_both():
    module = Linear(2, 2)
    module.register_forward_pre_hook(lambda _, args, kwargs: args, with_kwargs=True)
    with pytest.raises(RuntimeError, match=r"returns None or new \(args, kwargs\), not tuple"):
        module(Tensor([1.0, 2.0]))


def test_a_handle_removes_its_hook_at_the_end_of_a_block():
    module, calls = Linear(2, 2), []
    with module.register_forward_hook(lambda *_: calls.append(1)) as handle:
        module(Tensor([1.0, 2.0]))
    handle.remove()  # a second time does nothing
    module(Tensor([1.0, 2.0]))
    assert calls == [1]


# --- backward


@pytest.mark.torch
@pytest.mark.parametrize("outputs", [1, 3])
def test_backward_hooks_see_and_replace_the_gradients_of_all_inputs_and_outputs(outputs: int):
    def scenario(nn: Any, log: Log) -> Any:
        module, a, b = two_in(nn, outputs)
        module.register_full_backward_pre_hook(lambda _, out: log.append(("pre", out)))
        module.register_full_backward_pre_hook(lambda _, out: tuple(None if g is None else g * 2.0 for g in out))
        module.register_full_backward_hook(lambda _, grads, out: log.append(("hook", grads, out)))
        module.register_full_backward_hook(lambda _, grads, out: (grads[0] * 10.0, grads[1]))
        module.register_full_backward_hook(lambda _, grads, out: log.append(("last", grads)))
        module.register_full_backward_hook(lambda *_: log.append("first"), prepend=True)
        out = module(a, b)
        (out if outputs == 1 else out[0] + out[2]).sum().backward()  # the second output is not used
        return a.grad, b.grad

    both_agree(scenario)


@pytest.mark.torch
def test_a_backward_hook_gets_zeros_or_none_for_arguments_without_a_gradient():
    def scenario(nn: Any, log: Log) -> Any:
        module, a, _ = two_in(nn)
        module.register_full_backward_hook(lambda _, grads, out: log.append((grads, out)))
        module(a, nn.tensor([1.0, 1.0]), scale=2.0).sum().backward()
        module(a, 3.0).sum().backward()
        return a.grad

    both_agree(scenario)


@pytest.mark.torch
def test_a_backward_hook_of_a_first_layer_is_called_without_gradients_of_its_input():
    def scenario(nn: Any, log: Log) -> Any:
        layer = nn.Linear(2, 1)
        for parameter in layer.parameters():
            parameter.data[...] = 1.0
        layer.register_full_backward_hook(lambda _, grads, out: log.append((grads, out)))
        layer(nn.tensor([[1.0, 2.0]])).sum().backward()
        return layer.weight.grad

    assert both_agree(scenario)[0] == ((None,), ([[1.0]],))


@pytest.mark.torch
def test_backward_hooks_of_nested_modules_run_from_the_output_to_the_input():
    def scenario(nn: Any, log: Log) -> Any:
        model = nn.Sequential(nn.ReLU(), nn.Sequential(nn.Tanh(), nn.ReLU()))
        for name, module in model.named_modules():
            module.register_full_backward_hook(lambda _, grads, out, name=name: log.append((name, grads, out)))
        x = nn.tensor([0.0, 2.0], requires_grad=True)
        out = model(x)
        out.backward(nn.tensor([1.0, 1.0]))
        return x.grad

    log = both_agree_closely(scenario)
    assert [entry[0] for entry in log[:-1]] == ["1.1", "1.0", "1", "0", ""]


def both_agree_closely(scenario: Callable[[Any, Log], Any]) -> Log:
    """As both_agree, with numbers rounded."""

    def rounded(value: Any) -> Any:
        if isinstance(value, tuple | list):
            return type(value)(map(rounded, value))
        return round(value, 5) if isinstance(value, float) else value

    def run(nn: Any, log: Log) -> Any:
        inner: Log = []
        out = scenario(nn, inner)
        log += rounded(plain(inner))
        return rounded(plain(out))

    return both_agree(run)


def test_a_backward_hook_that_returns_something_else_is_an_error():
    for wrong in ((), (1, 2, 3), 5):
        layer = Linear(2, 1)
        layer.register_full_backward_hook(lambda *_, wrong=wrong: wrong)
        out = layer(Tensor([1.0, 2.0], requires_grad=True))
        with pytest.raises(RuntimeError, match="a backward hook returns None or a tuple of 1 gradients, not"):
            out.sum().backward()


def test_an_array_that_a_backward_hook_keeps_does_not_change_afterwards():
    kept: list[Any] = []
    layer = core.Identity()
    layer.register_full_backward_hook(lambda _, grads, out: kept.extend([*grads, *out]))
    x = Tensor([1.0, 2.0], requires_grad=True)
    for _ in range(2):
        layer(x).sum().backward()
    assert [list(np.asarray(gradient)) for gradient in kept] == [[1, 1]] * 4
    np.testing.assert_array_equal(x.grad, [2, 2])


def test_backward_hooks_change_no_value_and_no_gradient():
    x = np.random.default_rng(0).standard_normal((3, 2), np.float32)
    model = Sequential(Linear(2, 3), core.Tanh(), Linear(3, 1))
    results = []
    for hooked in (False, True):
        twin = copy.deepcopy(model)
        if hooked:
            for module in twin.modules():
                module.register_full_backward_hook(lambda *_: None)
                module.register_full_backward_pre_hook(lambda *_: None)
        out = twin(Tensor(x))
        out.sum().backward()
        results.append([out.data, *(parameter.grad for parameter in twin.parameters())])
    for without, with_hooks in zip(*results, strict=True):
        np.testing.assert_array_equal(without, with_hooks)


def test_nothing_is_recorded_for_backward_hooks_without_gradients():
    layer = Linear(2, 1)
    layer.register_full_backward_hook(print)
    with core.no_grad():
        assert not layer(Tensor([1.0, 2.0])).requires_grad


def remember(module: Module, grad_input: Any, grad_output: Any) -> None: ...


def test_backward_hooks_are_copied_and_pickled():
    layer = Linear(2, 1)
    layer.register_full_backward_hook(remember)
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert [hook.function for hook in twin._backward_hooks.values()] == [remember]
