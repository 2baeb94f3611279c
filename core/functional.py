"""Every differentiable function of a network: what torch.nn.functional is to torch.

Here stand linear, embedding, dropout and attention; activations.py, normalization.py and loss_functions.py hold the
rest. Each is one operation, its forward beside its gradient.
"""

from __future__ import annotations

import math
from typing import Any, NoReturn

import numpy as np

from .activations import gelu, log_softmax, softmax
from .cross_entropy import cross_entropy
from .errors import ArgumentError, ShapeError
from .loss_functions import binary_cross_entropy_with_logits, mse_loss
from .normalization import batch_norm, layer_norm
from .operations import relu, sigmoid, tanh
from .random import default_generator
from .reductions import sum_rows
from .shaping import broadcasts_to
from .tensor import Tensor, as_tensor, record

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
    "relu",
    "scaled_dot_product_attention",
    "sigmoid",
    "softmax",
    "tanh",
]


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return x @ weight.T + bias.

    x: (..., in) float, or integers, which are taken as weight's dtype.  weight: (out, in).  bias: (out,), or None.
    Returns (..., out).  Raises ShapeError naming all shapes if they do not fit.
    """
    x = as_tensor(x)
    if x.data.dtype.kind in "iub":
        x = x.to(weight.dtype)
    a, w = x.data, weight.data
    shape, features = a.shape, w.shape
    if w.ndim != 2 or shape[-1:] != features[1:] or (bias is not None and bias.data.shape != features[:1]):
        _refuse_linear(x, weight, bias)
    rows = a if a.ndim == 2 else a.reshape(math.prod(shape[:-1]), shape[-1])  # (..., in) -> (rows, in)
    out = rows.dot(w.T)
    if bias is not None:
        np.add(out, bias.data, out)

    def backward(g: np.ndarray) -> tuple[np.ndarray | None, ...]:
        g = g.reshape(out.shape)  # (..., out) -> (rows, out)
        by_x = g.dot(w).reshape(shape) if x._requires_grad else None
        by_weight = g.T.dot(rows) if weight._requires_grad else None
        return (by_x, by_weight) if bias is None else (by_x, by_weight, sum_rows(g))

    parents = (x, weight) if bias is None else (x, weight, bias)
    return record(out if a.ndim == 2 else out.reshape(*shape[:-1], features[0]), parents, backward)


def _refuse_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> NoReturn:
    has_bias = "no bias" if bias is None else f"bias {bias.shape}"
    raise ShapeError(
        f"linear: input {x.shape}, weight {weight.shape} and {has_bias} do not fit. "
        "They must be (..., in), (out, in) and (out,)."
    )


def embedding(ids: Any, weight: Tensor, padding_idx: int | None = None) -> Tensor:
    """Return the rows of weight that ids name.

    ids: (...) integers in [0, n).  weight: (n, features).  Returns (..., features).
    padding_idx: a row (counted from the end if negative) that gets no gradient.
    Raises ArgumentError for ids that are no integers or out of range.
    """
    index = np.asarray(ids)
    if weight.ndim != 2:
        raise ShapeError(f"embedding needs a weight of shape (n, features), not {weight.shape}.")
    require_indices("embedding", index, weight.shape[0])
    shape, dtype = weight.shape, weight.dtype

    def backward(g: np.ndarray) -> tuple[np.ndarray]:
        full = np.zeros(shape, dtype)
        order = np.argsort(
            index, axis=None, kind="stable"
        )  # brings equal ids together: several times faster than add.at
        rows, starts = np.unique(index.reshape(-1)[order], return_index=True)
        if index.size:
            full[rows] = np.add.reduceat(g.reshape(index.size, shape[1])[order], starts, axis=0)
        if padding_idx is not None:
            full[padding_idx] = 0
        return (full,)

    return record(weight.data[index], (weight,), backward)


def require_indices(name: str, index: np.ndarray, count: int) -> None:
    """Raise ArgumentError unless index holds integers in [0, count)."""
    if index.dtype.kind not in "iu":
        raise ArgumentError(f"{name} takes integer indices, not {index.dtype}. Call .long() first.")
    if index.size and (index.min() < 0 or index.max() >= count):
        wrong = index[(index < 0) | (index >= count)][0]
        raise ArgumentError(f"{name}: index {wrong} is out of range; it must be at least 0 and below {count}.")


def dropout(x: Tensor, p: float = 0.5, training: bool = True, generator: np.random.Generator | None = None) -> Tensor:
    """Return x with each element zeroed with probability p and the others divided by 1 - p; x itself if not training.

    Raises ArgumentError if p is outside [0, 1].
    Source: Srivastava et al. 2014, JMLR 15, 1929-1958, section 10 ("inverted").
    """
    keep = _keep_scale(x.shape, x.dtype, p, training, generator)
    return x if keep is None else record(x.data * keep, (x,), lambda g: (g * keep,))


def require_probability(p: float) -> None:
    """Raise ArgumentError unless p, of dropout, is between 0 and 1."""
    if not 0 <= p <= 1:
        raise ArgumentError(f"dropout: p is a probability between 0 and 1, not {p}.")


def _keep_scale(
    shape: tuple[int, ...], dtype: np.dtype[Any], p: float, training: bool, generator: np.random.Generator | None
) -> np.ndarray | None:
    """Return what to multiply by: 0 with probability p, else 1 / (1 - p). None if that would change nothing."""
    require_probability(p)
    if not training or p == 0:
        return None
    kept = (generator or default_generator()).random(shape, np.float32) >= p
    return np.multiply(kept, 0 if p == 1 else 1 / (1 - p), dtype=dtype)


def scaled_dot_product_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attn_mask: Tensor | np.ndarray | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    generator: np.random.Generator | None = None,
) -> Tensor:
    """Return softmax(q k^T / sqrt(d) + mask) v.

    q: (..., L, d).  k: (..., S, d).  v: (..., S, e).  Returns (..., L, e); leading axes broadcast.
    attn_mask: broadcastable to (..., L, S); bool (True may attend) or float (added).  is_causal: position l attends
    to s <= l.  A position that may attend to nothing gets 0.  Dropout, where dropout_p > 0, is on the weights.
    Raises ShapeError if the shapes do not fit, ArgumentError for both masks at once.
    Source: Vaswani et al. 2017, arXiv:1706.03762, eq. 1.
    """
    mask = _attention_mask(q, k, v, attn_mask, is_causal)
    scale = 1 / math.sqrt(q.shape[-1] or 1)  # without features all scores are 0
    q_, k_, v_ = q.data, k.data, v.data
    p = _attention_weights((q_ * scale) @ k_.swapaxes(-1, -2), mask)  # (..., L, S)
    keep = _keep_scale(p.shape, p.dtype, dropout_p, True, generator)
    dropped = p if keep is None else p * keep
    bias = attn_mask if isinstance(attn_mask, Tensor) and attn_mask._requires_grad else None

    def backward(g: np.ndarray) -> tuple[np.ndarray, ...]:
        by_v = dropped.swapaxes(-1, -2) @ g  # (..., S, e)
        by_p = g @ v_.swapaxes(-1, -2)  # (..., L, S)
        if keep is not None:
            by_p *= keep
        by_p *= p
        by_scores = by_p - p * _row_sums(by_p)
        by_q = by_scores @ k_
        by_q *= scale
        by_k = by_scores.swapaxes(-1, -2) @ q_
        by_k *= scale
        return (by_q, by_k, by_v) if bias is None else (by_q, by_k, by_v, by_scores)

    return record(dropped @ v_, (q, k, v) if bias is None else (q, k, v, bias), backward)


def _attention_mask(
    q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | np.ndarray | None, is_causal: bool
) -> np.ndarray | None:
    """Return the mask as an array, bool or float, after checking that everything fits."""
    problem = f"attention: q {q.shape}, k {k.shape} and v {v.shape}"
    fits = min(q.ndim, k.ndim, v.ndim) >= 2 and q.shape[-1] == k.shape[-1] and k.shape[-2] == v.shape[-2]
    if not fits:
        raise ShapeError(f"{problem} do not fit. They must be (..., L, d), (..., S, d) and (..., S, e).")
    length, width = q.shape[-2], k.shape[-2]
    if is_causal:
        if attn_mask is not None:
            raise ArgumentError(
                "attention takes attn_mask or is_causal=True, not both: put the causal part in the mask."
            )
        return np.tri(length, width, dtype=bool)
    if attn_mask is None:
        return None
    mask = np.asarray(attn_mask)
    if mask.dtype.kind not in "bf":
        raise ArgumentError(f"attention takes a mask of bool (True may attend) or float (added), not {mask.dtype}.")
    leading = np.broadcast_shapes(q.shape[:-2], k.shape[:-2])
    full = (*leading, length, width)
    if not broadcasts_to(mask.shape, full):
        raise ShapeError(f"{problem} have scores of shape {full}, which a mask {mask.shape} does not broadcast to.")
    return mask


def _attention_weights(scores: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """Return the softmax of the masked scores, in their memory, over the last axis; 0 where everything is masked."""
    if mask is not None:
        added = np.where(mask, 0, -np.inf) if mask.dtype == bool else mask
        scores = np.add(scores, added.astype(scores.dtype, copy=False), out=scores)
    top = np.maximum.reduce(scores, axis=-1, keepdims=True, initial=-np.inf)
    top[top == -np.inf] = 0
    scores -= top
    weights = np.exp(scores, out=scores)
    total = _row_sums(weights)
    total[total == 0] = 1
    weights /= total
    return weights


def _row_sums(a: np.ndarray) -> np.ndarray:
    """Return the sums over the last axis, which is kept: (..., 1)."""
    # As a product with ones, which BLAS makes several times faster than NumPy many short sums.
    rows = a.reshape(math.prod(a.shape[:-1]), a.shape[-1])
    return rows.dot(np.ones(a.shape[-1], a.dtype)).reshape(*a.shape[:-1], 1)
