"""Operations that pick and place elements by index, and sorting, each forward next to its gradient.

Indices are int64 and count from 0; where torch refuses negative ones, so do these.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ArgumentError, ShapeError
from .operations import eq, isnan
from .reductions import Extremum
from .shaping import broadcast_tensors, flatten, getitem, reshape
from .tape import as_tensor, derive, is_tensor, record

if TYPE_CHECKING:
    from .tensor import Tensor

__all__ = [
    "allclose", "argsort", "argwhere", "bincount", "bucketize", "equal", "gather", "histc", "index_add", "index_copy",
    "index_fill", "index_put", "index_select", "isclose", "isin", "kthvalue", "masked_select", "median", "mode",
    "nonzero", "scatter", "scatter_add", "searchsorted", "sort", "take", "take_along_dim", "topk", "tril_indices",
    "triu_indices", "unique", "unique_consecutive",
]  # fmt: skip


# --- by an index along one axis


def _places(a: Tensor, dim: int, index: Any, name: str) -> tuple[int, tuple[np.ndarray, ...]]:
    """Return the axis, and the index of each element of a that `index` names along dim."""
    indices, axis = np.asarray(index), dim % max(a.ndim, 1)
    if a.ndim == 0:
        a, indices = reshape(a, 1), indices.reshape(-1)
    if indices.ndim != a.ndim or any(
        n > m for at, (n, m) in enumerate(zip(indices.shape, a.shape, strict=True)) if at != axis
    ):
        raise ShapeError(f"{name} along dim {dim} cannot use an index of shape {indices.shape} on {a.shape}.")
    if indices.dtype.kind not in "iu":
        raise ArgumentError(f"{name} needs an index of integers, not {indices.dtype}.")
    if indices.size and not 0 <= indices.min() <= indices.max() < a.shape[axis]:
        wrong = indices.min() if indices.min() < 0 else indices.max()
        raise ArgumentError(f"{name}: index {wrong} is out of bounds for dim {dim} with size {a.shape[axis]}.")
    open_grid = np.ogrid[tuple(slice(size) for size in indices.shape)]
    return axis, tuple(indices if at == axis else places for at, places in enumerate(open_grid))


def gather(input: Tensor, dim: int, index: Any) -> Tensor:
    """Return the elements that index names along dim, in the shape of index."""
    _, places = _places(input, dim, index, "gather")
    shape, dtype = input.shape, input.dtype

    def backward(g: np.ndarray) -> tuple[np.ndarray]:
        full = np.zeros(shape, np.result_type(dtype, np.float32))
        np.add.at(full.reshape(shape or 1), places, g)
        return (full,)

    return record(
        "gather",
        input._data.reshape(shape or 1)[places].reshape(np.shape(index)),
        (input,),
        backward,
        {"dim": dim, "index": index},
    )


def take_along_dim(input: Tensor, indices: Any, dim: int | None = None) -> Tensor:
    """Return the elements that indices name along dim, or in the flattened tensor. Other axes broadcast."""
    if dim is None:
        return gather(flatten(input), 0, flatten(as_tensor(indices)))
    shape = [*np.broadcast_shapes(input.shape[:dim], np.shape(indices)[:dim])]
    axis = dim % input.ndim
    a, b = list(input.shape), list(np.shape(indices))
    shape = [max(n, m) if at != axis else 0 for at, (n, m) in enumerate(zip(a, b, strict=True))]
    a = [size if at == axis else shape[at] for at, size in enumerate(a)]
    b = [size if at == axis else shape[at] for at, size in enumerate(b)]
    return gather(input.expand(*a), dim, np.broadcast_to(np.asarray(indices), b))


def _source(src: Any, index: Any, like: Tensor) -> Tensor:
    """Return src as a Tensor: the part of it that an index of this shape uses."""
    source = src if is_tensor(src) else as_tensor(np.asarray(src, like.dtype))
    shape = np.shape(index)
    return source if source.shape in ((), shape) else getitem(source, tuple(map(slice, shape)))


def scatter(
    input: Tensor, dim: int, index: Any, src: Any = None, *, value: Any = None, reduce: str | None = None
) -> Tensor:
    """Return input with the elements that index names along dim replaced by those of src, or by a number."""
    src = value if src is None else src
    if reduce is not None:
        if reduce != "add":
            raise ArgumentError(f"scatter adds or replaces; reduce={reduce!r} is not here.")
        return scatter_add(input, dim, index, src)
    _, places = _places(input, dim, index, "scatter")
    source = _source(src, index, input)
    out = input._data.copy()
    out[places] = source._data

    def backward(g: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rest = g.copy()
        rest[places] = 0
        return rest, g[places]

    return record("scatter", out, (input, source), backward)


def scatter_add(input: Tensor, dim: int, index: Any, src: Any) -> Tensor:
    """Return input with the elements of src added to those that index names along dim."""
    _, places = _places(input, dim, index, "scatter_add")
    source = _source(src, index, input)
    out = input._data.copy()
    np.add.at(out, places, source._data)
    return record("scatter_add", out, (input, source), lambda g: (g, g[places]))


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
    places, out = _at(input, dim, index), input._data.copy()
    np.add.at(out, places, source._data * np.asarray(alpha, out.dtype))
    return record("index_add", out, (input, source), lambda g: (g, g[places] * np.asarray(alpha, g.dtype)))


def index_copy(input: Tensor, dim: int, index: Any, source: Any) -> Tensor:
    """Return input with the parts that a vector of indices names along dim replaced by those of source."""
    return index_put(input, _at(input, dim, index), source)


index_fill = index_copy


def index_put(input: Tensor, indices: tuple[Any, ...], values: Any, accumulate: bool = False) -> Tensor:
    """Return input with input[indices] replaced by values, or with values added to them."""
    source, out = as_tensor(values), input.clone()
    if not accumulate:
        out[tuple(indices)] = source
        return out
    places = tuple(map(np.asarray, indices))
    total = input._data.copy()
    np.add.at(total, places, source._data)
    return record("index_put", total, (input, source), lambda g: (g, g[places]))


def masked_select(input: Tensor, mask: Any) -> Tensor:
    """Return the elements where mask is True, as a vector. Both broadcast."""
    a, chosen = broadcast_tensors(input, as_tensor(mask))
    return getitem(a, chosen)


def take(input: Tensor, index: Any) -> Tensor:
    """Return the elements of the flattened tensor at the indices."""
    return getitem(flatten(input), np.asarray(index))


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
    count = input.shape[dim] if input.ndim else 1
    if not 0 <= k <= count:
        raise ShapeError(f"topk of {k} needs as many elements; dim {dim} of shape {input.shape} has {count}.")
    indices = argsort(input, dim, largest).narrow(dim, 0, k) if input.ndim else argsort(input)
    return Extremum(gather(input, dim, indices), indices)


def kthvalue(input: Tensor, k: int, dim: int = -1, keepdim: bool = False) -> Extremum:
    """Return the k-th smallest elements along dim, and their indices. k counts from 1."""
    indices = argsort(input, dim).narrow(dim, k - 1, 1)
    values = gather(input, dim, indices)
    return Extremum(values, indices) if keepdim else Extremum(values.squeeze(dim), indices.squeeze(dim))


def median(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
    """Return the median, the lower of two; with dim, the medians along it and their indices. NaN wins."""
    if dim is None:
        return median(flatten(input), 0).values
    is_missing = isnan(input).any(dim)._data
    found = kthvalue(input, (input.shape[dim] + 1) // 2, dim, keepdim=True)
    if is_missing.any():
        first = isnan(input).long().argmax(dim, keepdim=True)
        indices = np.where(np.expand_dims(is_missing, dim), first._data, found.indices._data)
        found = Extremum(gather(input, dim, indices), as_tensor(indices))
    return found if keepdim else Extremum(found.values.squeeze(dim), found.indices.squeeze(dim))


def mode(input: Tensor, dim: int = -1, keepdim: bool = False) -> Extremum:
    """Return the most frequent elements along dim (of several, the smallest), and the indices of their last places."""
    x = np.moveaxis(input._data, dim, -1)
    counts = (x[..., :, None] == x[..., None, :]).sum(-1)
    is_frequent = counts == counts.max(-1, keepdims=True)
    smallest = np.where(is_frequent, x, x.max(-1, keepdims=True)).min(-1, keepdims=True)
    last = x.shape[-1] - 1 - np.argmax(np.flip(x == smallest, -1), -1, keepdims=True)
    indices = derive("mode", np.moveaxis(last, -1, dim), (input,))
    values = gather(input, dim, indices)
    return Extremum(values, indices) if keepdim else Extremum(values.squeeze(dim), indices.squeeze(dim))


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


def unique_consecutive(input: Tensor, return_inverse: bool = False, return_counts: bool = False) -> Any:
    """Return the elements of a vector without repeats of the one before; if asked, with inverse indices and counts."""
    x = input._data.reshape(-1)
    is_new = np.concatenate([np.ones(min(1, x.size), bool), x[1:] != x[:-1]])
    starts = np.flatnonzero(is_new)
    found = [x[is_new]]
    found += [np.cumsum(is_new).reshape(input.shape) - 1] if return_inverse else []
    found += [np.diff(np.append(starts, x.size))] if return_counts else []
    return tuple(map(as_tensor, found)) if len(found) > 1 else as_tensor(found[0])


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


argwhere = nonzero


def isclose(input: Tensor, other: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Tensor:
    """Return where |input - other| <= atol + rtol * |other|."""
    return derive("isclose", np.isclose(input._data, np.asarray(other), rtol, atol, equal_nan), (input,))


def allclose(input: Tensor, other: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> bool:
    """Return True if all elements are close, see `isclose`."""
    return bool(isclose(input, other, rtol, atol, equal_nan).all())


def equal(input: Tensor, other: Tensor) -> bool:
    """Return True if both have the same shape and elements."""
    return input.shape == other.shape and bool(eq(input, other).all())


def isin(elements: Any, test_elements: Any, *, invert: bool = False) -> Tensor:
    """Return for each element whether it is one of test_elements."""
    return as_tensor(np.isin(np.asarray(elements), np.asarray(test_elements), invert=invert))


def searchsorted(sorted_sequence: Any, input: Any, *, right: bool = False) -> Tensor:
    """Return the places in a sorted vector where the elements would be inserted."""
    return as_tensor(np.searchsorted(np.asarray(sorted_sequence), np.asarray(input), "right" if right else "left"))


def bucketize(input: Any, boundaries: Any, *, right: bool = False) -> Tensor:
    """Return the number of the bucket of each element; boundaries: sorted."""
    return searchsorted(boundaries, input, right=right)


def _triangle_indices(find: Callable[..., Any], text: str) -> Callable[..., Tensor]:
    def function(row: int, col: int, offset: int = 0, **placed: Any) -> Tensor:
        return as_tensor(np.stack(find(row, offset, col)).astype(placed.get("dtype") or np.int64))

    function.__doc__ = f"Return the indices (2, n) of the elements on and {text} a diagonal of a matrix."
    return function


tril_indices, triu_indices = _triangle_indices(np.tril_indices, "below"), _triangle_indices(np.triu_indices, "above")
