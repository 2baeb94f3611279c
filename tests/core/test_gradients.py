"""The gradient of every differentiable operation, over shapes drawn at random.

One table, OPERATIONS, names each; one test takes all of them along random directions against central differences in
float64, another against PyTorch, and a third fails if a public operation is missing from the table.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statezoo import core
from statezoo.core import Tensor
from statezoo.core import functional as F

Check = Callable[..., None]
Shape = tuple[int, ...]

# Two axes at least, so that operations may reduce over, exchange or merge some.
shapes = st.lists(st.integers(1, 4), min_size=2, max_size=4).map(tuple)
seeds = st.integers(0, 2**32 - 1)
drawn = settings(derandomize=True, deadline=None, max_examples=8)


class Operation(NamedTuple):
    """run: the operation, given a name space of functions and its operands. operands: their shapes for a shape drawn.

    positive: whether the operands must be above 0.
    """

    run: Callable[..., Any]
    operands: Callable[[Shape], list[Shape]] = lambda shape: [shape]
    positive: bool = False


class Ours:
    """What torch and torch.nn.functional are to the operations, here."""

    functional, cat, stack, where, array = F, staticmethod(core.cat), staticmethod(core.stack), core.where, np.array


def _two(shape: Shape) -> list[Shape]:
    return [shape, shape]


def _broadcast(shape: Shape) -> list[Shape]:
    return [shape, (shape[0], *(1 for _ in shape[1:]))]


def _products(shape: Shape) -> list[Shape]:
    return [shape, (*shape[:-2], shape[-1], 3)]


def _linear(shape: Shape) -> list[Shape]:
    return [shape, (3, shape[-1]), (3,)]


def _normalised(shape: Shape) -> list[Shape]:
    return [(*shape, 3), (3,), (3,)]


def _channels(shape: Shape) -> list[Shape]:
    return [(shape[0] + 2, shape[1]), (shape[1],), (shape[1],)]


def _attended(shape: Shape) -> list[Shape]:
    return [(*shape, 3), (*shape[:-1], 5, 3), (*shape[:-1], 5, 2)]


def _classes(shape: Shape) -> np.ndarray:
    """Return a class for each row of logits of this shape."""
    rows = (shape[0], *shape[2:])
    return np.arange(int(np.prod(rows))).reshape(rows) % shape[1]


def _mask(shape: Shape) -> np.ndarray:
    return np.arange(int(np.prod(shape))).reshape(shape) % 3 == 0


OPERATIONS = {
    "Tensor.__add__": Operation(lambda _, a, b: a + b, _broadcast),
    "Tensor.__radd__": Operation(lambda _, a: 2.5 + a),
    "Tensor.__sub__": Operation(lambda _, a, b: a - b, _broadcast),
    "Tensor.__rsub__": Operation(lambda _, a: 2.5 - a),
    "Tensor.__mul__": Operation(lambda _, a, b: a * b, _broadcast),
    "Tensor.__rmul__": Operation(lambda _, a: 2.5 * a),
    "Tensor.__truediv__": Operation(lambda _, a, b: a / b, _broadcast, positive=True),
    "Tensor.__rtruediv__": Operation(lambda _, a: 2.5 / a, positive=True),
    "Tensor.__pow__": Operation(lambda _, a, b: a**b, _broadcast, positive=True),
    "Tensor.__rpow__": Operation(lambda _, a: 1.5**a),
    "Tensor.__matmul__": Operation(lambda _, a, b: a @ b, _products),
    "Tensor.__neg__": Operation(lambda _, a: -a),
    "Tensor.__abs__": Operation(lambda _, a: abs(a)),
    "Tensor.__getitem__": Operation(lambda _, a: a[..., 0]),
    "Tensor.__getitem__, repeated rows": Operation(lambda _, a: a[[0, 0, -1]]),
    "Tensor.__iter__": Operation(lambda t, a: t.stack(list(a), 0)),
    "Tensor.abs": Operation(lambda _, a: a.abs()),
    "Tensor.exp": Operation(lambda _, a: (a / 9).exp()),
    "Tensor.log": Operation(lambda _, a: a.log(), positive=True),
    "Tensor.sqrt": Operation(lambda _, a: a.sqrt(), positive=True),
    "Tensor.tanh": Operation(lambda _, a: a.tanh()),
    "Tensor.sigmoid": Operation(lambda _, a: a.sigmoid()),
    "Tensor.relu": Operation(lambda _, a: a.relu()),
    "Tensor.clamp": Operation(lambda _, a: a.clamp(-1, 1)),
    "Tensor.masked_fill": Operation(lambda t, a: a.masked_fill(t.array(_mask(a.shape)), 0.5)),
    "Tensor.sum": Operation(lambda _, a: a.sum()),
    "Tensor.sum, over two": Operation(lambda _, a: a.sum((0, -1), keepdim=True)),
    "Tensor.mean": Operation(lambda _, a: a.mean(1)),
    "Tensor.var": Operation(lambda _, a: a.var((0, 1), correction=0)),
    "Tensor.std": Operation(lambda t, a: t.stack([a, 2 * a + 1], 0).std(0)),
    "Tensor.max": Operation(lambda _, a: a.max()),
    "Tensor.max, over one": Operation(lambda _, a: a.max(1)[0]),
    "Tensor.min": Operation(lambda _, a: a.min()),
    "Tensor.min, over one": Operation(lambda _, a: a.min(-1)[0]),
    "Tensor.T": Operation(lambda _, a: a.flatten(1).T),
    "Tensor.reshape": Operation(lambda _, a: a.reshape(-1)),
    "Tensor.view": Operation(lambda _, a: a.view(-1, a.shape[-1])),
    "Tensor.flatten": Operation(lambda _, a: a.flatten(0, 1)),
    "Tensor.transpose": Operation(lambda _, a: a.transpose(0, -1)),
    "Tensor.permute": Operation(lambda _, a: a.permute(*range(1, len(a.shape)), 0)),
    "Tensor.squeeze": Operation(lambda _, a: a.squeeze(0)),
    "Tensor.unsqueeze": Operation(lambda _, a: a.unsqueeze(1)),
    "Tensor.expand": Operation(lambda _, a: a.expand(3, *a.shape)),
    "Tensor.clone": Operation(lambda _, a: a.clone() * a),
    "Tensor.contiguous": Operation(lambda _, a: a.transpose(0, 1).contiguous()),
    "Tensor.to": Operation(lambda _, a: a.to(a.dtype) * a),
    "Tensor.double": Operation(lambda _, a: a.double().to(a.dtype)),
    "core.cat": Operation(lambda t, a, b: t.cat([a, b], 1), _two),
    "core.stack": Operation(lambda t, a, b: t.stack([a, b], 1), _two),
    "core.where": Operation(lambda t, a, b: t.where(t.array(_mask(a.shape)), a, b), _broadcast),
    "F.relu": Operation(lambda t, a: t.functional.relu(a)),
    "F.sigmoid": Operation(lambda t, a: t.functional.sigmoid(a)),
    "F.tanh": Operation(lambda t, a: t.functional.tanh(a)),
    "F.gelu": Operation(lambda t, a: t.functional.gelu(a)),
    "F.gelu, by tanh": Operation(lambda t, a: t.functional.gelu(a, approximate="tanh")),
    "F.softmax": Operation(lambda t, a: t.functional.softmax(a, dim=1)),
    "F.log_softmax": Operation(lambda t, a: t.functional.log_softmax(a, dim=0)),
    "F.linear": Operation(lambda t, a, w, b: t.functional.linear(a, w, b), _linear),
    "F.linear, no bias": Operation(lambda t, a, w: t.functional.linear(a, w), lambda shape: _linear(shape)[:2]),
    "F.embedding": Operation(
        lambda t, w: t.functional.embedding(t.array(np.array([[0, len(w) - 1], [0, 0]])), w), lambda shape: [shape[:2]]
    ),
    "F.dropout": Operation(lambda t, a: t.functional.dropout(a, 0.0) * a),
    "F.layer_norm": Operation(
        lambda t, a, w, b: F.layer_norm(a, w, b) if t is Ours else t.functional.layer_norm(a, a.shape[-1:], w, b),
        _normalised,
    ),
    "F.batch_norm": Operation(
        lambda t, a, w, b: t.functional.batch_norm(a, None, None, w, b, training=True), _channels
    ),
    "F.scaled_dot_product_attention": Operation(
        lambda t, q, k, v: t.functional.scaled_dot_product_attention(q, k, v), _attended
    ),
    "F.scaled_dot_product_attention, causal": Operation(
        lambda t, q, k, v: t.functional.scaled_dot_product_attention(q, k, v, is_causal=True), _attended
    ),
    "F.mse_loss": Operation(lambda t, a, b: t.functional.mse_loss(a, b), _two),
    "F.binary_cross_entropy_with_logits": Operation(
        lambda t, a, b: t.functional.binary_cross_entropy_with_logits(a, b), _two
    ),
    "F.cross_entropy": Operation(lambda t, a: t.functional.cross_entropy(a, t.array(_classes(a.shape)))),
    "F.cross_entropy, smoothed": Operation(
        lambda t, a: t.functional.cross_entropy(a, t.array(_classes(a.shape)), label_smoothing=0.1, reduction="sum")
    ),
    "F.cross_entropy, of probabilities": Operation(lambda t, a, q: t.functional.cross_entropy(a, q), _two),
}

# What has no gradient, changes in place, casts or only tells; `float` cannot be checked by differences in float64.
_NAMES = """
all any argmax argmin backward detach dtype float item long ndim numel numpy requires_grad requires_grad_ shape size
data grad __and__ __or__ __invert__ __eq__ __ne__ __lt__ __le__ __gt__ __ge__ __iadd__ __isub__ __imul__ __itruediv__
__setitem__ __len__ __bool__ __int__ __float__ __index__ __array__ __array_ufunc__ __repr__ __format__ __hash__
__init__
"""
WITHOUT_GRADIENT = set(_NAMES.split())
# `a @ tensor` of an array: the same function with its operands exchanged, of which only one is a Tensor.
EXCHANGED = {"__rmatmul__"}


def _operands(operation: Operation, shape: Shape, seed: int) -> list[np.ndarray]:
    """Return distinct values in random order, none near 0 or +-1, where some operations have no derivative."""
    random = np.random.default_rng(seed)
    arrays = []
    for wanted in operation.operands(shape):
        count = int(np.prod(wanted))
        low = 1 if operation.positive else -(count // 2)
        arrays.append(((random.permutation(count) + low) * 0.07 + 0.0123).reshape(wanted))
    return arrays


@pytest.mark.parametrize("name", OPERATIONS)
@drawn
@given(shape=shapes, seed=seeds)
def test_gradient_agrees_with_central_differences(name: str, shape: Shape, seed: int, differences_agree: Check) -> None:
    operation = OPERATIONS[name]
    differences_agree(lambda *x: operation.run(Ours, *x), *_operands(operation, shape, seed))


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", OPERATIONS)
@drawn
@given(shape=shapes, seed=seeds)
def test_gradient_agrees_with_torch(name: str, shape: Shape, seed: int, torch_agrees: Check) -> None:
    torch = pytest.importorskip("torch")

    class Theirs:
        functional, cat, stack, where = torch.nn.functional, torch.cat, torch.stack, torch.where
        array = torch.tensor

    operation = OPERATIONS[name]
    arrays = _operands(operation, shape, seed)
    torch_agrees(lambda *x: operation.run(Ours, *x), *arrays, theirs=lambda *x: operation.run(Theirs, *x), ulps=2048)


def test_every_public_operation_is_in_the_table() -> None:
    of_tensors = {
        name
        for name in vars(Tensor)
        if (not name.startswith("_") or (name.startswith("__") and callable(getattr(Tensor, name))))
        and name not in vars(object).keys() - {"__eq__", "__ne__"}
    }
    public = {f"Tensor.{name}" for name in of_tensors - WITHOUT_GRADIENT - EXCHANGED}
    public |= {f"F.{name}" for name in F.__all__} | {"core.cat", "core.stack", "core.where"}
    assert public == {name.split(",")[0] for name in OPERATIONS}
