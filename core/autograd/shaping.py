"""Operations that move elements without changing them, each forward next to its gradient.

A result is a view of the same memory wherever NumPy can make one: basic indexing, transposes, most reshapes.
"""

from __future__ import annotations

import builtins
import functools
import itertools
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ..arrays.versions import mark_written, put_back, replaced
from ..errors import ArgumentError, ShapeError
from .dtypes import is_floating, promoted
from .tape import (
    as_tensor,
    is_grad_enabled,
    is_tensor,
    named,
    observe,
    record,
    relink,
    require_changeable,
    require_current,
)

if TYPE_CHECKING:
    from .tensor import Dim, Tensor

__all__ = [
    "broadcast_tensors", "broadcast_to", "cat", "chunk", "concat", "diag", "diagonal", "dstack", "flatten", "flip",
    "hstack", "meshgrid", "movedim", "narrow", "permute", "ravel", "repeat_interleave", "reshape", "roll", "select",
    "split", "squeeze", "stack", "swapaxes", "t", "tile", "transpose", "tril", "triu", "unbind", "unflatten",
    "unsqueeze", "vstack",
]  # fmt: skip

Returned = TypeVar("Returned")


def numpy_names(function: Callable[..., Returned]) -> Callable[..., Returned]:
    """Let a function take `axis` and `keepdims` too, as torch does, and a dtype to compute in."""

    @functools.wraps(function)
    def renamed(*args: Any, **kwargs: Any) -> Returned:
        if kwargs:
            kwargs = {{"axis": "dim", "keepdims": "keepdim"}.get(name, name): value for name, value in kwargs.items()}
            if (dtype := kwargs.pop("dtype", None)) is not None:
                args = (as_tensor(args[0]).to(dtype), *args[1:])
        return function(*args, **kwargs)

    return renamed


def broadcasts_to(shape: tuple[int, ...], target: tuple[int, ...]) -> bool:
    """Return True if an array of this shape broadcasts to target."""
    padded = (1,) * (len(target) - len(shape)) + shape
    return len(padded) == len(target) and all(size in (1, wanted) for size, wanted in zip(padded, target, strict=True))


def as_tuple(sizes: tuple[Any, ...]) -> tuple[int, ...]:
    """Return the sizes as one tuple, whether the call was `f(2, 3)` or `f((2, 3))`."""
    return tuple(sizes[0]) if len(sizes) == 1 and isinstance(sizes[0], Sequence) else sizes


def basic_index(index: tuple[Any, ...]) -> bool:
    """Return True if an index holds no arrays or lists, so that it picks a view."""
    return builtins.all(
        part is None or part is Ellipsis or isinstance(part, slice | np.integer) or type(part) is int for part in index
    )


def array_index(index: Any) -> Any:
    """Return the index with its Tensors replaced by arrays."""
    if isinstance(index, tuple):
        return tuple(array_index(part) for part in index)
    return index._data if is_tensor(index) else index


def getitem(a: Tensor, index: Any) -> Tensor:
    """Return a[index]: a view for ints and slices, a copy for arrays and lists of positions or bools.

    An element that is picked several times gets the sum of the gradients. Raises IndexError as NumPy does.
    """
    index = array_index(index)
    parts = index if isinstance(index, tuple) else (index,)
    basic = basic_index(parts)
    if basic and not builtins.any(part is Ellipsis for part in parts):
        index = (*parts, ...)  # so that even a single element is a view, not a scalar
    out, shape, dtype = a._data[index], a.shape, a.dtype

    def backward(g: np.ndarray) -> tuple[np.ndarray]:
        full = np.zeros(shape, dtype if basic else np.result_type(dtype, np.float32))  # 16-bit sums lose small terms
        if basic:
            full[index] = g
        else:
            np.add.at(full, index, g)
        return (full,)

    return record("getitem", out, (a,), backward, {"index": parts})


def setitem(a: Tensor, index: Any, value: Any) -> None:
    """Write value to a[index]. In a graph, a becomes the result, and the gradient flows to the value."""
    index = array_index(index)
    if replaced:
        parts = index if isinstance(index, tuple) else (index,)
        if is_tensor(value) and basic_index(parts):
            put_back(a._data[parts if Ellipsis in parts else (*parts, ...)], value)  # the end of `a[index] += b`
        require_current((a, value) if is_tensor(value) else (a,))
    if not (is_grad_enabled() and (a._requires_grad or (is_tensor(value) and value._requires_grad))):
        a._data[index] = np.asarray(value)
        mark_written(a._data)
        observe("setitem", a, (a,))
        return
    require_changeable(a)
    if not is_floating(a.dtype):
        raise ArgumentError(f"values with a gradient cannot be kept in a tensor of {a.dtype}. Call .float() first.")
    # Without a copy if nothing else can refer to the array: its attribute and the argument here are two references.
    is_alone = sys.getrefcount(a._data) <= 2 and a._data.base is None and a._data.flags.writeable
    data, given = a._data if is_alone else a._data.copy(), as_tensor(value)
    picked = data[index].shape
    if given.ndim > len(picked):
        given = reshape(given, given.shape[given.ndim - len(picked) :])
    data[index] = given._data

    def backward(g: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rest = g.copy()
        rest[index] = 0
        return rest, np.asarray(g[index])

    relink(a, record("setitem", data, (a, given), backward))


def reshape(a: Tensor, *sizes: Any) -> Tensor:
    """Return the elements in another shape, in row-major order; one entry may be -1."""
    before, shape = a.shape, as_tuple(sizes)
    try:
        out = a._data.reshape(shape)
    except ValueError as error:
        raise ShapeError(f"cannot reshape {before}, which has {a.numel()} elements, to {shape}.") from error
    return record("reshape", out, (a,), lambda g: (g.reshape(before),))


def view(a: Tensor, *sizes: Any) -> Tensor:
    """Return a reshaped view of the same memory, or with a dtype a view of its bytes.

    Raises ShapeError if that needs a copy.
    """
    shape = as_tuple(sizes)
    if len(shape) == 1 and isinstance(shape[0], np.dtype | type):
        return as_tensor(a._data.view(shape[0]))
    out = reshape(a, shape)
    if a._data.size and not np.may_share_memory(out._data, a._data):
        raise ShapeError(f"a view of {a.shape} as {shape} cannot share memory. Use reshape(), which may copy.")
    return out


def flatten(a: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Return a tensor with the axes from start_dim to end_dim (inclusive) merged into one."""
    if a.ndim == 0:
        return reshape(a, (1,))
    start, end = _axis(a, start_dim), _axis(a, end_dim)
    if start > end:
        raise ShapeError(
            f"flatten from dim {start_dim} to {end_dim}: the start comes after the end for shape {a.shape}."
        )
    merged = int(np.prod(a.shape[start : end + 1]))  # not -1, which is ambiguous for an empty tensor
    return reshape(a, (*a.shape[:start], merged, *a.shape[end + 1 :]))


def permute(a: Tensor, *dims: Any) -> Tensor:
    """Return a view with the axes in the order given by dims."""
    dims = as_tuple(dims)
    axes = tuple(_axis(a, dim) for dim in dims)
    if sorted(axes) != list(range(a.ndim)):
        raise ShapeError(f"permute({', '.join(map(str, dims))}) does not name each axis of shape {a.shape} once.")
    arguments = {"axes": axes}
    return record("permute", a._data.transpose(axes), (a,), lambda g: (g.transpose(np.argsort(axes)),), arguments)


def transpose(a: Tensor, dim0: int, dim1: int) -> Tensor:
    """Return a view with two axes swapped."""
    first, second = _axis(a, dim0), _axis(a, dim1)
    arguments = {"axes": (first, second)}
    return record("transpose", a._data.swapaxes(first, second), (a,), lambda g: (g.swapaxes(first, second),), arguments)


def squeeze(a: Tensor, dim: Dim = None) -> Tensor:
    """Return a view without the axes of size 1. With dim, only those in dim are removed."""
    dims = range(a.ndim) if dim is None else (dim,) if isinstance(dim, int) else dim
    before, dropped = a.shape, {_axis(a, axis) for axis in dims}
    after = [size for axis, size in enumerate(before) if size != 1 or axis not in dropped]
    return record("squeeze", a._data.reshape(after), (a,), lambda g: (g.reshape(before),))


def unsqueeze(a: Tensor, dim: int) -> Tensor:
    """Return a view with a new axis of size 1 at dim."""
    if not -a.ndim - 1 <= dim <= a.ndim:
        raise ShapeError(f"unsqueeze({dim}) is out of range for a tensor of shape {a.shape}.")
    before = a.shape
    return record("unsqueeze", np.expand_dims(a._data, dim), (a,), lambda g: (g.reshape(before),))


def expand(a: Tensor, *sizes: Any) -> Tensor:
    """Return a read-only view, repeated along new axes and axes of size 1. -1 keeps a size."""
    shape = as_tuple(sizes)
    own = (1,) * (len(shape) - a.ndim) + a.shape
    target = tuple(mine if size == -1 else size for mine, size in zip(own, shape, strict=False))
    try:
        out = np.broadcast_to(a._data, target)
    except ValueError as error:
        raise ShapeError(f"cannot expand {a.shape} to {shape}: only axes of size 1 can be repeated.") from error
    return record("expand", out, (a,), lambda g: (g,))


@numpy_names
def stack(tensors: Sequence[Any], dim: int = 0) -> Tensor:
    """Return tensors of the same shape joined along a new axis dim."""
    parts = _alike(tensors)
    if len({part.shape for part in parts}) != 1:
        raise ShapeError(f"stack needs tensors of the same shape, not {[part.shape for part in parts]}.")
    out = np.stack([part._data for part in parts], axis=dim)
    return record("stack", out, parts, lambda g: list(np.moveaxis(g, dim, 0)), {"axis": dim})


@numpy_names
def cat(tensors: Sequence[Any], dim: int = 0) -> Tensor:
    """Return tensors joined along the existing axis dim. Other axes must agree, except for (0,)."""
    parts = _alike(tensors)
    if builtins.any(part.ndim != 1 for part in parts):
        parts = tuple(part for part in parts if part.shape != (0,))
    try:
        out = np.concatenate([part._data for part in parts], axis=dim)
    except ValueError as error:
        raise ShapeError(f"cat along dim {dim} cannot join the shapes {[part.shape for part in parts]}.") from error
    ends = np.cumsum([part.shape[dim] for part in parts])[:-1]
    return record("cat", out, parts, lambda g: np.split(g, ends, axis=dim), {"axis": dim})


def _alike(tensors: Sequence[Any]) -> tuple[Tensor, ...]:
    """Return the tensors in the dtype that torch joins them in."""
    parts = tuple(map(as_tensor, tensors))
    if len({part._data.dtype for part in parts}) > 1:
        dtype = promoted(*(part._data for part in parts))
        parts = tuple(part.to(dtype) for part in parts)
    return parts


def _joined(name: str, atleast: Callable[[np.ndarray], np.ndarray], dim: int) -> Callable[[Sequence[Any]], Tensor]:
    def function(tensors: Sequence[Any]) -> Tensor:
        parts = [reshape(part, atleast(part._data).shape) for part in map(as_tensor, tensors)]
        return cat(parts, builtins.min(dim, parts[0].ndim - 1))

    return named(function, name, f"Return tensors joined along dim {dim}, with as many axes as that needs.")


hstack, vstack = _joined("hstack", np.atleast_1d, 1), _joined("vstack", np.atleast_2d, 0)
dstack, concat = _joined("dstack", np.atleast_3d, 2), cat


# --- parts of a tensor: views


def narrow(input: Tensor, dim: int, start: int, length: int) -> Tensor:
    """Return the part of `length` elements from start along dim."""
    axis = _axis(input, dim)
    start = start + input.shape[axis] if start < 0 else int(start)
    if not 0 <= start <= start + length <= input.shape[axis]:
        raise ShapeError(f"narrow from {start} by {length} exceeds dim {dim} of a tensor of shape {input.shape}.")
    return getitem(input, (slice(None),) * axis + (slice(start, start + length),))


def select(input: Tensor, dim: int, index: int) -> Tensor:
    """Return the part at an index of dim, without that axis."""
    return getitem(input, (slice(None),) * _axis(input, dim) + (index,))


def unbind(input: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """Return the parts at each index of dim."""
    return tuple(select(input, dim, index) for index in range(input.shape[_axis(input, dim)]))


def split(tensor: Tensor, split_size_or_sections: int | Sequence[int], dim: int = 0) -> tuple[Tensor, ...]:
    """Return parts along dim: of one size (the last may be smaller), or of the given sizes."""
    total, sizes = tensor.shape[_axis(tensor, dim)], split_size_or_sections
    if isinstance(sizes, int):
        sizes = [builtins.min(sizes, total - start) for start in range(0, total, sizes)] if sizes and total else [total]
    if builtins.sum(sizes) != total:
        raise ShapeError(f"split into {list(sizes)} does not add up to dim {dim} of a tensor of shape {tensor.shape}.")
    starts = itertools.accumulate(sizes, initial=0)
    return tuple(narrow(tensor, dim, start, size) for start, size in zip(starts, sizes, strict=False))


def chunk(input: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """Return up to `chunks` parts along dim, of one size; the last may be smaller."""
    return split(input, builtins.max(1, -(-input.shape[_axis(input, dim)] // chunks)), dim)


def diagonal(input: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """Return a view of the diagonal of the axes dim1 and dim2, as the last axis."""
    shape, dtype = input.shape, input.dtype
    out = np.diagonal(input._data, offset, dim1, dim2)
    out.flags.writeable = input._data.flags.writeable

    def backward(g: np.ndarray) -> tuple[np.ndarray]:
        full = np.zeros(shape, dtype)
        part = np.diagonal(full, offset, dim1, dim2)
        part.flags.writeable = True
        part[...] = g
        return (full,)

    return record("diagonal", out, (input,), backward)


_diagonal = diagonal  # `diag` has an argument of this name


def diag(input: Tensor, diagonal: int = 0) -> Tensor:
    """Return the matrix with a vector on its diagonal, or the diagonal of a matrix."""
    if input.ndim == 1:
        return record("diag", np.diag(input._data, diagonal), (input,), lambda g: (np.diag(g, diagonal),))
    return _diagonal(input, diagonal)


def _triangle(name: str, keep: Callable[..., np.ndarray]) -> Callable[..., Tensor]:
    def function(input: Tensor, diagonal: int = 0) -> Tensor:
        if input.ndim < 2:
            raise ShapeError(f"{name} needs a matrix, not a tensor of shape {input.shape}.")
        return record(
            name, keep(input._data, diagonal), (input,), lambda g: (keep(g, diagonal),), {"diagonal": diagonal}
        )

    return named(function, name, f"Return the elements that numpy.{name} keeps, and 0 for the others.")


tril, triu = _triangle("tril", np.tril), _triangle("triu", np.triu)


# --- elements at other places: copies


def _moved(name: str, move: Callable[..., np.ndarray]) -> Callable[..., Tensor]:
    """Return the function that picks the elements at the places to which NumPy's function moves their numbers."""

    def function(input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return getitem(reshape(input, -1), move(np.arange(input.numel()).reshape(input.shape), *args, **kwargs))

    return named(function, name, f"Return the elements at other places, as torch.{name} does.")


flip = _moved("flip", lambda places, *axes, dims=(): np.flip(places, as_tuple(axes) or dims))
roll = _moved("roll", lambda places, shifts, dims=None: np.roll(places, shifts, dims))
tile = _moved("tile", lambda places, *dims: np.tile(places, as_tuple(dims)))
repeat = _moved("repeat", lambda places, *sizes: np.tile(places, as_tuple(sizes)))
repeat_interleave = _moved(
    "repeat_interleave", lambda places, repeats, dim=None: np.repeat(places, np.asarray(repeats), dim)
)


def movedim(input: Tensor, source: Any, destination: Any) -> Tensor:
    """Return a view with the axes in source at the places in destination."""
    return permute(input, np.moveaxis(np.broadcast_to(0, range(input.ndim)), source, destination).shape)


def meshgrid(*tensors: Any, indexing: str = "ij") -> tuple[Tensor, ...]:
    """Return the coordinates of a grid: each vector repeated along the axes of the others."""
    vectors = [reshape(as_tensor(vector), -1) for vector in as_tuple(tensors)]
    grids = np.meshgrid(*(np.arange(len(vector)) for vector in vectors), indexing=indexing)  # pyright: ignore
    return tuple(map(getitem, vectors, grids))


def broadcast_tensors(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Return views of the tensors in the shape that they broadcast to."""
    shape = np.broadcast_shapes(*(tensor.shape for tensor in tensors))
    return tuple(expand(tensor, shape) for tensor in tensors)


def t(input: Tensor) -> Tensor:
    """Return the transpose of a matrix; a vector as it is."""
    if input.ndim > 2:
        raise ShapeError(f"t() needs a matrix, not a tensor of shape {input.shape}. Use transpose(dim0, dim1).")
    return permute(input, *range(input.ndim)[::-1])


def unflatten(input: Tensor, dim: int, sizes: Sequence[int]) -> Tensor:
    """Return a view with the axis dim split into several of the given sizes."""
    axis = _axis(input, dim)
    return reshape(input, (*input.shape[:axis], *sizes, *input.shape[axis + 1 :]))


ravel = named(lambda input: reshape(input, -1), "ravel", "Return the elements as a vector.")
broadcast_to, swapaxes = expand, transpose


def _axis(a: Tensor, dim: int) -> int:
    """Return dim counted from the front. Raises ShapeError if the tensor has no such axis."""
    if not -a.ndim <= dim < a.ndim:
        raise ShapeError(f"there is no dim {dim} in a tensor of shape {a.shape}.")
    return dim % a.ndim
