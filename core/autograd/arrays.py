"""TensorArray: the NumPy array that `.data` and `.grad` of a tensor return, with the methods of a tensor besides.

    w.grad.zero_()              # the methods that only tensors have are those of Tensor, over the same memory
    w.grad.sum(dim=0)           # and so are reductions with a keyword that only tensors take
    w.data -= 0.1 * w.grad      # everything else is NumPy

Where NumPy has a name of its own, it keeps its meaning: `std()` divides by n. `size` is a number, and may be called.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from .devices import CPU

_OF_TENSORS = {"dim", "keepdim", "correction", "unbiased"}


class _Size(int):
    """The number of elements, which called as size() or size(dim) is the shape or the size of an axis, as in torch."""

    shape: tuple[int, ...]

    def __call__(self, dim: int | None = None) -> Any:
        return self.shape if dim is None else self.shape[dim]


class TensorArray(np.ndarray):
    """An array over the memory of a tensor. What NumPy computes with it is a TensorArray too."""

    shows: np.ndarray | None = None  # the array of the tensor that returned it
    device = CPU  # pyright: ignore[reportAssignmentType, reportIncompatibleMethodOverride]  # NumPy has a string
    _data = property(np.asarray)  # so that functions of tensors take it
    _requires_grad, _backward, _parents = False, None, ()

    @property
    def data(self) -> Self:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The array itself, as `.data` of a tensor."""
        return self

    @property
    def size(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The number of elements, which can be called for the shape."""
        size = _Size(np.ndarray.size.__get__(self))
        size.shape = self.shape
        return size

    def view(self, *args: Any, **kwargs: Any) -> Any:
        """Return a view with another dtype or type, as NumPy does, or with another shape, as torch does."""
        is_shape = args and not kwargs and all(type(size) is int for size in np.atleast_1d(np.array(args, object)).flat)
        return _as_tensor(self).view(*args) if is_shape else super().view(*args, **kwargs)

    def transpose(self, *axes: Any) -> Any:
        """Return a view with two axes swapped, as torch does, or with all axes in another order, as NumPy does."""
        return self.swapaxes(*axes) if len(axes) == 2 else super().transpose(*axes)

    def __getattr__(self, name: str) -> Any:
        # Called only for what an array lacks. NumPy looks for its own protocols this way: a tensor has none to add.
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}.")
        return getattr(_as_tensor(self), name)

    def __repr__(self) -> str:
        return repr(np.asarray(self))


def shown(array: np.ndarray, last: TensorArray | None = None) -> TensorArray:
    """Return a TensorArray over the memory of an array: `last`, if it is one, so that `.data` is the same object."""
    if last is not None and last.shows is array:
        return last
    out = np.ndarray.view(array, TensorArray)
    out.shows = array
    return out


def _as_tensor(array: TensorArray) -> Any:
    from .tensor import Tensor  # which is above: its properties return a TensorArray

    return Tensor(np.asarray(array))


def _reduction(name: str) -> Any:
    of_array = getattr(np.ndarray, name)

    def reduce(self: TensorArray, *args: Any, **kwargs: Any) -> Any:
        if _OF_TENSORS.isdisjoint(kwargs):
            return of_array(self, *args, **kwargs)
        return getattr(_as_tensor(self), name)(*args, **kwargs)

    reduce.__name__, reduce.__doc__ = name, of_array.__doc__
    return reduce


def _in_place(name: str) -> Any:
    of_array = getattr(np.ndarray, name)
    return lambda self, other: of_array(self, getattr(other, "_data", other))  # NumPy refuses a tensor


for _name in ("__iadd__", "__isub__", "__imul__", "__itruediv__"):
    setattr(TensorArray, _name, _in_place(_name))
_SHARED = ["all", "any", "argmax", "argmin", "argsort", "cumprod", "cumsum", "max", "mean", "min", "prod", "sort"]
for _name in (*_SHARED, "squeeze", "std", "sum", "var"):
    setattr(TensorArray, _name, _reduction(_name))
