"""Operations whose gradient a user writes, and the modes of recording. Each test runs on core and on torch."""

import importlib
from typing import Any

import numpy as np
import pytest

from statezoo import core


@pytest.fixture(params=["statezoo.core", pytest.param("torch", marks=pytest.mark.torch)])
def torch(request: pytest.FixtureRequest) -> Any:
    return importlib.import_module(request.param)


def test_an_operation_of_the_users_own_has_its_own_gradient(torch: Any):
    class Cube(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any, factor: float) -> Any:
            ctx.save_for_backward(x)
            ctx.factor = factor
            assert not torch.is_grad_enabled()
            assert ctx.needs_input_grad == (True, False)
            return factor * x**3

        @staticmethod
        def backward(ctx: Any, gradient: Any) -> Any:
            (x,) = ctx.saved_tensors
            return gradient * ctx.factor * 3 * x**2, None

    x = torch.tensor([1.0, 2.0], requires_grad=True)
    out = Cube.apply(x * 1, 2.0)
    assert out.requires_grad
    (out * out.detach()).sum().backward()
    np.testing.assert_allclose(np.asarray(x.grad), [2 * 6, 16 * 24])


def test_an_operation_may_keep_its_state_in_setup_context_and_return_several_outputs(torch: Any):
    class SumAndSign(torch.autograd.Function):
        @staticmethod
        def forward(x: Any, y: Any) -> Any:
            return x + y, x * y, x > y

        @staticmethod
        def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
            ctx.save_for_backward(*inputs)
            ctx.mark_non_differentiable(output[2])

        @staticmethod
        def backward(ctx: Any, by_sum: Any, by_product: Any, _: Any) -> Any:
            x, y = ctx.saved_tensors
            return by_sum + by_product * y, by_sum + by_product * x

    x, y = (torch.tensor(value, requires_grad=True) for value in (3.0, 5.0))
    total, product, larger = SumAndSign.apply(x, y)
    assert not larger.requires_grad
    (2 * total + 7 * product).sum().backward()
    assert (float(x.grad), float(y.grad)) == (2 + 35, 2 + 21)


def test_an_operation_that_returns_its_input_or_what_it_kept_does_no_harm(torch: Any):
    class Reverse(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.kept = torch.ones(2)
            return x.view(2)

        @staticmethod
        def backward(ctx: Any, gradient: Any) -> Any:
            return ctx.kept

    x = torch.tensor([1.0, 2.0], requires_grad=True)
    out = Reverse.apply(x)
    (out.sum() + Reverse.apply(x).sum()).backward()
    assert x.grad.tolist() == [2.0, 2.0]


def test_an_operation_without_forward_or_backward_says_what_is_missing():
    x = core.tensor([1.0], requires_grad=True)
    with pytest.raises(NotImplementedError, match="needs static methods forward"):
        core.autograd.Function.apply(x)

    class Half(core.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x / 2

    with pytest.raises(NotImplementedError, match=r"needs static methods forward.*backward"):
        Half.apply(x).backward()


def test_recording_can_be_turned_on_within_a_block_without_it(torch: Any):
    x = torch.tensor([1.0], requires_grad=True)
    with torch.no_grad():
        assert not (x * 2).requires_grad
        with torch.enable_grad():
            assert (x * 2).requires_grad
            with torch.inference_mode(False):
                assert torch.is_grad_enabled()
        assert not torch.is_grad_enabled()
    with torch.inference_mode():
        assert not torch.is_grad_enabled()
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("name", ["no_grad", "inference_mode", "enable_grad"])
def test_a_mode_is_a_decorator_with_and_without_parentheses(torch: Any, name: str):
    mode = getattr(torch, name)

    @mode
    def plain() -> bool:
        return torch.is_grad_enabled()

    @mode()
    def called() -> bool:
        return torch.is_grad_enabled()

    with torch.set_grad_enabled(name != "enable_grad"):
        assert plain() is called() is (name == "enable_grad")
    assert torch.is_grad_enabled()


def test_set_grad_enabled_is_a_call_a_block_and_a_decorator(torch: Any):
    with torch.set_grad_enabled(False):
        assert not torch.is_grad_enabled()
    assert torch.is_grad_enabled()
    torch.set_grad_enabled(False)
    try:
        assert not torch.is_grad_enabled()

        @torch.set_grad_enabled(True)
        def inside() -> bool:
            return torch.is_grad_enabled()

        assert not torch.is_grad_enabled()
        assert inside()
        assert not torch.is_grad_enabled()
    finally:
        torch.set_grad_enabled(True)
    assert torch.is_grad_enabled()


def test_an_observer_goes_on_in_all_modes():
    model = core.Linear(2, 1)

    class Wrapped(core.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, x: core.Tensor) -> core.Tensor:
            with core.no_grad(), core.enable_grad(), core.set_grad_enabled(False), core.inference_mode():
                return self.inner(x)

    assert "Linear" in str(Wrapped().summary((1, 2)))
    assert core.is_grad_enabled()


def test_anomaly_detection_is_accepted(torch: Any):
    with torch.autograd.set_detect_anomaly(False):
        assert torch.autograd.Variable(torch.ones(1)).requires_grad is False


def test_grad_returns_gradients_of_leaves_and_results_and_changes_no_grad(torch: Any):
    x, w = torch.tensor([1.0, 2.0], requires_grad=True), torch.tensor(3.0, requires_grad=True)
    y = w * x
    loss = (y * y).sum()
    by_x, by_y, by_loss = torch.autograd.grad(loss, [x, y, loss], retain_graph=True)
    assert (by_x.tolist(), by_y.tolist(), by_loss.item()) == ([18, 36], [6, 12], 1)
    assert x.grad is None is w.grad
    (by_w,) = torch.autograd.grad(y, w, torch.tensor([1.0, 10.0]), retain_graph=True)
    assert by_w.item() == 21
    (of_both,) = torch.autograd.grad([loss, y.sum()], w)
    assert of_both.item() == 30 + 3
    with pytest.raises(RuntimeError):
        torch.autograd.grad(loss, x)
    loss = (x * x).sum()
    assert torch.autograd.grad(loss, [w, x], allow_unused=True)[0] is None


def test_grad_says_what_it_cannot_do():
    x, y = core.ones(2, requires_grad=True), core.ones(1, requires_grad=True)
    with pytest.raises(core.ArgumentError, match="create_graph needs derivatives of gradients"):
        core.autograd.grad((x * x).sum(), x, create_graph=True)
    for outputs in (x * x, core.ones(1)):
        with pytest.raises(core.GraphError, match="needs outputs that require a gradient: single numbers"):
            core.autograd.grad(outputs, x)
    with pytest.raises(core.GraphError, match="has no influence on the outputs"):
        core.autograd.grad((x * x).sum(), [x, y])
