"""Changes in place: outside a graph the memory changes, within one the tensor becomes a new result.

Each program runs on core and on torch. Both give the same values and gradients, or core raises where it cannot.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from statezoo import core
from statezoo.core import Tensor, no_grad
from statezoo.core.errors import ArgumentError, GraphError, ShapeError


def leaf(*values: float) -> Tensor:
    return Tensor(np.array(values, np.float64), requires_grad=True)


def _residual(t: Any, w: Any) -> Any:
    x = w * 2
    shortcut = x
    x = x * 3
    x += shortcut
    return (x * w).sum()


def _used_before(t: Any, w: Any) -> Any:
    x = w + 1
    y = x + 2
    x += w
    return (y.sum() + (x * w).sum()) * 2


def _row(t: Any, w: Any) -> Any:
    x = w * 1
    x[1] += w[0] * 3
    x[:1] *= 2
    return (x * x).sum()


def _written(t: Any, w: Any) -> Any:
    out = t.zeros(3, 2, dtype=t.float64)
    for step in range(3):
        out[step] = w[:2] * (step + 1)
    out[0, 0] = 5
    return (out * out).sum()


def _list_index(t: Any, w: Any) -> Any:
    x = w * 2
    x[[0, 2]] = w[1] * w[:2]
    x[x > 100] = 0
    return (x * x).sum()


def _many(t: Any, w: Any) -> Any:
    x = w * 1.5
    x.mul_(w).add_(w, alpha=2).sub_(0.5).div_(3).pow_(2)
    x.neg_().sub_(1).clamp_(-4, -1.5)
    x.masked_fill_(t.tensor([True, False, False]), 0.25)
    return (x * w).sum()


def _products(t: Any, w: Any) -> Any:
    x = w * 1
    x.addcmul_(w, w, value=0.5).addcdiv_(w, w + 1, value=2).lerp_(w, 0.3)
    return x.prod()


def _activations(t: Any, w: Any) -> Any:
    x = (w - 0.5) * 1
    x.relu_()
    y = x + w
    y.sigmoid_()
    z = y + 1
    z.tanh_()
    return (z * 2).sum()


def _placed(t: Any, w: Any) -> Any:
    x = t.zeros(3, dtype=t.float64)
    x.scatter_add_(0, t.tensor([0, 0, 2]), w)
    x.index_add_(0, t.tensor([1, 1]), w[:2] * w[1:])
    x.scatter_(0, t.tensor([2]), w[:1] * 3)
    return (x * x).sum()


def _overwritten(t: Any, w: Any) -> Any:
    x = w * 2
    x.copy_(w * 3)
    y = w * 5
    y.zero_()
    y[0] = w[0]
    return (x * x).sum() + y.sum()


def _view_of_a_result(t: Any, w: Any) -> Any:
    x = (w * 2).view(1, 3).transpose(0, 1)
    x += w.view(3, 1)
    return (x * x).sum()


def _reshaped(t: Any, w: Any) -> Any:
    x = w * 2
    x.unsqueeze_(0)
    return (x.t_() * w).sum()


def _powers(t: Any, w: Any) -> Any:
    x = w * 1
    x **= 2
    x %= 1.7
    x -= 1
    x /= w
    return x.sum()


def _accumulated(t: Any, w: Any) -> Any:
    total = 0
    for row in range(3):
        total += (w[row] * w).sum()
    return total


PROGRAMS: list[Callable[[Any, Any], Any]] = [
    _residual, _used_before, _row, _written, _list_index, _many, _products, _activations, _placed, _overwritten,
    _view_of_a_result, _reshaped, _powers, _accumulated,
]  # fmt: skip


class _Torch:
    """The names of torch that the programs use, in core."""

    float64 = np.float64

    def __getattr__(self, name: str) -> Any:
        return getattr(core, name)

    def zeros(self, *shape: int, dtype: Any = np.float32) -> Tensor:
        return Tensor(np.zeros(shape, dtype))


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_gradient_of_a_program_agrees_with_central_differences(
    program: Callable[[Any, Any], Any], differences_agree: Callable[..., None]
) -> None:
    differences_agree(lambda w: program(_Torch(), w), np.array([0.7, 1.3, 0.9]))


@pytest.mark.torch
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_agrees_with_torch(program: Callable[[Any, Any], Any]) -> None:
    torch = pytest.importorskip("torch")
    ours, theirs = leaf(0.7, 1.3, 0.9), torch.tensor([0.7, 1.3, 0.9], dtype=torch.float64, requires_grad=True)
    mine, other = program(_Torch(), ours), program(torch, theirs)
    assert mine.item() == pytest.approx(other.item())
    mine.backward()
    other.backward()
    np.testing.assert_allclose(np.asarray(ours.grad), theirs.grad.numpy())


# --- what is refused


REFUSED: dict[str, Callable[[Tensor], Any]] = {
    "add_": lambda w: w.add_(1),
    "zero_": lambda w: w.zero_(),
    "an index": lambda w: w.__setitem__(0, 9),
    "a view": lambda w: w[1:].mul_(2),
    "a view of a view": lambda w: w.view(1, 2).t().add_(1),
    "a row": lambda w: w[0].__iadd__(1),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_leaf_that_requires_a_gradient_is_not_changed_in_place(name: str) -> None:
    w = leaf(1, 2)
    with pytest.raises(GraphError, match=r"a leaf that requires a gradient cannot be changed in place.*no_grad\(\)"):
        REFUSED[name](w)
    assert w.tolist() == [1, 2]
    with no_grad():
        REFUSED[name](w)
    assert w.tolist() != [1, 2]


def test_a_gradient_that_needs_changed_memory_is_an_error_and_changes_no_grad() -> None:
    w, x = leaf(1, 2), Tensor(np.array([3.0, 4.0]))
    out = (w * x).sum()
    x += 1
    with pytest.raises(GraphError, match=r"the gradient of multiply needs an array of shape \(2,\) that was changed"):
        out.backward()
    assert w.grad is None
    out = (w * w).sum()
    with no_grad():
        w *= 2
    with pytest.raises(GraphError, match="changed in place after the forward pass"):
        out.backward()


def test_memory_that_no_gradient_needs_may_change() -> None:
    w, x = leaf(1, 2), Tensor(np.array([3.0, 4.0]))
    out = (w + x).sum()
    x += 1
    out.backward()
    assert w.grad is not None
    assert w.grad.tolist() == [1, 1]


def test_a_tensor_over_memory_whose_values_were_replaced_cannot_be_used() -> None:
    w = leaf(1, 2, 3)
    x = w * 2
    row, apart = x[:2], x[2:]
    row += 1
    assert (apart * 1).tolist() == [6]
    with pytest.raises(GraphError, match=r"shares memory with one that was changed in place within the graph"):
        _ = x * 2
    with pytest.raises(GraphError, match="does not show the change"):
        _ = x > 0


def test_outside_a_graph_views_and_arrays_see_the_change() -> None:
    x = Tensor(np.zeros(4))
    view = x.view(2, 2)
    view[0].fill_(3)
    x[3] = 7
    x.clamp_(max=5)
    assert view.tolist() == [[3, 3], [0, 5]]


def test_a_tensor_array_has_the_methods_in_place() -> None:
    w = leaf(1, 2)
    (w * w).sum().backward()
    assert w.grad is not None
    w.grad.mul_(10).add_(1)
    assert w.grad.tolist() == [21, 41]
    w.grad.zero_()
    w.data.clamp_(-1, 1)
    w.data.add_(w.grad, alpha=-0.1)
    assert w.grad.tolist() == [0, 0]
    assert w.tolist() == [1, 1]
    w.data.normal_(0, 0.02)
    w.data.uniform_(2, 3)
    assert (w.data >= 2).all()
    assert w.grad.norm(2).item() == 0
    assert core.sum(w.data).item() == w.data.sum()
    assert core.stack([w.grad, w.grad]).shape == (2, 2)
    assert w.data.argsort(dim=0).shape == (2,)  # pyright: ignore[reportCallIssue]
    assert Tensor(np.zeros((2, 3))).data.transpose(0, 1).shape == (3, 2)
    assert w.grad.device == core.device("cpu")


def test_errors_say_what_does_not_fit() -> None:
    x = Tensor(np.zeros(2, np.float32))
    with pytest.raises(ShapeError, match=r"add in place cannot broadcast shape \(3, 2\) to \(2,\)"):
        x.add_(np.zeros((3, 2)))
    count = Tensor([1, 2])
    with pytest.raises(ArgumentError, match="add in place cannot keep float32 in int64"):
        count += 0.5
    with pytest.raises(ArgumentError, match="divide in place cannot keep float32 in int64"):
        count /= 2
    count //= 2
    assert count.tolist() == [0, 1]
    with pytest.raises(ArgumentError, match="cannot be kept in a tensor of int64"):
        count[0] = leaf(1)[0]


def test_a_change_in_place_keeps_the_object_and_the_name_of_its_operation() -> None:
    w = leaf(1, 2)
    x = w * 2
    same = x
    x += 1
    assert same is x
    assert x.grad_fn is not None
    assert x.grad_fn.name() == "AddBackward0"
    assert not x.is_leaf
    assert w.is_leaf
    assert w.grad_fn is None


# --- hooks, retained gradients and graphs


def test_a_gradient_of_a_result_is_kept_if_asked_for() -> None:
    w = leaf(1, 2)
    x = w * 3
    x.retain_grad()
    (x * x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [6, 12]
    assert np.asarray(w.grad).tolist() == [18, 36]


def test_hooks_see_and_replace_gradients_until_they_are_removed() -> None:
    w, seen = leaf(1, 2), []
    x = w * 3
    x.register_hook(lambda g: g * 2)
    handle = w.register_hook(lambda g: seen.append(g.tolist()))
    w.register_hook(lambda g: g.clamp(max=7))
    (x.sum() + w.sum()).backward()
    assert seen == [[7, 7]]
    handle.remove()
    w.sum().backward()
    assert len(seen) == 1
    assert np.asarray(w.grad).tolist() == [8, 8]
    with pytest.raises(GraphError, match="a hook needs a tensor that requires a gradient"):
        Tensor([1.0]).register_hook(print)


def test_a_retained_graph_gives_the_same_gradient_again() -> None:
    x = core.Tensor(np.random.default_rng(0).standard_normal((4, 3)), requires_grad=True)
    loss = core.functional.cross_entropy(core.functional.gelu(x) @ x.T, [0, 1, 2, 3]) + x.softmax(1).exp().sum()
    loss.backward(retain_graph=True)
    first = np.array(x.grad)
    x.grad = None
    loss.backward(retain_graph=True)
    assert np.array_equal(first, np.asarray(x.grad))
    loss.backward()
    np.testing.assert_allclose(np.asarray(x.grad), first + first, rtol=1e-12)
    with pytest.raises(GraphError, match="retain_graph=True"):
        loss.backward()
    with pytest.raises(GraphError, match="create_graph must be False"):
        loss.backward(create_graph=True)


def test_a_graph_from_before_a_step_of_an_optimizer_cannot_be_used_again():
    model = core.nn.Sequential(core.nn.Linear(3, 4), core.nn.Linear(4, 1))
    optimizer = core.optim.SGD(model.parameters(), lr=0.1)
    loss = model(core.ones(2, 3)).sum()
    loss.backward(retain_graph=True)
    optimizer.step()
    with pytest.raises(GraphError, match="changed in place after the forward pass, perhaps by a step of an optimizer"):
        loss.backward()
