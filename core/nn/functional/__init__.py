"""The differentiable functions of a network, as in torch.nn.functional.

linear and embedding are defined here; the others in activations.py, attention.py, dropping.py, entropy.py, losses.py,
normalization.py and, for relu, sigmoid and tanh, in autograd/operations.py. Each is one operation, its forward next to
its gradient.
"""

from __future__ import annotations

import math
from typing import Any, NoReturn

import numpy as np

from ...autograd.dtypes import widened
from ...autograd.operations import relu, sigmoid, tanh
from ...autograd.reductions import sum_rows
from ...autograd.tensor import Tensor, as_tensor, record
from ...errors import ArgumentError, ShapeError
from .activations import gelu, log_softmax, softmax
from .attention import packed_attention, scaled_dot_product_attention
from .dropping import dropout
from .entropy import cross_entropy
from .losses import binary_cross_entropy_with_logits, mse_loss
from .normalization import batch_norm, layer_norm

__all__ = [
    "batch_norm",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "dropout",
    "embedding",
    "gelu",
    "layer_norm",
    "linear",
    "log_softmax",
    "mse_loss",
    "packed_attention",
    "relu",
    "scaled_dot_product_attention",
    "sigmoid",
    "softmax",
    "tanh",
]


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return x @ weight.T + bias.

    x: (..., in) float; integers are cast to the dtype of weight.  weight: (out, in).  bias: (out,) or None.
    Returns (..., out).  Raises ShapeError naming all shapes if they do not fit.
    """
    x = as_tensor(x)
    a, w = x._data, weight._data
    if a.dtype is not w.dtype and a.dtype.kind in "iub":
        x = x.to(w.dtype)
        a = x._data
    is_flat, shape = a.ndim == 2, a.shape
    if w.ndim != 2 or shape[-1:] != w.shape[1:] or (bias is not None and bias._data.shape != w.shape[:1]):
        _refuse_linear(x, weight, bias)
    rows = a if is_flat else a.reshape(math.prod(shape[:-1]), shape[-1])  # (..., in) -> (rows, in)
    out = rows.dot(w.T)
    if bias is not None:
        np.add(out, bias._data, out)

    def backward(g: np.ndarray) -> tuple[np.ndarray | None, ...]:
        by_rows = g if is_flat else g.reshape(out.shape)  # (..., out) -> (rows, out)
        by_x = by_rows.dot(w) if x._requires_grad else None
        if by_x is not None and not is_flat:
            by_x = by_x.reshape(shape)
        by_weight = by_rows.T.dot(rows) if weight._requires_grad else None
        return (by_x, by_weight) if bias is None else (by_x, by_weight, sum_rows(by_rows))

    parents = (x, weight) if bias is None else (x, weight, bias)
    return record("linear", out if is_flat else out.reshape(*shape[:-1], len(w)), parents, backward)


def _refuse_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> NoReturn:
    has_bias = "no bias" if bias is None else f"bias {bias.shape}"
    raise ShapeError(
        f"linear: input {x.shape}, weight {weight.shape} and {has_bias} do not fit. "
        "They must be (..., in), (out, in) and (out,)."
    )


def embedding(ids: Any, weight: Tensor, padding_idx: int | None = None) -> Tensor:
    """Return the rows of weight at the positions ids.

    ids: (...) integers in [0, n).  weight: (n, features).  Returns (..., features).
    padding_idx: a row (counted from the end if negative) that gets no gradient.
    Raises ArgumentError if ids are not integers or out of range.
    """
    index = np.asarray(ids)
    if weight.ndim != 2:
        raise ShapeError(f"embedding needs a weight of shape (n, features), not {weight.shape}.")
    require_indices("embedding", index, weight.shape[0])
    shape, dtype = weight.shape, weight.dtype

    def backward(g: np.ndarray) -> tuple[np.ndarray]:
        full = np.zeros(shape, dtype)
        if index.size:
            rows, sums = _sums_by_row(index.reshape(-1), widened(g).reshape(index.size, shape[1]))
            full[rows] = sums
        if padding_idx is not None:
            full[padding_idx] = 0
        return (full,)

    return record("embedding", weight._data[index], (weight,), backward, {"ids": index})


def _sums_by_row(ids: np.ndarray, g: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct ids, (n,), and the sum of the rows of g for each, (n, features). ids must not be empty."""
    order = ids.argsort(kind="stable")  # groups equal ids: several times faster than np.add.at
    ids = ids[order]
    is_first = np.ones(ids.size, np.bool_)
    np.not_equal(ids[1:], ids[:-1], out=is_first[1:])
    (starts,) = is_first.nonzero()
    return ids[starts], np.add.reduceat(g.take(order, axis=0), starts, axis=0)


def require_indices(name: str, index: np.ndarray, count: int) -> None:
    """Raise ArgumentError unless index holds integers in [0, count)."""
    if index.dtype.kind not in "iu":
        raise ArgumentError(f"{name} takes integer indices, not {index.dtype}. Call .long() first.")
    if index.size and (index.min() < 0 or index.max() >= count):
        wrong = index[(index < 0) | (index >= count)][0]
        raise ArgumentError(f"{name}: index {wrong} is out of range; it must be at least 0 and below {count}.")
