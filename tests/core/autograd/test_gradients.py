"""The gradient of every differentiable operation, with random shapes, broadcasts and memory layouts.

The table OPERATIONS lists them all. One test compares each with central differences along random directions in
float64, another compares it with PyTorch, and a third fails if a public operation is missing from the table.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from statezoo import core
from statezoo.core import Tensor
from statezoo.core import functional as F
from statezoo.core.autograd import indexing, operations, reductions, shaping
from statezoo.core.nn.functional import spatial

from .function_table import CALLS, OTHERS

FUNCTIONS = (indexing, operations, reductions, shaping)
Check = Callable[..., None]
Shape = tuple[int, ...]
Shapes = st.SearchStrategy[list[Shape]]


def _of(axes: int = 0, elements: bool = False) -> st.SearchStrategy[Shape]:
    """Draw a shape with at least `axes` axes. It may be empty unless `elements` is True."""
    sides = st.sampled_from([2, 3, 1, 4, 2, 3, 1, 4, 2, 3, 1 if elements else 0])
    return st.lists(sides, min_size=axes, max_size=4).map(tuple)


def _one(axes: int = 0, elements: bool = False) -> Shapes:
    return _of(axes, elements).map(lambda shape: [shape])


def _two(axes: int = 0, elements: bool = False) -> Shapes:
    return _of(axes, elements).map(lambda shape: [shape, shape])


def _broadcasting(signature: str, least: int = 0) -> Shapes:
    """Draw shapes that broadcast together; in each, some leading axes are missing or have size 1."""
    drawn = hnp.mutually_broadcastable_shapes(signature=signature, min_side=least, max_side=4, max_dims=3)
    return drawn.map(lambda together: list(together.input_shapes))


_PAIR = _broadcasting("(),()->()", least=1) | _broadcasting("(),()->()")
_PRODUCTS = _broadcasting("(n?,k),(k,m?)->(n?,m?)", least=1) | _broadcasting("(n?,k),(k,m?)->(n?,m?)")
_ATTENDED = _broadcasting("(l,d),(s,d),(s,e)->(l,e)", least=1)
_MASKED = _of(1, elements=True).map(lambda s: [(*s, 3), (*s[:-1], 5, 3), (*s[:-1], 5, 2), (s[-1], 5)])
_PACKED = st.tuples(st.integers(0, 3), st.integers(1, 4), st.integers(1, 3)).map(
    lambda s: [(s[0], s[1], 3 * 2 * s[2]), (s[1], s[1])]
)
_LINEAR = _of(1).map(lambda s: [s, (3, s[-1]), (3,)])
_NORMALISED = _of().map(lambda s: [(*s, 3), (3,), (3,)])
_CHANNELS = _of(2, elements=True).map(lambda s: [(s[0] + 2, *s[1:3]), (s[1],), (s[1],)])
_IMAGES = _of(2, elements=True).map(lambda s: [(s[0], 4, 3, s[1]), (4,), (4,)])
_LOGITS = _one(2, elements=True) | _of(1, elements=True).map(lambda s: [s[:1]])
_JOINED = _of(2).map(lambda s: [s, (s[0], 2, *s[2:])])

_VECTORS = _two(1, elements=True)

seeds = st.integers(0, 2**32 - 1)
drawn = settings(derandomize=True, deadline=None, max_examples=12)


class Operation(NamedTuple):
    """An operation. run: calls it, given a namespace of functions and its operands. operands: draws their shapes.

    positive: whether the operands must be above 0.
    """

    run: Callable[..., Any]
    operands: Shapes = _one()
    positive: bool = False


class Ours:
    """A namespace of our functions, like torch and torch.nn.functional."""

    functional, cat, stack, where, array = F, staticmethod(core.cat), staticmethod(core.stack), core.where, np.array
    packed_attention = staticmethod(F.packed_attention)


def _classes(shape: Shape) -> np.ndarray:
    """Return a target class for each row of logits of this shape."""
    rows = (shape[0], *shape[2:]) if len(shape) > 1 else ()
    return np.arange(int(np.prod(rows))).reshape(rows) % shape[min(1, len(shape) - 1)]


def _signs(shape: Shape) -> np.ndarray:
    """Return 1 and -1 in turn."""
    return np.where(np.arange(int(np.prod(shape))).reshape(shape) % 2, -1, 1)


def _mask(*shapes: Shape) -> np.ndarray:
    """Return a mask in the shape that these broadcast to."""
    shape = np.broadcast_shapes(*map(tuple, shapes))
    return np.arange(int(np.prod(shape))).reshape(shape) % 3 == 0


OPERATIONS = {
    "Tensor.__add__": Operation(lambda _, a, b: a + b, _PAIR),
    "Tensor.__radd__": Operation(lambda _, a: 2.5 + a),
    "Tensor.__sub__": Operation(lambda _, a, b: a - b, _PAIR),
    "Tensor.__rsub__": Operation(lambda _, a: 2.5 - a),
    "Tensor.__mul__": Operation(lambda _, a, b: a * b, _PAIR),
    "Tensor.__rmul__": Operation(lambda _, a: 2.5 * a),
    "Tensor.__truediv__": Operation(lambda _, a, b: a / b, _PAIR, positive=True),
    "Tensor.__rtruediv__": Operation(lambda _, a: 2.5 / a, positive=True),
    "Tensor.__pow__": Operation(lambda _, a, b: a**b, _PAIR, positive=True),
    "Tensor.__rpow__": Operation(lambda _, a: 1.5**a),
    "Tensor.__matmul__": Operation(lambda _, a, b: a @ b, _PRODUCTS),
    "Tensor.__neg__": Operation(lambda _, a: -a),
    "Tensor.__abs__": Operation(lambda _, a: abs(a)),
    "Tensor.__getitem__": Operation(lambda _, a: a[..., 0], _one(1, elements=True)),
    "Tensor.__getitem__, repeated rows": Operation(lambda _, a: a[[0, 0, -1]], _one(1, elements=True)),
    "Tensor.__iter__": Operation(lambda t, a: t.stack(list(a), 0), _one(1, elements=True)),
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
    "Tensor.sum, over two": Operation(lambda _, a: a.sum((0, -1), keepdim=True), _one(2)),
    "Tensor.sum, from the end": Operation(lambda _, a: a.sum(-2), _one(2)),
    "Tensor.mean": Operation(lambda _, a: a.mean(1), _one(2, elements=True)),
    "Tensor.mean, from the end, kept": Operation(lambda _, a: a.mean(-1, keepdim=True), _one(1, elements=True)),
    "Tensor.var": Operation(lambda _, a: a.var((0, 1), correction=0), _one(2, elements=True)),
    "Tensor.var, from the end, kept": Operation(
        lambda _, a: a.var(-2, correction=0, keepdim=True), _one(2, elements=True)
    ),
    "Tensor.std": Operation(lambda t, a: t.stack([a, 2 * a + 1], 0).std(0), _one(elements=True)),
    "Tensor.std, from the end, kept": Operation(
        lambda t, a: t.stack([a, a + 1, a * 2], -1).std((0, -1), keepdim=True), _one(1, elements=True)
    ),
    "Tensor.max": Operation(lambda _, a: a.max(), _one(elements=True)),
    "Tensor.max, over one": Operation(lambda _, a: a.max(1)[0], _one(2, elements=True)),
    "Tensor.max, from the end, kept": Operation(lambda _, a: a.max(-2, keepdim=True)[0], _one(2, elements=True)),
    "Tensor.min": Operation(lambda _, a: a.min(), _one(elements=True)),
    "Tensor.min, over one": Operation(lambda _, a: a.min(-1)[0], _one(1, elements=True)),
    "Tensor.T": Operation(lambda _, a: a.flatten(1).T, _one(2)),
    "Tensor.reshape": Operation(lambda _, a: a.reshape(-1)),
    "Tensor.view": Operation(lambda _, a: a.clone().view(-1, a.shape[-1]), _one(1, elements=True)),
    "Tensor.flatten": Operation(lambda _, a: a.flatten(0, 1), _one(2)),
    "Tensor.flatten, from the end": Operation(lambda _, a: a.flatten(-2, -1), _one(2)),
    "Tensor.transpose": Operation(lambda _, a: a.transpose(0, -1), _one(1)),
    "Tensor.permute": Operation(lambda _, a: a.permute(*range(1, len(a.shape)), 0), _one(1)),
    "Tensor.permute, from the end": Operation(lambda _, a: a.permute(-1, *range(len(a.shape) - 1)), _one(1)),
    "Tensor.squeeze": Operation(lambda _, a: a.squeeze(0), _one(1)),
    "Tensor.unsqueeze": Operation(lambda _, a: a.unsqueeze(1), _one(1)),
    "Tensor.unsqueeze, at the end": Operation(lambda _, a: a.unsqueeze(-1)),
    "Tensor.expand": Operation(lambda _, a: a.expand(3, *a.shape)),
    "Tensor.expand, along axes of size 1": Operation(lambda _, a: a.unsqueeze(-1).expand(2, *a.shape, 3)),
    "Tensor.clone": Operation(lambda _, a: a.clone() * a),
    "Tensor.contiguous": Operation(lambda _, a: a.transpose(0, 1).contiguous(), _one(2)),
    "Tensor.to": Operation(lambda _, a: a.to(a.dtype) * a),
    "Tensor.double": Operation(lambda _, a: a.double().to(a.dtype)),
    "core.cat": Operation(lambda t, a, b: t.cat([a, b], 1), _JOINED),
    "core.cat, along the last": Operation(lambda t, a, b: t.cat([a, b, a], -1), _two(1)),
    "core.stack": Operation(lambda t, a, b: t.stack([a, b], 1), _two(1)),
    "core.stack, along the last": Operation(lambda t, a, b: t.stack([a, b, a], -1), _two()),
    "core.where": Operation(lambda t, a, b: t.where(t.array(_mask(a.shape, b.shape)), a, b), _PAIR),
    "F.relu": Operation(lambda t, a: t.functional.relu(a)),
    "F.sigmoid": Operation(lambda t, a: t.functional.sigmoid(a)),
    "F.tanh": Operation(lambda t, a: t.functional.tanh(a)),
    "F.gelu": Operation(lambda t, a: t.functional.gelu(a)),
    "F.gelu, by tanh": Operation(lambda t, a: t.functional.gelu(a, approximate="tanh")),
    "F.celu": Operation(lambda t, a: t.functional.celu(a)),
    "F.elu": Operation(lambda t, a: t.functional.elu(a)),
    "F.hardshrink": Operation(lambda t, a: t.functional.hardshrink(a)),
    "F.hardswish": Operation(lambda t, a: t.functional.hardswish(a)),
    "F.hardtanh": Operation(lambda t, a: t.functional.hardtanh(a)),
    "F.leaky_relu": Operation(lambda t, a: t.functional.leaky_relu(a)),
    "F.logsigmoid": Operation(lambda t, a: t.functional.logsigmoid(a)),
    "F.mish": Operation(lambda t, a: t.functional.mish(a)),
    "F.relu6": Operation(lambda t, a: t.functional.relu6(a)),
    "F.selu": Operation(lambda t, a: t.functional.selu(a)),
    "F.silu": Operation(lambda t, a: t.functional.silu(a)),
    "F.softplus": Operation(lambda t, a: t.functional.softplus(a)),
    "F.softshrink": Operation(lambda t, a: t.functional.softshrink(a)),
    "F.softsign": Operation(lambda t, a: t.functional.softsign(a)),
    "F.tanhshrink": Operation(lambda t, a: t.functional.tanhshrink(a)),
    "F.threshold": Operation(lambda t, a: t.functional.threshold(a, 0.1, 20)),
    "F.softmin": Operation(lambda t, a: t.functional.softmin(a, dim=0), _one(1)),
    "F.glu": Operation(lambda t, a: t.functional.glu(a, dim=0), _of(1).map(lambda s: [(2 * s[0], *s[1:])])),
    "F.prelu": Operation(lambda t, a, w: t.functional.prelu(a, w), _of().map(lambda s: [s, (1,)])),
    "F.prelu, of channels": Operation(lambda t, a, w: t.functional.prelu(a, w), _of(2).map(lambda s: [s, s[1:2]])),
    "F.rrelu": Operation(lambda t, a: t.functional.rrelu(a)),
    "F.softmax": Operation(lambda t, a: t.functional.softmax(a, dim=1), _one(2)),
    "F.softmax, from the end": Operation(lambda t, a: t.functional.softmax(a, dim=-1), _one(1)),
    "F.log_softmax": Operation(lambda t, a: t.functional.log_softmax(a, dim=0), _one(1)),
    "F.log_softmax, from the end": Operation(lambda t, a: t.functional.log_softmax(a, dim=-2), _one(2)),
    "F.linear": Operation(lambda t, a, w, b: t.functional.linear(a, w, b), _LINEAR),
    "F.linear, no bias": Operation(lambda t, a, w: t.functional.linear(a, w), _LINEAR.map(lambda s: s[:2])),
    "F.embedding": Operation(
        lambda t, w: t.functional.embedding(t.array(np.array([[0, len(w) - 1], [0, 0]])), w),
        _of(2, elements=True).map(lambda s: [s[:2]]),
    ),
    "F.embedding_bag": Operation(
        lambda t, w: t.functional.embedding_bag(t.array(np.array([[0, len(w) - 1], [0, 0]])), w),
        _of(2, elements=True).map(lambda s: [s[:2]]),
    ),
    "F.embedding_bag, weighted": Operation(
        lambda t, w, f: t.functional.embedding_bag(
            t.array(np.array([0, len(w) - 1, 0])), w, t.array(np.array([0, 0, 2])), mode="sum", per_sample_weights=f
        ),
        _of(2, elements=True).map(lambda s: [s[:2], (3,)]),
    ),
    "F.embedding_bag, max": Operation(
        lambda t, w: t.functional.embedding_bag(t.array(np.array([[0, len(w) - 1], [0, 0]])), w, mode="max"),
        _of(2, elements=True).map(lambda s: [s[:2]]),
    ),
    "F.bilinear": Operation(
        lambda t, a, b, w, c: t.functional.bilinear(a, b, w, c),
        _of(2, elements=True).map(lambda s: [(*s[:1], 2), (*s[:1], 3), (s[1], 2, 3), (s[1],)]),
    ),
    "F.dropout": Operation(lambda t, a: t.functional.dropout(a, 0.0) * a),
    "F.dropout1d": Operation(lambda t, a: t.functional.dropout1d(a, 0.0) * a, _IMAGES.map(lambda s: [s[0][1:]])),
    "F.dropout2d": Operation(lambda t, a: t.functional.dropout2d(a, 0.0) * a, _IMAGES.map(lambda s: s[:1])),
    "F.dropout3d": Operation(lambda t, a: t.functional.dropout3d(a, 0.0) * a, _IMAGES.map(lambda s: s[:1])),
    "F.layer_norm": Operation(lambda t, a, w, b: t.functional.layer_norm(a, w.shape, w, b), _NORMALISED),
    "F.layer_norm, over two": Operation(lambda t, a: t.functional.layer_norm(a, a.shape[-2:]), _one(2, elements=True)),
    "F.rms_norm": Operation(lambda t, a, w, b: t.functional.rms_norm(a, w.shape, w, 1e-3) + b, _NORMALISED),
    "F.rms_norm, over two": Operation(lambda t, a: t.functional.rms_norm(a, a.shape[-2:]), _one(2, elements=True)),
    "F.group_norm": Operation(lambda t, a, w, b: t.functional.group_norm(a, 2, w, b), _IMAGES),
    "F.group_norm, without sizes": Operation(
        lambda t, a: t.functional.group_norm(a, 1), _of(1, elements=True).map(lambda s: [(s[0], 6)])
    ),
    "F.instance_norm": Operation(lambda t, a, w, b: t.functional.instance_norm(a, None, None, w, b), _IMAGES),
    "F.batch_norm, of images": Operation(
        lambda t, a, w, b: t.functional.batch_norm(a, None, None, w, b, training=True), _IMAGES
    ),
    "F.batch_norm": Operation(
        lambda t, a, w, b: t.functional.batch_norm(a, None, None, w, b, training=True), _CHANNELS
    ),
    "F.scaled_dot_product_attention": Operation(
        lambda t, q, k, v: t.functional.scaled_dot_product_attention(q, k, v), _ATTENDED
    ),
    "F.scaled_dot_product_attention, causal": Operation(
        lambda t, q, k, v: t.functional.scaled_dot_product_attention(q, k, v, is_causal=True), _ATTENDED
    ),
    "F.scaled_dot_product_attention, a mask that learns": Operation(
        lambda t, q, k, v, mask: t.functional.scaled_dot_product_attention(q, k, v, mask), _MASKED
    ),
    "F.packed_attention": Operation(
        lambda t, x: t.packed_attention(x, 2, is_causal=True), _PACKED.map(lambda shapes: shapes[:1])
    ),
    "F.packed_attention, a mask that learns": Operation(lambda t, x, mask: t.packed_attention(x, 2, mask), _PACKED),
    "F.mse_loss": Operation(lambda t, a, b: t.functional.mse_loss(a, b), _two(elements=True)),
    "F.l1_loss": Operation(lambda t, a, b: t.functional.l1_loss(a, b), _two(elements=True)),
    "F.smooth_l1_loss": Operation(lambda t, a, b: t.functional.smooth_l1_loss(a, b, beta=0.3), _two(elements=True)),
    "F.huber_loss": Operation(lambda t, a, b: t.functional.huber_loss(a, b, "none", 0.3), _two(elements=True)),
    "F.binary_cross_entropy": Operation(
        lambda t, a, b: t.functional.binary_cross_entropy(a.sigmoid(), b.sigmoid()), _two(elements=True)
    ),
    "F.kl_div": Operation(lambda t, a, b: t.functional.kl_div(a, b, reduction="sum"), _two(elements=True), True),
    "F.kl_div, of logarithms": Operation(
        lambda t, a, b: t.functional.kl_div(a, b, reduction="batchmean", log_target=True), _two(1, elements=True)
    ),
    "F.soft_margin_loss": Operation(
        lambda t, a: t.functional.soft_margin_loss(a, t.array(_signs(a.shape), dtype=a.dtype)), _one(elements=True)
    ),
    "F.poisson_nll_loss": Operation(lambda t, a, b: t.functional.poisson_nll_loss(a, b), _two(elements=True)),
    "F.poisson_nll_loss, of rates": Operation(
        lambda t, a, b: t.functional.poisson_nll_loss(a, b, log_input=False, full=True), _two(elements=True), True
    ),
    "F.gaussian_nll_loss": Operation(
        lambda t, a, b, v: t.functional.gaussian_nll_loss(a, b, v, full=True),
        _of(elements=True).map(lambda s: [s] * 3),
        True,
    ),
    "F.nll_loss": Operation(lambda t, a: t.functional.nll_loss(a, t.array(_classes(a.shape))), _LOGITS),
    "F.nll_loss, weighted, ignoring": Operation(
        lambda t, a: t.functional.nll_loss(
            a,
            t.array(_classes(a.shape)),
            weight=t.array(np.arange(1, a.shape[min(1, len(a.shape) - 1)] + 1), dtype=a.dtype),
            ignore_index=1,
            reduction="sum",
        ),
        _LOGITS,
    ),
    "F.cosine_similarity": Operation(lambda t, a, b: t.functional.cosine_similarity(a, b, dim=-1), _VECTORS),
    "F.cosine_embedding_loss": Operation(
        lambda t, a, b: t.functional.cosine_embedding_loss(a, b, t.array(_signs(a.shape[:-1])), margin=0.1),
        _of(1, elements=True).map(lambda s: [s[:2], s[:2]]),
    ),
    "F.hinge_embedding_loss": Operation(
        lambda t, a: t.functional.hinge_embedding_loss(a, t.array(_signs(a.shape)), margin=0.5), _one(elements=True)
    ),
    "F.margin_ranking_loss": Operation(
        lambda t, a, b: t.functional.margin_ranking_loss(a, b, t.array(_signs(a.shape)), margin=0.111),
        _two(elements=True),
    ),
    "F.multilabel_soft_margin_loss": Operation(
        lambda t, a, b: t.functional.multilabel_soft_margin_loss(a, b), _two(1, elements=True)
    ),
    "F.normalize": Operation(lambda t, a: t.functional.normalize(a, dim=0), _one(1, elements=True)),
    "F.pairwise_distance": Operation(lambda t, a, b: t.functional.pairwise_distance(a, 2 * b + 3), _VECTORS),
    "F.triplet_margin_loss": Operation(
        lambda t, a, b, c: t.functional.triplet_margin_loss(a, 2 * b + 3, 3 * c - 2, swap=True, margin=9.0),
        _of(1, elements=True).map(lambda s: [s] * 3),
    ),
    "F.binary_cross_entropy_with_logits": Operation(
        lambda t, a, b: t.functional.binary_cross_entropy_with_logits(a, b), _two(elements=True)
    ),
    "F.cross_entropy": Operation(lambda t, a: t.functional.cross_entropy(a, t.array(_classes(a.shape))), _LOGITS),
    "F.cross_entropy, weighted and smoothed": Operation(
        lambda t, a: t.functional.cross_entropy(
            a,
            t.array(_classes(a.shape)),
            weight=t.array(np.arange(1, a.shape[min(1, len(a.shape) - 1)] + 1), dtype=a.dtype),
            label_smoothing=0.2,
        ),
        _LOGITS,
    ),
    "F.cross_entropy, smoothed": Operation(
        lambda t, a: t.functional.cross_entropy(a, t.array(_classes(a.shape)), label_smoothing=0.1, reduction="sum"),
        _LOGITS,
    ),
    "F.cross_entropy, of probabilities": Operation(
        lambda t, a, q: t.functional.cross_entropy(a, q), _two(2, elements=True)
    ),
}

# Methods without a gradient: they work in place, cast, or only inform; `float` cannot be checked in float64.
_NAMES = """
all any argmax argmin backward detach dtype float item long ndim numel numpy requires_grad requires_grad_ shape size
data grad __and__ __or__ __invert__ __eq__ __ne__ __lt__ __le__ __gt__ __ge__ __iadd__ __isub__ __imul__ __itruediv__
__setitem__ __ifloordiv__ __imod__ __ipow__ __iand__ __ior__ __ixor__ __ilshift__ __irshift__ __rand__ __ror__ __xor__
__rxor__ __lshift__ __rshift__ __floordiv__ __rfloordiv__ __contains__ tolist is_cuda device cpu cuda type
is_contiguous half short int bool byte bfloat16 new_empty bernoulli multinomial __len__ __bool__ __int__ __float__
__index__ __array__ __array_ufunc__ __repr__ __format__ __hash__ __init__ __rmod__ __mod__ H reshape_as detach_
softmax log_softmax
"""
WITHOUT_GRADIENT = set(_NAMES.split())
# Without a gradient, random, in place, or computed with a 1/6 of float32 by PyTorch: in tests of layers.
ELSEWHERE = {"gumbel_softmax", "hardsigmoid", "one_hot"} | {name for name in F.__all__ if name.endswith("_")}
# `array @ tensor`: the same function with swapped operands, only one of which is a Tensor.
EXCHANGED = {"__rmatmul__"}


# Memory layouts of an array; each keeps the values.
LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "rows": np.copy,
    "columns": lambda a: np.copy(a, order="F"),
    "backwards": lambda a: np.flip(np.flip(a).copy()),
    "with gaps": lambda a: np.repeat(a[..., None], 2, axis=-1)[..., 0],
}


def _operands(shapes: list[Shape], positive: bool, seed: int) -> list[np.ndarray]:
    """Return distinct values in random order, none near 0 or +-1, where some operations are not differentiable."""
    random = np.random.default_rng(seed)
    arrays = []
    for shape in shapes:
        count = int(np.prod(shape))
        low = 1 if positive else -(count // 2)
        arrays.append(((random.permutation(count) + low) * 0.07 + 0.0123).reshape(shape))
    return arrays


def _ours(operation: Operation, layout: str) -> Callable[..., Tensor]:
    """Return our operation on read-only operands in the given memory layout."""

    def run(*operands: Tensor) -> Tensor:
        for operand in operands:
            operand.data = np.asarray(LAYOUTS[layout](operand.data))
            operand.data.flags.writeable = False
        return operation.run(Ours, *operands)

    return run


@pytest.mark.parametrize("name", OPERATIONS)
@drawn
@given(data=st.data(), layout=st.sampled_from(list(LAYOUTS)), seed=seeds)
def test_gradient_agrees_with_central_differences(
    name: str, data: st.DataObject, layout: str, seed: int, differences_agree: Check
) -> None:
    operation = OPERATIONS[name]
    arrays = _operands(data.draw(operation.operands, "shapes"), operation.positive, seed)
    differences_agree(_ours(operation, layout), *arrays)


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", OPERATIONS)
@drawn
@given(data=st.data(), layout=st.sampled_from(list(LAYOUTS)), seed=seeds)
def test_gradient_agrees_with_torch(
    name: str, data: st.DataObject, layout: str, seed: int, torch_agrees: Check
) -> None:
    torch = pytest.importorskip("torch")

    class Theirs:
        functional, cat, stack, where = torch.nn.functional, torch.cat, torch.stack, torch.where
        array = torch.tensor

        @staticmethod
        def packed_attention(x: Any, num_heads: int, mask: Any = None, is_causal: bool = False) -> Any:
            batch, length, features = x.shape
            split = x.view(batch, length, 3, num_heads, features // (3 * num_heads)).permute(2, 0, 3, 1, 4)
            mixed = torch.nn.functional.scaled_dot_product_attention(*split, attn_mask=mask, is_causal=is_causal)
            return mixed.transpose(1, 2).reshape(batch, length, features // 3)

    operation = OPERATIONS[name]
    arrays = _operands(data.draw(operation.operands, "shapes"), operation.positive, seed)
    torch_agrees(_ours(operation, layout), *arrays, theirs=lambda *x: operation.run(Theirs, *x), ulps=2048)


def test_every_method_is_in_a_table() -> None:
    of_tensors = {
        name
        for name in vars(Tensor)
        if (not name.startswith("_") or (name.startswith("__") and callable(getattr(Tensor, name))))
        and name not in vars(object).keys() - {"__eq__", "__ne__"}
    }
    elsewhere = {name.partition(",")[0] for name in CALLS | OTHERS}  # test_functions.py
    elsewhere |= {name for module in FUNCTIONS for name in module.__all__}  # test_dtypes.py
    elsewhere |= {name for name in of_tensors if name.endswith("_") and not name.startswith("_")}  # test_in_place.py
    table = {name.partition(",")[0].removeprefix("Tensor.") for name in OPERATIONS}
    assert of_tensors - WITHOUT_GRADIENT - EXCHANGED - elsewhere - table == set()


def test_every_function_of_nn_is_in_a_table() -> None:
    elsewhere = ELSEWHERE | set(spatial.__all__)  # with options: tests/core/nn/spatial/test_spatial_functions.py
    assert set(F.__all__) - elsewhere == {name.split(",")[0][2:] for name in OPERATIONS if name.startswith("F.")}
