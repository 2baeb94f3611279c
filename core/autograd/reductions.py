"""Reductions, each forward next to its gradient.

dim is one axis, a tuple of axes, or None for all; keepdim=True keeps them as axes of size 1. 16-bit floats are summed
in float32 and the result is rounded once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ..errors import ArgumentError, ShapeError
from .dtypes import narrowed, widened
from .tensor import Dim, Tensor, derive, record


class Extremum(NamedTuple):
    """The largest or smallest values along one axis, and their indices (the first of equal values)."""

    values: Tensor
    indices: Tensor


def sum(a: Tensor, dim: Dim = None, keepdim: bool = False) -> Tensor:
    """Return the sum over dim; int64 for bools and small integers."""
    axes, shape = _axes(a, dim), a.shape
    out = narrowed(widened(a._data).sum(axis=axes, keepdims=keepdim), a)
    arguments = {"axes": axes, "keepdim": keepdim}
    return record("sum", out, (a,), lambda g: (np.broadcast_to(_lift(g, axes, shape), shape),), arguments)


def mean(a: Tensor, dim: Dim = None, keepdim: bool = False) -> Tensor:
    """Return the mean over dim; NaN over no elements. Raises ArgumentError if a holds integers."""
    _require_floats("mean", a)
    axes, shape = _axes(a, dim), a.shape
    count = _count(a, axes)
    total = widened(a._data).sum(axis=axes, keepdims=keepdim)
    out = total / count if count else np.full_like(total, np.nan)

    def backward(g: np.ndarray) -> tuple[np.ndarray]:
        return (np.broadcast_to(_lift(g, axes, shape) / count, shape),)

    return record("mean", narrowed(out, a), (a,), backward, {"axes": axes, "keepdim": keepdim})


def var(a: Tensor, dim: Dim = None, correction: int = 1, keepdim: bool = False) -> Tensor:
    """Return the variance over dim, divided by n - correction; NaN if that is not positive."""
    axes, shape = _axes(a, dim), a.shape
    centred, freedom, out = _variance(a, axes, correction, keepdim)
    arguments = {"axes": axes, "keepdim": keepdim, "correction": correction}
    return record(
        "var", narrowed(out, a), (a,), lambda g: (_lift(g, axes, shape) * centred * (2 / freedom),), arguments
    )


def std(a: Tensor, dim: Dim = None, correction: int = 1, keepdim: bool = False) -> Tensor:
    """Return the square root of the variance. Its gradient is 0 where all elements are equal, as in torch."""
    axes, shape = _axes(a, dim), a.shape
    centred, freedom, variance = _variance(a, axes, correction, keepdim)
    out = np.sqrt(variance)

    def backward(g: np.ndarray) -> tuple[np.ndarray]:
        by_variance = np.where(out == 0, 0, g / out)  # the factor 1/2 cancels against the 2 of the square
        return (_lift(by_variance, axes, shape) * centred / freedom,)

    arguments = {"axes": axes, "keepdim": keepdim, "correction": correction}
    return record("std", narrowed(out, a), (a,), backward, arguments)


def max(a: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor | Extremum:
    """Return the largest element, or the largest along dim with their indices.

    NaN counts as the largest. The gradient follows torch: without dim, equal largest elements share it evenly; along
    dim, the element at the index gets it. Raises ShapeError if there are no elements.
    """
    return _extremum("max", np.argmax, a, dim, keepdim)


def min(a: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor | Extremum:
    """Return the smallest element, or the smallest along dim with their indices. Otherwise like `max`."""
    return _extremum("min", np.argmin, a, dim, keepdim)


def _extremum(name: str, find: Callable, a: Tensor, dim: int | None, keepdim: bool) -> Tensor | Extremum:
    indices = position(a, find, dim, keepdim=True)
    if dim is not None:
        out = np.take_along_axis(a._data, indices._data, dim)
        arguments = {"axes": _axes(a, dim), "keepdim": keepdim}
        values = record(name, out if keepdim else out.squeeze(dim), (a,), _scatter(a, indices._data, dim), arguments)
        return Extremum(values, indices if keepdim else indices.squeeze(dim))
    x, picked = a._data, a._data.reshape(-1)[indices._data.reshape(())]
    tied = np.isnan(x) if picked != picked else x == picked
    out = picked.reshape((1,) * a.ndim if keepdim else ())
    arguments = {"axes": tuple(range(a.ndim)), "keepdim": keepdim}
    return record(name, out, (a,), lambda g: (tied * (g / np.count_nonzero(tied)),), arguments)


def position(a: Tensor, find: Callable, dim: int | None, keepdim: bool) -> Tensor:
    """Return the int64 index that find (np.argmax or np.argmin) picks along dim, or in the flattened tensor."""
    (count,) = {a._data.size} if dim is None else {a.shape[axis] for axis in _axes(a, dim)}
    if not count:
        raise ShapeError(f"{find.__name__} needs at least one element; the shape is {a.shape} and dim is {dim}.")
    return derive(find.__name__, find(a._data, axis=dim, keepdims=keepdim), (a,), {"dim": dim, "keepdim": keepdim})


def _scatter(a: Tensor, indices: np.ndarray, dim: int) -> Callable[[np.ndarray], tuple[np.ndarray]]:
    shape, dtype = a.shape, a.dtype

    def backward(g: np.ndarray) -> tuple[np.ndarray]:
        full = np.zeros(shape, dtype)
        np.put_along_axis(full, indices, g.reshape(indices.shape), dim)
        return (full,)

    return backward


def _variance(a: Tensor, axes: tuple[int, ...], correction: int, keepdim: bool) -> tuple[np.ndarray, float, np.ndarray]:
    """Return the elements minus their mean, the divisor, and the variance."""
    _require_floats("var and std", a)
    freedom, x = _count(a, axes) - correction, widened(a._data)
    if freedom <= 0:
        return np.full_like(x, np.nan), 1, np.full_like(x.sum(axis=axes, keepdims=keepdim), np.nan)
    centred = x - x.mean(axis=axes, keepdims=True)
    return centred, freedom, np.asarray((centred * centred).sum(axis=axes, keepdims=keepdim) / freedom)


def _axes(a: Tensor, dim: Dim) -> tuple[int, ...]:
    """Return the axes in dim, counted from the front. Raises ShapeError if the tensor has no such axis."""
    given = range(a.ndim) if dim is None else (dim,) if isinstance(dim, int) else dim
    for axis in given:
        if not -a.ndim <= axis < a.ndim:
            raise ShapeError(f"there is no dim {axis} in a tensor of shape {a.shape}.")
    return tuple(axis % a.ndim for axis in given)


def _count(a: Tensor, axes: tuple[int, ...]) -> int:
    return math.prod(a.shape[axis] for axis in axes)


def _lift(g: np.ndarray, axes: tuple[int, ...], shape: tuple[int, ...]) -> np.ndarray:
    """Return the gradient of a reduction with the reduced axes restored as size 1."""
    return g.reshape([1 if axis in axes else size for axis, size in enumerate(shape)])


def _require_floats(name: str, a: Tensor) -> None:
    if a.dtype.kind in "iub":
        raise ArgumentError(f"{name} of {a.dtype} would not be {a.dtype}. Call .float() first.")


def sum_rows(a: np.ndarray) -> np.ndarray:
    """Sum an array (N, C) over its first axis and return (C,)."""
    # A product with ones: BLAS is several times faster than NumPy's sum over the first axis.
    ones = np.empty(len(a), a.dtype)
    ones.fill(1)  # np.ones() would take as long as the product
    return ones.dot(a)
