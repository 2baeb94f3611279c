"""Reductions, each forward next to its gradient.

dim is one axis, a tuple of axes, or None for all; keepdim=True keeps them as axes of size 1. 16-bit floats are summed
in float32 and the result is rounded once.
"""

from __future__ import annotations

import math
from collections import namedtuple
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..arrays.silence import silently
from ..errors import ArgumentError, ShapeError
from .dtypes import narrowed, widened
from .operations import maximum, minimum
from .shaping import numpy_names
from .tape import derive, is_tensor, named, record

if TYPE_CHECKING:
    from .tensor import Dim, Tensor

__all__ = [
    "all", "amax", "amin", "aminmax", "any", "argmax", "argmin", "count_nonzero", "cumprod", "cumsum", "logsumexp",
    "max", "mean", "min", "norm", "prod", "std", "sum", "trace", "var",
]  # fmt: skip


class Extremum(NamedTuple):
    """Values along one axis, and their indices."""

    values: Tensor
    indices: Tensor


Bounds = namedtuple("Bounds", ["min", "max"])


@numpy_names
def sum(a: Tensor, dim: Dim = None, keepdim: bool = False) -> Tensor:
    """Return the sum over dim; int64 for bools and small integers."""
    axes, shape = _axes(a, dim), a.shape
    dtype = np.int64 if a.dtype.kind in "iub" else None
    out = narrowed(widened(a._data).sum(axis=axes, keepdims=keepdim, dtype=dtype), a)
    arguments = {"axes": axes, "keepdim": keepdim}
    return record("sum", out, (a,), lambda g: (np.broadcast_to(_lift(g, axes, shape), shape),), arguments)


@numpy_names
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


def _deviation(name: str, text: str) -> Callable[..., Tensor]:
    @numpy_names
    def function(
        a: Tensor, dim: Any = None, unbiased: bool = True, keepdim: bool = False, *, correction: float | None = None
    ) -> Tensor:
        if isinstance(dim, bool):  # `x.var(False)`
            dim, unbiased = None, dim
        correction = int(unbiased) if correction is None else correction
        axes, shape = _axes(a, dim), a.shape
        centred, freedom, variance = _variance(a, axes, correction, keepdim)
        out = variance if name == "var" else np.sqrt(variance)

        def backward(g: np.ndarray) -> tuple[np.ndarray]:
            if name == "var":
                return (_lift(g, axes, shape) * centred * (2 / freedom),)
            by_variance = np.where(out == 0, 0, g / out)  # the factor 1/2 cancels against the 2 of the square
            return (_lift(by_variance, axes, shape) * centred / freedom,)

        arguments = {"axes": axes, "keepdim": keepdim, "correction": correction}
        return record(name, narrowed(out, a), (a,), backward, arguments)

    return named(function, name, f"Return {text} over dim, of a variance divided by n - correction (unbiased: 1).")


var = _deviation("var", "the variance")
std = _deviation("std", "the standard deviation (its gradient is 0 where all elements are equal)")


def _extremum(name: str, find: Callable, of_two: Callable[[Any, Any], Tensor]) -> Callable[..., Any]:
    @numpy_names
    def function(a: Tensor, dim: Any = None, keepdim: bool = False) -> Any:
        """Return the extreme element; or those along dim with their indices; or the more extreme of two Tensors.

        NaN is the most extreme. The gradient follows torch: without dim, equal extreme elements share it evenly; along
        dim, the element at the index gets it. Raises ShapeError if there are no elements.
        """
        if is_tensor(dim):
            return of_two(a, dim)
        indices = position(a, find, dim, keepdim=True)
        x, places, shape, dtype = a._data, indices._data, a.shape, a.dtype
        arguments = {"axes": _axes(a, dim), "keepdim": keepdim}
        if dim is None:
            picked = x.reshape(-1)[places.reshape(())]
            tied = np.isnan(x) if picked != picked else x == picked
            out = picked.reshape((1,) * a.ndim if keepdim else ())
            return record(name, out, (a,), lambda g: (tied * (g / np.count_nonzero(tied)),), arguments)

        def backward(g: np.ndarray) -> tuple[np.ndarray]:
            full = np.zeros(shape, dtype)
            np.put_along_axis(full, places, g.reshape(places.shape), dim)
            return (full,)

        out = np.take_along_axis(x, places, dim)
        values = record(name, out if keepdim else out.squeeze(dim), (a,), backward, arguments)
        return Extremum(values, indices if keepdim else indices.squeeze(dim))

    return named(function, name, function.__doc__ or "")


max, min = _extremum("max", np.argmax, maximum), _extremum("min", np.argmin, minimum)


def _extreme(name: str, ufunc: np.ufunc) -> Callable[..., Tensor]:
    @numpy_names
    def function(input: Tensor, dim: Dim = (), keepdim: bool = False) -> Tensor:
        x, shape = input._data, input.shape
        axes = _axes(input, None if dim == () else dim)
        if not _count(input, axes):
            raise ShapeError(f"{name} needs at least one element; the shape is {shape} and dim is {dim}.")
        out = ufunc.reduce(x, axis=axes, keepdims=keepdim)

        def backward(g: np.ndarray) -> tuple[np.ndarray]:
            tied = x == _lift(out, axes, shape)
            return (tied * (_lift(g, axes, shape) / tied.sum(axis=axes, keepdims=True)).astype(g.dtype),)

        return record(name, out, (input,), backward, {"axes": axes, "keepdim": keepdim})

    return named(function, name, f"Return the {name[1:]} over dim. Equal elements share the gradient.")


amax, amin = _extreme("amax", np.maximum), _extreme("amin", np.minimum)


aminmax = named(
    lambda input, *, dim=None, keepdim=False: Bounds(amin(input, dim, keepdim), amax(input, dim, keepdim)), "aminmax",
    "Return the smallest and the largest elements, of all or along dim.",
)  # fmt: skip


def _position(name: str, find: Callable) -> Callable[..., Tensor]:
    @numpy_names
    def function(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
        return position(input, find, dim, keepdim)

    return named(function, name, f"Return the index of the first {name[3:]} element, along dim or of all, int64.")


argmax, argmin = _position("argmax", np.argmax), _position("argmin", np.argmin)


def _truth(name: str, find: Callable) -> Callable[..., Tensor]:
    @numpy_names
    def function(input: Tensor, dim: Dim = None, keepdim: bool = False) -> Tensor:
        return derive(name, find(input._data, axis=_axes(input, dim), keepdims=keepdim), (input,))

    return named(function, name, f"Return whether {name} elements over dim are nonzero.")


all, any = _truth("all", np.all), _truth("any", np.any)


count_nonzero = named(lambda a, dim=None: a.ne(0).sum(dim), "count_nonzero", "Return the number of elements not 0.")


@numpy_names
def prod(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """Return the product over dim; int64 for bools and integers."""
    if dim is None:
        return prod(input.reshape(-1), 0)
    (axis,), x = _axes(input, dim), widened(input._data)
    out = x.prod(axis=axis, keepdims=keepdim, dtype=np.int64 if input.dtype.kind in "iub" else None)

    def backward(g: np.ndarray) -> tuple[np.ndarray]:
        # The product of the others, before and after: a quotient could not give it where an element is 0.
        first = np.ones_like(x.sum(axis, keepdims=True))
        before, after = (np.cumprod(np.concatenate([first, a], axis), axis) for a in (x, np.flip(x, axis)))
        at = range(x.shape[axis])
        return (_lift(g, (axis,), x.shape) * before.take(at, axis) * np.flip(after.take(at, axis), axis),)

    return record("prod", narrowed(out, input), (input,), backward)


@numpy_names
def cumsum(input: Tensor, dim: int) -> Tensor:
    """Return the sums of the elements so far along dim; int64 for bools and integers."""
    (axis,), x = _axes(input, dim), widened(input._data)
    out = x.cumsum(axis, dtype=np.int64 if x.dtype.kind in "iub" else None)
    back = lambda g: (np.flip(np.flip(g, axis).cumsum(axis), axis),)  # noqa: E731
    return record("cumsum", narrowed(out, input), (input,), back)


@numpy_names
def cumprod(input: Tensor, dim: int) -> Tensor:
    """Return the products of the elements so far along dim; int64 for bools and integers."""
    (axis,), x = _axes(input, dim), widened(input._data)
    out = x.cumprod(axis, dtype=np.int64 if x.dtype.kind in "iub" else None)

    def backward(g: np.ndarray) -> tuple[np.ndarray]:
        # Horner's rule from the end: total[i] = g[i] + x[i + 1] * total[i + 1], times the product of what is before i.
        totals, factors = np.moveaxis(g.astype(x.dtype), axis, 0), np.moveaxis(x, axis, 0)
        for i in reversed(range(len(totals) - 1)):
            totals[i] += factors[i + 1] * totals[i + 1]
        totals[1:] *= np.moveaxis(out, axis, 0)[:-1]
        return (np.moveaxis(totals, 0, axis),)

    return record("cumprod", narrowed(out, input), (input,), backward)


@numpy_names
def logsumexp(input: Tensor, dim: Dim, keepdim: bool = False) -> Tensor:
    """Return the logarithm of the sum of e to the power of the elements over dim, without overflow."""
    _require_floats("logsumexp", input)
    axes, x = _axes(input, dim), widened(input._data)
    most = x.max(axis=axes, keepdims=True)
    most = np.where(np.isfinite(most), most, 0)
    kept = silently(lambda: np.log(np.exp(x - most).sum(axis=axes, keepdims=True)) + most)
    out = kept if keepdim else kept.squeeze(axes)
    back = lambda g: (_lift(g, axes, x.shape) * np.exp(x - kept),)  # noqa: E731
    return record("logsumexp", narrowed(out, input), (input,), back)


@numpy_names
def norm(input: Tensor, p: Any = "fro", dim: Dim = None, keepdim: bool = False) -> Tensor:
    """Return the p-norm over dim: (sum |x|^p)^(1/p), "fro" for p = 2; for p = inf, -inf and 0 the limits.

    Its gradient is 0 where the norm is 0.
    """
    p = 2.0 if p in ("fro", None) else float(p)
    if math.isinf(p) or p == 0:
        size = input.abs()
        return size.ne(0).to(size.dtype).sum(dim, keepdim) if p == 0 else (amax if p > 0 else amin)(size, dim, keepdim)
    _require_floats("norm", input)
    axes, x = _axes(input, dim), widened(input._data)
    total = (x * x if p == 2 else np.abs(x) ** p).sum(axis=axes, keepdims=True)
    kept = silently(np.sqrt, total) if p == 2 else silently(np.power, total, 1 / p)

    def backward(g: np.ndarray) -> tuple[np.ndarray]:
        steep = x / kept if p == 2 else np.sign(x) * (np.abs(x) / kept) ** (p - 1)
        return (np.where(kept == 0, 0, steep * _lift(g, axes, x.shape)),)

    out = kept if keepdim else kept.squeeze(axes)
    return record("norm", narrowed(out, input), (input,), backward)


trace = named(lambda input: input.diagonal().sum(), "trace", "Return the sum of the diagonal of a matrix.")


def position(a: Tensor, find: Callable, dim: int | None, keepdim: bool) -> Tensor:
    """Return the int64 index that find (np.argmax or np.argmin) picks along dim, or in the flattened tensor."""
    (count,) = {a._data.size} if dim is None else {a.shape[axis] for axis in _axes(a, dim)}
    if not count:
        raise ShapeError(f"{find.__name__} needs at least one element; the shape is {a.shape} and dim is {dim}.")
    return derive(find.__name__, find(a._data, axis=dim, keepdims=keepdim), (a,), {"dim": dim, "keepdim": keepdim})


def _variance(
    a: Tensor, axes: tuple[int, ...], correction: float, keepdim: bool
) -> tuple[np.ndarray, float, np.ndarray]:
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
