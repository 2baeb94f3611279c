"""Scaled dot-product attention, with separate queries, keys and values or with several heads packed side by side."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ...autograd.dtypes import narrowed, widened
from ...autograd.shaping import broadcasts_to
from ...autograd.tensor import Tensor, record
from ...errors import ArgumentError, ShapeError
from .dropping import keep_scale

Mask = Tensor | np.ndarray | None
# Where to write the gradients of q, k and v; None for new arrays.
Into = tuple["np.ndarray | None", "np.ndarray | None", "np.ndarray | None"]


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Mask = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    generator: np.random.Generator | None = None,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Return softmax(scale q k^T + mask) v.

    query: (..., L, d).  key: (..., S, d).  value: (..., S, e).  Returns (..., L, e); leading axes broadcast.
    attn_mask: broadcastable to (..., L, S); bool (True may attend) or float (added).  is_causal: position l attends
    to s <= l.  A position that may attend to nothing gets 0.  dropout_p: dropout of the attention weights.
    scale: 1 / sqrt(d) by default.  enable_gqa: axis -3 holds heads, and each head of key and value serves several of
    query.
    Raises ShapeError if the shapes do not fit.  Raises ArgumentError if both attn_mask and is_causal are given.
    Source: Vaswani et al. 2017, arXiv:1706.03762, eq. 1.
    """
    if enable_gqa:
        key, value = (_repeated(heads, query) for heads in (key, value))
    arrays = widened(query._data), widened(key._data), widened(value._data)
    attention = _attend(*arrays, attn_mask, dropout_p, is_causal, generator, scale)
    bias = _trained(attn_mask)

    def backward(g: np.ndarray) -> tuple[np.ndarray, ...]:
        by_q, by_k, by_v, by_scores = attention.backward(g, (None, None, None))
        return (by_q, by_k, by_v) if bias is None else (by_q, by_k, by_v, by_scores)

    return record(
        "scaled_dot_product_attention",
        narrowed(attention.out, value),
        (query, key, value) if bias is None else (query, key, value, bias),
        backward,
        {"attn_mask": attn_mask, "dropout_p": dropout_p, "is_causal": is_causal, "scale": scale},
    )


def _repeated(heads: Tensor, query: Tensor) -> Tensor:
    """Return heads (..., n, S, d) with each head repeated, as many as query has."""
    if min(heads.ndim, query.ndim) < 3 or query.shape[-3] % (heads.shape[-3] or 1):
        raise ShapeError(f"enable_gqa: the heads of {heads.shape} do not divide those of the query {query.shape}.")
    times = query.shape[-3] // heads.shape[-3]
    return heads.unsqueeze(-3).expand(*heads.shape[:-2], times, *heads.shape[-2:]).flatten(-4, -3)


def packed_attention(
    packed: Tensor,
    num_heads: int,
    attn_mask: Mask = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    generator: np.random.Generator | None = None,
) -> Tensor:
    """Return `scaled_dot_product_attention` of each head, with the heads side by side.

    packed: (B, T, 3 C), the features of q, k and v, each split into num_heads heads.  Returns (B, T, C).
    The other arguments are those of `scaled_dot_product_attention` for (B, num_heads, T, C / num_heads).
    Raises ShapeError if packed does not have three axes or its features cannot be split.
    """
    if num_heads < 1 or packed.ndim != 3 or packed.shape[-1] % (3 * num_heads):
        raise ShapeError(f"attention of {num_heads} heads: packed {packed.shape} is not (B, T, 3 * {num_heads} * d).")
    batch, length, features = packed.shape
    split = (batch, length, 3, num_heads, features // (3 * num_heads))
    q, k, v = (
        widened(packed._data).reshape(split).transpose(2, 0, 3, 1, 4)
    )  # (B, T, 3, heads, d) -> 3 x (B, heads, T, d)
    attention = _attend(q, k, v, attn_mask, dropout_p, is_causal, generator)
    bias = _trained(attn_mask)

    def backward(g: np.ndarray) -> tuple[np.ndarray, ...]:
        by_out = g.reshape(batch, length, *split[3:]).transpose(0, 2, 1, 3)  # (B, T, C) -> (B, heads, T, d)
        by_packed = np.empty(split, q.dtype)
        by_q, by_k, by_v = by_packed.transpose(2, 0, 3, 1, 4)
        by_scores = attention.backward(by_out, (by_q, by_k, by_v))[3]
        by_all = by_packed.reshape(batch, length, features)
        return (by_all,) if bias is None else (by_all, by_scores)

    joined = attention.out.transpose(0, 2, 1, 3).reshape(batch, length, features // 3)
    operands = (packed,) if bias is None else (packed, bias)
    arguments = {"num_heads": num_heads, "attn_mask": attn_mask, "dropout_p": dropout_p, "is_causal": is_causal}
    return record("packed_attention", narrowed(joined, packed), operands, backward, arguments)


class _Attention(NamedTuple):
    """The result of attention on arrays, and the intermediate values that its gradient needs.

    q, k, v: as in `scaled_dot_product_attention`.  weights: (..., L, S).  keep: the dropout mask of the weights, or
    None.  dropped: the weights after dropout.  out: (..., L, e).
    """

    q: np.ndarray
    k: np.ndarray
    v: np.ndarray
    scale: float
    weights: np.ndarray
    keep: np.ndarray | None
    dropped: np.ndarray
    out: np.ndarray

    def backward(self, g: np.ndarray, into: Into) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return the gradients of q, k, v and the scores, given that of out. The first three are written to `into`."""
        q, k, v, scale, p, keep, dropped, _ = self
        by_v = np.matmul(dropped.swapaxes(-1, -2), g, out=into[2])  # (..., S, e)
        by_p = g @ v.swapaxes(-1, -2)  # (..., L, S)
        if keep is not None:
            by_p *= keep
        by_p *= p
        by_scores = by_p - p * _row_sums(by_p)
        by_q = np.matmul(by_scores, k, out=into[0])
        by_q *= scale
        by_k = np.matmul(by_scores.swapaxes(-1, -2), q, out=into[1])
        by_k *= scale
        return by_q, by_k, by_v, by_scores


def _attend(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    attn_mask: Mask,
    dropout_p: float,
    is_causal: bool,
    generator: np.random.Generator | None,
    scale: float | None = None,
) -> _Attention:
    mask = _attention_mask(q, k, v, attn_mask, is_causal)
    if scale is None:
        scale = 1 / math.sqrt(q.shape[-1] or 1)  # without features all scores are 0
    p = _attention_weights((q * scale) @ k.swapaxes(-1, -2), mask)  # (..., L, S)
    keep = keep_scale(p.shape, p.dtype, dropout_p, True, generator)
    dropped = p if keep is None else p * keep
    return _Attention(q, k, v, scale, p, keep, dropped, dropped @ v)


def _trained(attn_mask: Mask) -> Tensor | None:
    """Return the mask if it requires a gradient (it is then added to the scores), otherwise None."""
    return attn_mask if isinstance(attn_mask, Tensor) and attn_mask._requires_grad else None


def _attention_mask(q: np.ndarray, k: np.ndarray, v: np.ndarray, attn_mask: Mask, is_causal: bool) -> np.ndarray | None:
    """Return the mask as an array, bool or float, after checking all shapes."""
    problem = f"attention: q {q.shape}, k {k.shape} and v {v.shape}"
    fits = min(q.ndim, k.ndim, v.ndim) >= 2 and q.shape[-1] == k.shape[-1] and k.shape[-2] == v.shape[-2]
    if not fits:
        raise ShapeError(f"{problem} do not fit. They must be (..., L, d), (..., S, d) and (..., S, e).")
    length, width = q.shape[-2], k.shape[-2]
    if is_causal:
        if attn_mask is not None:
            raise ArgumentError(
                "attention takes attn_mask or is_causal=True, not both. Put the causal part in the mask."
            )
        return np.tri(length, width, dtype=bool)
    if attn_mask is None:
        return None
    mask = np.asarray(attn_mask)
    if mask.dtype.kind not in "bfV":
        raise ArgumentError(f"attention takes a bool mask (True may attend) or a float mask (added), not {mask.dtype}.")
    leading = np.broadcast_shapes(q.shape[:-2], k.shape[:-2])
    full = (*leading, length, width)
    if not broadcasts_to(mask.shape, full):
        raise ShapeError(f"{problem} have scores of shape {full}, which a mask {mask.shape} does not broadcast to.")
    return mask


def _attention_weights(scores: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """Return the softmax of the masked scores over the last axis, in place. A fully masked row gives 0."""
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
    # A product with ones: BLAS is several times faster than NumPy for many short sums.
    rows = a.reshape(math.prod(a.shape[:-1]), a.shape[-1])
    return rows.dot(np.ones(a.shape[-1], a.dtype)).reshape(*a.shape[:-1], 1)
