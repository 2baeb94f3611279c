"""Rows of a table by integers: each one for itself, or reduced in bags."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...autograd.dtypes import narrowed, widened
from ...autograd.tensor import Tensor, record
from ...errors import ArgumentError, ShapeError


def embedding(
    input: Any, weight: Tensor, padding_idx: int | None = None, max_norm: float | None = None, norm_type: float = 2.0,
    scale_grad_by_freq: bool = False, sparse: bool = False,
) -> Tensor:  # fmt: skip
    """Return the rows of weight at the positions input.

    input: (...) integers in [0, n).  weight: (n, features).  Returns (..., features).
    padding_idx: a row (counted from the end if negative) that gets no gradient.  max_norm: first scale the rows that
    are used down to this norm, in place.  scale_grad_by_freq: divide the gradient of a row by the number of its uses.
    Raises ArgumentError if input does not hold integers or is out of range, or for sparse=True.
    """
    index = _index("embedding", input, weight, max_norm, norm_type, sparse)
    shape, dtype = weight.shape, weight.dtype

    def backward(g: np.ndarray) -> tuple[np.ndarray]:
        rows = widened(g).reshape(index.size, shape[1])
        return (_by_weight(index.reshape(-1), rows, shape, dtype, padding_idx, scale_grad_by_freq),)

    return record("embedding", weight._data[index], (weight,), backward, {"ids": index})


def embedding_bag(
    input: Any, weight: Tensor, offsets: Any = None, max_norm: float | None = None, norm_type: float = 2,
    scale_grad_by_freq: bool = False, mode: str = "mean", sparse: bool = False,
    per_sample_weights: Tensor | None = None, include_last_offset: bool = False, padding_idx: int | None = None,
) -> Tensor:  # fmt: skip
    """Return the sum, mean or maximum of the rows of weight in each bag; 0 for an empty one.

    input: (B, n) integers, a bag in each row; or (n,) with offsets (B,), where each bag starts, with
    include_last_offset (B + 1,), the last one being the end.  Returns (B, features).
    per_sample_weights: in the shape of input, multiplied with the rows, for mode="sum".  padding_idx: a row that is
    left out.  The other arguments are those of `embedding`.
    """
    index, starts = _bags(_index("embedding_bag", input, weight, max_norm, norm_type, sparse), offsets)
    if mode not in ("sum", "mean", "max"):
        raise ArgumentError(f"embedding_bag: the mode must be 'sum', 'mean' or 'max', not {mode!r}.")
    if per_sample_weights is not None and (mode != "sum" or per_sample_weights.shape != np.shape(input)):
        raise ArgumentError(
            f"embedding_bag takes per_sample_weights of the shape of the input {np.shape(input)}, and with mode='sum' "
            f"only; they are {per_sample_weights.shape}, and the mode is {mode!r}."
        )
    ends = np.append(starts[1:], index.size)
    if include_last_offset and offsets is not None:
        starts, ends = starts[:-1], starts[1:]
    bags = np.repeat(np.arange(len(starts)), ends - starts)
    index, kept = index[: len(bags)], slice(len(bags))
    if padding_idx is not None:
        kept = np.flatnonzero(index != padding_idx % weight.shape[0])
        index, bags = index[kept], bags[kept]
    counts = np.bincount(bags, minlength=len(starts))
    firsts = (np.cumsum(counts) - counts)[counts > 0]
    rows, shape, dtype = widened(weight._data)[index], weight.shape, weight.dtype
    factors = None if per_sample_weights is None else widened(per_sample_weights._data).reshape(-1)[kept][:, None]
    out = np.zeros((len(starts), shape[1]), rows.dtype)
    if index.size:
        terms = rows if factors is None else rows * factors
        out[counts > 0] = (np.maximum if mode == "max" else np.add).reduceat(terms, firsts, axis=0)
    if mode == "mean":
        factors = (1 / np.maximum(counts, 1)).astype(out.dtype)[bags][:, None]
        out /= np.maximum(counts, 1)[:, None]

    def backward(g: np.ndarray) -> tuple[np.ndarray | None, ...]:
        by_rows = widened(g)[bags]
        by_factors = None
        if per_sample_weights is not None:
            by_factors = np.zeros(per_sample_weights._data.size, by_rows.dtype)
            by_factors[kept] = (by_rows * rows).sum(axis=1)
            by_factors = by_factors.reshape(per_sample_weights.shape)
        if mode == "max":  # to the first of equal rows
            place = np.where(rows == out[bags], np.arange(len(bags))[:, None], len(bags))
            by_rows *= place == np.minimum.reduceat(place, firsts, axis=0)[np.cumsum(counts > 0)[bags] - 1]
        elif factors is not None:
            by_rows = by_rows * factors
        by_weight = _by_weight(index, by_rows, shape, dtype, None, scale_grad_by_freq)
        return (by_weight,) if per_sample_weights is None else (by_weight, by_factors)

    operands = (weight,) if per_sample_weights is None else (weight, per_sample_weights)
    arguments = {"ids": index, "bags": bags, "mode": mode}
    return record("embedding_bag", narrowed(out, weight), operands, backward, arguments)


def _index(name: str, input: Any, weight: Tensor, max_norm: float | None, norm_type: float, sparse: bool) -> np.ndarray:
    """Return input as an array, after checking it and limiting the norms of the rows that it uses."""
    index = np.asarray(input)
    if weight.ndim != 2:
        raise ShapeError(f"{name} needs a weight of shape (n, features), not {weight.shape}.")
    require_indices(name, index, weight.shape[0])
    if sparse:
        raise ArgumentError(f"{name}: gradients are dense here. Use sparse=False.")
    if max_norm is not None and index.size:
        rows = np.unique(index)
        norms = np.linalg.norm(weight._data[rows], norm_type, axis=1, keepdims=True)
        weight._data[rows] *= np.where(norms > max_norm, max_norm / (norms + 1e-7), 1).astype(weight.dtype)
    return index


def _bags(index: np.ndarray, offsets: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of all bags in one line, and where each bag starts."""
    if index.ndim == 2 and offsets is None:
        return index.reshape(-1), np.arange(len(index)) * index.shape[1]
    starts = np.asarray(-1 if offsets is None else offsets)
    if index.ndim != 1 or starts.ndim != 1:
        raise ShapeError(
            f"embedding_bag needs an input (B, n) without offsets, or (n,) with offsets (B,), not {index.shape} with "
            f"{'no offsets' if offsets is None else starts.shape}."
        )
    require_indices("the offsets of embedding_bag", starts, index.size + 1)
    if starts.size and (starts[0] != 0 or (np.diff(starts) < 0).any()):
        raise ArgumentError(f"embedding_bag: the offsets must begin with 0 and not decrease: {starts}.")
    return index, starts


def _by_weight(
    ids: np.ndarray, g: np.ndarray, shape: tuple[int, ...], dtype: Any, padding_idx: int | None, by_frequency: bool
) -> np.ndarray:
    """Return the sum of the rows of g for each id, or their mean, as an array of this shape, (n, features)."""
    full = np.zeros(shape, dtype)
    if ids.size:
        order = ids.argsort(kind="stable")  # groups equal ids: several times faster than np.add.at
        ids = ids[order]
        is_first = np.ones(ids.size, np.bool_)
        np.not_equal(ids[1:], ids[:-1], out=is_first[1:])
        (starts,) = is_first.nonzero()
        sums = np.add.reduceat(g.take(order, axis=0), starts, axis=0)
        full[ids[starts]] = sums / np.diff(np.append(starts, ids.size))[:, None] if by_frequency else sums
    if padding_idx is not None:
        full[padding_idx] = 0
    return full


def require_indices(name: str, index: np.ndarray, count: int) -> None:
    """Raise ArgumentError unless index holds integers in [0, count)."""
    if index.dtype.kind not in "iu":
        raise ArgumentError(f"{name} takes integer indices, not {index.dtype}. Call .long() first.")
    if index.size and (index.min() < 0 or index.max() >= count):
        wrong = index[(index < 0) | (index >= count)][0]
        raise ArgumentError(f"{name}: index {wrong} is out of range; it must be at least 0 and below {count}.")
