"""Operations that move elements without changing them, each forward next to its gradient.

A result is a view of the same memory wherever NumPy can make one: basic indexing, transposes, most reshapes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import ShapeError
from .tensor import Dim, Tensor, record


def broadcasts_to(shape: tuple[int, ...], target: tuple[int, ...]) -> bool:
    """Return True if an array of this shape broadcasts to target."""
    padded = (1,) * (len(target) - len(shape)) + shape
    return len(padded) == len(target) and all(size in (1, wanted) for size, wanted in zip(padded, target, strict=True))


def as_tuple(sizes: tuple[Any, ...]) -> tuple[int, ...]:
    """Return the sizes as one tuple, whether the call was `f(2, 3)` or `f((2, 3))`."""
    return tuple(sizes[0]) if len(sizes) == 1 and isinstance(sizes[0], Sequence) else sizes


def array_index(index: Any) -> Any:
    """Return the index with its Tensors replaced by arrays."""
    if isinstance(index, tuple):
        return tuple(array_index(part) for part in index)
    return index._data if isinstance(index, Tensor) else index


def getitem(a: Tensor, index: Any) -> Tensor:
    """Return a[index]: a view for ints and slices, a copy for arrays and lists of positions or bools.

    An element that is picked several times gets the sum of the gradients. Raises IndexError as NumPy does.
    """
    index = array_index(index)
    parts = index if isinstance(index, tuple) else (index,)
    basic = all(
        part is None or part is Ellipsis or isinstance(part, slice | np.integer) or type(part) is int for part in parts
    )
    if basic and not any(part is Ellipsis for part in parts):
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


def reshape(a: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return the elements in another shape, in row-major order; one entry may be -1."""
    before = a.shape
    try:
        out = a._data.reshape(shape)
    except ValueError as error:
        raise ShapeError(f"cannot reshape {before}, which has {a.numel()} elements, to {shape}.") from error
    return record("reshape", out, (a,), lambda g: (g.reshape(before),))


def view(a: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return a reshaped view of the same memory. Raises ShapeError if that needs a copy."""
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


def permute(a: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Return a view with the axes in the order given by dims."""
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


def expand(a: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return a read-only view, repeated along new axes and axes of size 1. -1 keeps a size."""
    own = (1,) * (len(shape) - a.ndim) + a.shape
    target = tuple(mine if size == -1 else size for mine, size in zip(own, shape, strict=False))
    try:
        out = np.broadcast_to(a._data, target)
    except ValueError as error:
        raise ShapeError(f"cannot expand {a.shape} to {shape}: only axes of size 1 can be repeated.") from error
    return record("expand", out, (a,), lambda g: (g,))


def stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Return tensors of the same shape joined along a new axis dim."""
    parts = tuple(tensors)
    if len({part.shape for part in parts}) != 1:
        raise ShapeError(f"stack needs tensors of the same shape, not {[part.shape for part in parts]}.")
    out = np.stack([part._data for part in parts], axis=dim)
    return record("stack", out, parts, lambda g: list(np.moveaxis(g, dim, 0)), {"axis": dim})


def cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Return tensors joined along the existing axis dim. The other axes must agree."""
    parts = tuple(tensors)
    try:
        out = np.concatenate([part._data for part in parts], axis=dim)
    except ValueError as error:
        raise ShapeError(f"cat along dim {dim} cannot join the shapes {[part.shape for part in parts]}.") from error
    ends = np.cumsum([part.shape[dim] for part in parts])[:-1]
    return record("cat", out, parts, lambda g: np.split(g, ends, axis=dim), {"axis": dim})


def _axis(a: Tensor, dim: int) -> int:
    """Return dim counted from the front. Raises ShapeError if the tensor has no such axis."""
    if not -a.ndim <= dim < a.ndim:
        raise ShapeError(f"there is no dim {dim} in a tensor of shape {a.shape}.")
    return dim % a.ndim
