"""Operations that pick and place elements by index, and sorting, each forward next to its gradient.

Indices are int64 and count from 0; where torch refuses negative ones, so do these.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ArgumentError, ShapeError
from .operations import eq
from .reductions import Extremum
from .shaping import broadcast_tensors, flatten, getitem
from .tape import as_tensor, derive, is_tensor, named, record

if TYPE_CHECKING:
    from .tensor import Tensor

__all__ = [
    "allclose", "argsort", "bincount", "equal", "gather", "histc", "index_add", "index_copy", "index_fill",
    "index_select", "isclose", "isin", "kthvalue", "masked_select", "median", "mode", "nonzero", "scatter",
    "scatter_add", "sort", "take_along_dim", "topk", "tril_indices", "triu_indices", "unique",
]  # fmt: skip


# --- by an index along one axis


def _places(a: Tensor, dim: int, index: Any, name: str) -> tuple[np.ndarray, ...]:
    """Return the place of each element of a that `index` names along dim."""
    indices, axis = np.asarray(index), dim % max(a.ndim, 1)
    sizes = zip(indices.shape, a.shape, strict=False)
    if indices.ndim != a.ndim or any(n > m for at, (n, m) in enumerate(sizes) if at != axis):
        raise ShapeError(f"{name} along dim {dim} cannot use an index of shape {indices.shape} on {a.shape}.")
    if indices.dtype.kind not in "iu":
        raise ArgumentError(f"{name} needs an index of integers, not {indices.dtype}.")
    if indices.size and not 0 <= indices.min() <= indices.max() < a.shape[axis]:
        wrong = indices.min() if indices.min() < 0 else indices.max()
        raise ArgumentError(f"{name}: index {wrong} is out of bounds for dim {dim} with size {a.shape[axis]}.")
    grid = np.ogrid[tuple(map(slice, indices.shape))]
    return tuple(indices if at == axis else place for at, place in enumerate(grid))


def gather(input: Tensor, dim: int, index: Any) -> Tensor:
    """Return the elements that index names along dim, in the shape of index."""
    if input.ndim == 0:
        return gather(input.reshape(1), 0, np.reshape(np.asarray(index), -1)).reshape(np.shape(index))
    return getitem(input, _places(input, dim, index, "gather"))


def take_along_dim(input: Tensor, indices: Any, dim: int | None = None) -> Tensor:
    """Return the elements that indices name along dim, or in the flattened tensor. Other axes broadcast."""
    if dim is None:
        return gather(flatten(input), 0, np.ravel(np.asarray(indices)))
    index, axis = np.asarray(indices), dim % input.ndim
    shape = np.broadcast_shapes(*(np.delete(array.shape, axis) for array in (input._data, index)))
    a, b = (np.insert(shape, axis, array.shape[axis]).tolist() for array in (input._data, index))
    return gather(input.expand(a), dim, np.broadcast_to(index, b))


def _source(src: Any, index: Any, like: Tensor) -> Tensor:
    """Return src as a Tensor: the part of it that an index of this shape uses."""
    source = src if is_tensor(src) else as_tensor(np.asarray(src, like.dtype))
    shape = np.shape(index)
    return source if source.shape in ((), shape) else getitem(source, tuple(map(slice, shape)))


def scatter(input: Tensor, dim: int, index: Any, src: Any = None, *, value: Any = None) -> Tensor:
    """Return input with the elements that index names along dim replaced by those of src, or by a number."""
    places = _places(input, dim, index, "scatter")
    source, out = _source(value if src is None else src, index, input), input._data.copy()
    out[places] = source._data

    def backward(g: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rest = g.copy()
        rest[places] = 0
        return rest, g[places]

    return record("scatter", out, (input, source), backward)


def scatter_add(input: Tensor, dim: int, index: Any, src: Any) -> Tensor:
    """Return input with the elements of src added to those that index names along dim."""
    return _added("scatter_add", input, _places(input, dim, index, "scatter_add"), _source(src, index, input))


def _added(name: str, input: Tensor, places: tuple[Any, ...], source: Tensor) -> Tensor:
    out = input._data.copy()
    np.add.at(out, places, source._data)
    return record(name, out, (input, source), lambda g: (g, g[places]))


def _at(a: Tensor, dim: int, index: Any) -> tuple[Any, ...]:
    """Return the index of the parts of a that a vector names along dim."""
    if not -a.ndim <= dim < a.ndim:
        raise ShapeError(f"there is no dim {dim} in a tensor of shape {a.shape}.")
    return (slice(None),) * (dim % a.ndim) + (np.atleast_1d(np.asarray(index)),)


def index_select(input: Tensor, dim: int, index: Any) -> Tensor:
    """Return the parts that a vector of indices names along dim."""
    return getitem(input, _at(input, dim, index))


def index_add(input: Tensor, dim: int, index: Any, source: Tensor, *, alpha: float = 1) -> Tensor:
    """Return input with alpha * source added to the parts that a vector of indices names along dim."""
    return _added("index_add", input, _at(input, dim, index), source if alpha == 1 else source * alpha)


def index_copy(input: Tensor, dim: int, index: Any, source: Any) -> Tensor:
    """Return input with the parts that a vector of indices names along dim replaced by source."""
    out = input.clone()
    out[_at(input, dim, index)] = source
    return out


index_fill = index_copy


def masked_select(input: Tensor, mask: Any) -> Tensor:
    """Return the elements where mask is True, as a vector. Both broadcast."""
    return getitem(*broadcast_tensors(input, as_tensor(mask)))


# --- order


def argsort(input: Tensor, dim: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """Return the indices that sort along dim. Equal elements keep their order, and NaN is the largest."""
    x = np.atleast_1d(input._data)
    if not descending:
        order = np.argsort(x, axis=dim, kind="stable")
    else:  # sorted from the end and read backwards, so that equal elements keep their order
        order = x.shape[dim] - 1 - np.flip(np.argsort(np.flip(x, dim), axis=dim, kind="stable"), dim)
    return derive("argsort", order.reshape(input.shape), (input,), {"dim": dim, "descending": descending})


def sort(input: Tensor, dim: int = -1, descending: bool = False, stable: bool = True) -> Extremum:
    """Return the sorted elements along dim, and their indices."""
    indices = argsort(input, dim, descending)
    return Extremum(gather(input, dim, indices), indices)


def topk(input: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Extremum:
    """Return the k largest (or smallest) elements along dim in order, and their indices."""
    indices = argsort(input, dim, largest)
    indices = indices.narrow(dim, 0, k) if input.ndim else indices
    return Extremum(gather(input, dim, indices), indices)


def kthvalue(input: Tensor, k: int, dim: int = -1, keepdim: bool = False) -> Extremum:
    """Return the k-th smallest elements along dim, and their indices. k counts from 1."""
    return _picked(input, argsort(input, dim).narrow(dim, k - 1, 1), dim, keepdim)


def _picked(input: Tensor, indices: Tensor, dim: int, keepdim: bool) -> Extremum:
    values = gather(input, dim, indices)
    return Extremum(values, indices) if keepdim else Extremum(values.squeeze(dim), indices.squeeze(dim))


def median(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
    """Return the median, the lower of two; with dim, the medians along it and their indices. NaN wins."""
    if dim is None:
        return median(flatten(input), 0).values
    x, middle = input._data, argsort(input, dim).narrow(dim, (input.shape[dim] - 1) // 2, 1)._data
    is_missing = np.isnan(x)
    first = np.argmax(is_missing, dim, keepdims=True)
    return _picked(input, as_tensor(np.where(is_missing.any(dim, keepdims=True), first, middle)), dim, keepdim)


def mode(input: Tensor, dim: int = -1, keepdim: bool = False) -> Extremum:
    """Return the most frequent elements along dim (of several, the smallest), and the indices of their last places."""
    x = np.moveaxis(input._data, dim, -1)
    counts = (x[..., :, None] == x[..., None, :]).sum(-1)
    is_frequent = counts == counts.max(-1, keepdims=True)
    smallest = np.where(is_frequent, x, x.max(-1, keepdims=True)).min(-1, keepdims=True)
    last = x.shape[-1] - 1 - np.argmax(np.flip(x == smallest, -1), -1, keepdims=True)
    return _picked(input, as_tensor(np.moveaxis(last, -1, dim)), dim, keepdim)


# --- sets, counts and comparisons, without a gradient


def unique(
    input: Tensor,
    sorted: bool = True,
    return_inverse: bool = False,
    return_counts: bool = False,
    dim: int | None = None,
) -> Any:
    """Return the different elements (or parts along dim) in order; if asked, with inverse indices and counts."""
    found = np.unique(input._data, return_inverse=return_inverse, return_counts=return_counts, axis=dim)
    return tuple(map(as_tensor, found)) if isinstance(found, tuple) else derive("unique", found, (input,))


def bincount(input: Tensor, weights: Any = None, minlength: int = 0) -> Tensor:
    """Return how often each of 0, 1, ... occurs, or the sums of the weights."""
    out = np.bincount(input._data, None if weights is None else np.asarray(weights), minlength)
    narrow = is_tensor(weights) and weights.dtype == np.float32
    return derive("bincount", out.astype(np.float32) if narrow else out, (input,))


def histc(input: Tensor, bins: int = 100, min: float = 0, max: float = 0) -> Tensor:
    """Return the counts of the elements in equal bins from min to max; of all elements if both are 0."""
    between = (min, max) if (min, max) != (0, 0) else (input._data.min(), input._data.max())
    return derive("histc", np.histogram(input._data, bins, between)[0].astype(input.dtype), (input,))


def nonzero(input: Tensor, *, as_tuple: bool = False) -> Any:
    """Return the indices (n, axes) of the elements that are not 0, or one vector for each axis."""
    if as_tuple:
        return tuple(map(as_tensor, np.nonzero(np.atleast_1d(input._data))))
    return derive("nonzero", np.argwhere(input._data), (input,))


def isclose(input: Tensor, other: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Tensor:
    """Return where |input - other| <= atol + rtol * |other|."""
    return derive("isclose", np.isclose(input._data, np.asarray(other), rtol, atol, equal_nan), (input,))


allclose = named(
    lambda input, other, *limits, **options: bool(isclose(input, other, *limits, **options).all()), "allclose",
    "Return True if all elements are close, see `isclose`.",
)  # fmt: skip
equal = named(
    lambda input, other: input.shape == other.shape and bool(eq(input, other).all()), "equal",
    "Return True if both have the same shape and elements.",
)  # fmt: skip
isin = named(
    lambda elements, test_elements: as_tensor(np.isin(np.asarray(elements), np.asarray(test_elements))), "isin",
    "Return for each element whether it is one of test_elements.",
)  # fmt: skip


def _triangle(find: Callable[..., Any], name: str) -> Callable[..., Tensor]:
    def function(row: int, col: int, offset: int = 0, *, dtype: Any = np.int64, device: Any = None) -> Tensor:
        return as_tensor(np.stack(find(row, offset, col)).astype(dtype))

    return named(function, name, f"Return the indices (2, n) of the elements that `{name[:4]}` keeps of a matrix.")


tril_indices, triu_indices = _triangle(np.tril_indices, "tril_indices"), _triangle(np.triu_indices, "triu_indices")
