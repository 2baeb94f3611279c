"""Tensor: an array that remembers how it was computed, so that gradients can be computed too.

    w = Tensor([1.0, 2.0], requires_grad=True)
    loss = (w * w).sum()
    loss.backward()        # w.grad is now the array [2., 4.]

The methods here list what can be computed with a Tensor; operations.py (elementwise, matmul), reductions.py and
shaping.py compute it, each forward next to its gradient. `record` puts every result on the tape (tape.py).

In-place changes (`w -= lr * w.grad`) are for tensors outside a graph: a change to an array that a recorded operation
still needs for its gradient is not detected.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .base import TensorBase, to_array
from .devices import Device, require_cpu
from .dtypes import holds_numbers
from .tape import NONE, Backward, is_grad_enabled, no_grad, recording

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["Tensor", "is_grad_enabled", "no_grad", "record", "tensor"]

Number = bool | int | float
Dim = int | tuple[int, ...] | None
_OPERANDS = (TensorBase, int, float)  # recognized at once; NumPy has to convert anything else


def _binary(operator: Callable[[Any, Any], Tensor]) -> Callable[[Any, Any], Tensor]:
    """Make an operator return NotImplemented if the other operand holds no numbers.

    Python then tries the operator of the other operand. Without one, == is False and + raises TypeError.
    """

    @functools.wraps(operator)
    def checked(self: Tensor, other: Any) -> Tensor:
        return operator(self, other) if isinstance(other, _OPERANDS) or holds_numbers(other) else NotImplemented

    return checked


class Tensor(TensorBase):
    """An n-dimensional array with an optional gradient.

    data: an ndarray is held without a copy. Arrays and NumPy scalars keep their dtype; Python floats become float32 and
    ints int64. grad: an ndarray with the shape and dtype of data, or None.
    Raises ArgumentError if data holds no numbers, or if requires_grad is True and data holds no floats.
    """

    __slots__ = ()

    def detach(self) -> Tensor:
        """Return a tensor over the same memory, outside the graph."""
        return Tensor(self._data)

    # --- arithmetic

    @_binary
    def __add__(self, other: Any) -> Tensor:
        return operations.add(self, other)

    @_binary
    def __radd__(self, other: Any) -> Tensor:
        return operations.add(other, self)

    @_binary
    def __sub__(self, other: Any) -> Tensor:
        return operations.subtract(self, other)

    @_binary
    def __rsub__(self, other: Any) -> Tensor:
        return operations.subtract(other, self)

    @_binary
    def __mul__(self, other: Any) -> Tensor:
        return operations.multiply(self, other)

    @_binary
    def __rmul__(self, other: Any) -> Tensor:
        return operations.multiply(other, self)

    @_binary
    def __truediv__(self, other: Any) -> Tensor:
        return operations.divide(self, other)

    @_binary
    def __rtruediv__(self, other: Any) -> Tensor:
        return operations.divide(other, self)

    @_binary
    def __pow__(self, other: Any) -> Tensor:
        return operations.power(self, other)

    @_binary
    def __rpow__(self, other: Any) -> Tensor:
        return operations.power(other, self)

    @_binary
    def __matmul__(self, other: Any) -> Tensor:
        return operations.matmul(self, other)

    @_binary
    def __rmatmul__(self, other: Any) -> Tensor:
        return operations.matmul(other, self)

    def __neg__(self) -> Tensor:
        return operations.negative(self)

    def __invert__(self) -> Tensor:
        return operations.invert(self)

    @_binary
    def __and__(self, other: Any) -> Tensor:
        return operations.without_gradient(np.bitwise_and, self, other)

    @_binary
    def __or__(self, other: Any) -> Tensor:
        return operations.without_gradient(np.bitwise_or, self, other)

    # --- comparisons: tensors of bool, without gradient

    @_binary
    def __eq__(self, other: Any) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return operations.without_gradient(np.equal, self, other)

    @_binary
    def __ne__(self, other: Any) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return operations.without_gradient(np.not_equal, self, other)

    # Equality is elementwise, so tensors can only be hashed by identity.
    __hash__ = object.__hash__

    @_binary
    def __lt__(self, other: Any) -> Tensor:
        return operations.without_gradient(np.less, self, other)

    @_binary
    def __le__(self, other: Any) -> Tensor:
        return operations.without_gradient(np.less_equal, self, other)

    @_binary
    def __gt__(self, other: Any) -> Tensor:
        return operations.without_gradient(np.greater, self, other)

    @_binary
    def __ge__(self, other: Any) -> Tensor:
        return operations.without_gradient(np.greater_equal, self, other)

    # --- in place: the array changes, and so does every view of it

    @_binary
    def __iadd__(self, other: Any) -> Tensor:
        return operations.in_place(np.add, self, other)

    @_binary
    def __isub__(self, other: Any) -> Tensor:
        return operations.in_place(np.subtract, self, other)

    @_binary
    def __imul__(self, other: Any) -> Tensor:
        return operations.in_place(np.multiply, self, other)

    @_binary
    def __itruediv__(self, other: Any) -> Tensor:
        return operations.in_place(np.true_divide, self, other)

    def __setitem__(self, index: Any, value: Any) -> None:
        operations.require_outside_graph(self, value)
        self._data[shaping.array_index(index)] = np.asarray(value)
        observe("setitem", self, (self,))

    # --- elementwise

    def abs(self) -> Tensor:
        """Return the absolute value of each element. The gradient at 0 is 0."""
        return operations.absolute(self)

    def __abs__(self) -> Tensor:
        return operations.absolute(self)

    def exp(self) -> Tensor:
        """Return e to the power of each element."""
        return operations.exp(self)

    def log(self) -> Tensor:
        """Return the natural logarithm of each element: -inf at 0, NaN below."""
        return operations.log(self)

    def sqrt(self) -> Tensor:
        """Return the square root of each element: NaN below 0."""
        return operations.sqrt(self)

    def tanh(self) -> Tensor:
        """Return the hyperbolic tangent of each element."""
        return operations.tanh(self)

    def sigmoid(self) -> Tensor:
        """Return 1 / (1 + exp(-x)) for each element x."""
        return operations.sigmoid(self)

    def relu(self) -> Tensor:
        """Return max(x, 0) for each element x."""
        return operations.relu(self)

    def clamp(self, min: Number | None = None, max: Number | None = None) -> Tensor:
        """Return the elements limited to [min, max]. The gradient outside the limits is 0."""
        return operations.clamp(self, min, max)

    def masked_fill(self, mask: Any, value: Number) -> Tensor:
        """Return the elements with value wherever mask is True. mask: bool, broadcastable to this shape."""
        return operations.masked_fill(self, mask, value)

    # --- reductions: over dim (an int, a tuple, or None for all), kept as size 1 if keepdim

    def sum(self, dim: Dim = None, keepdim: bool = False) -> Tensor:
        """Return the sum over dim."""
        return reductions.sum(self, dim, keepdim)

    def mean(self, dim: Dim = None, keepdim: bool = False) -> Tensor:
        """Return the mean over dim."""
        return reductions.mean(self, dim, keepdim)

    def var(self, dim: Dim = None, correction: int = 1, keepdim: bool = False) -> Tensor:
        """Return the variance over dim, with divisor n - correction (0: population, 1: sample)."""
        return reductions.var(self, dim, correction, keepdim)

    def std(self, dim: Dim = None, correction: int = 1, keepdim: bool = False) -> Tensor:
        """Return the square root of `var`."""
        return reductions.std(self, dim, correction, keepdim)

    def max(self, dim: int | None = None, keepdim: bool = False) -> Any:
        """Return the largest element, or with dim the tuple (values, indices) along it; see reductions.max."""
        return reductions.max(self, dim, keepdim)

    def min(self, dim: int | None = None, keepdim: bool = False) -> Any:
        """Return the smallest element, or with dim the tuple (values, indices) along it; see reductions.max."""
        return reductions.min(self, dim, keepdim)

    def argmax(self, dim: int | None = None, keepdim: bool = False) -> Tensor:
        """Return the int64 index of the first largest element along dim, or in the flattened tensor."""
        return reductions.position(self, np.argmax, dim, keepdim)

    def argmin(self, dim: int | None = None, keepdim: bool = False) -> Tensor:
        """Return the int64 index of the first smallest element along dim, or in the flattened tensor."""
        return reductions.position(self, np.argmin, dim, keepdim)

    def all(self, dim: Dim = None, keepdim: bool = False) -> Tensor:
        """Return True if every element is nonzero."""
        return derive("all", self._data.all(axis=dim, keepdims=keepdim), (self,))

    def any(self, dim: Dim = None, keepdim: bool = False) -> Tensor:
        """Return True if any element is nonzero."""
        return derive("any", self._data.any(axis=dim, keepdims=keepdim), (self,))

    # --- shape: views of the same memory wherever NumPy can make one

    @property
    def T(self) -> Tensor:
        """A view with all axes in reverse order."""
        return shaping.permute(self, tuple(range(self.ndim))[::-1])

    def __getitem__(self, index: Any) -> Tensor:
        return shaping.getitem(self, index)

    def __iter__(self) -> Iterator[Tensor]:
        return (self[position] for position in range(len(self)))

    def reshape(self, *shape: int | tuple[int, ...]) -> Tensor:
        """Return the elements in another shape, in row-major order. One size may be -1."""
        return shaping.reshape(self, shaping.as_tuple(shape))

    def view(self, *shape: int | tuple[int, ...]) -> Tensor:
        """Return a reshaped view of the same memory. Raises ShapeError if that needs a copy."""
        return shaping.view(self, shaping.as_tuple(shape))

    def flatten(self, start_dim: int = 0, end_dim: int = -1) -> Tensor:
        """Return a tensor with the axes from start_dim to end_dim (inclusive) merged into one."""
        return shaping.flatten(self, start_dim, end_dim)

    def transpose(self, dim0: int, dim1: int) -> Tensor:
        """Return a view with two axes swapped."""
        return shaping.transpose(self, dim0, dim1)

    def permute(self, *dims: int | tuple[int, ...]) -> Tensor:
        """Return a view with the axes in the order given by dims."""
        return shaping.permute(self, shaping.as_tuple(dims))

    def squeeze(self, dim: Dim = None) -> Tensor:
        """Return a view without the axes of size 1. With dim, only those in dim are removed."""
        return shaping.squeeze(self, dim)

    def unsqueeze(self, dim: int) -> Tensor:
        """Return a view with a new axis of size 1 at dim."""
        return shaping.unsqueeze(self, dim)

    def expand(self, *shape: int | tuple[int, ...]) -> Tensor:
        """Return a read-only view, repeated along new axes and axes of size 1. -1 keeps a size."""
        return shaping.expand(self, shaping.as_tuple(shape))

    # --- copies and dtypes

    def clone(self) -> Tensor:
        """Return a copy. Gradients flow through it."""
        return record("clone", self._data.copy(), (self,), lambda g: (g,))

    def contiguous(self) -> Tensor:
        """Return self if the memory is in row-major order, otherwise a row-major copy."""
        return self if self._data.flags.c_contiguous else self.clone()

    def to(self, dtype: npt.DTypeLike) -> Tensor:
        """Return self if it has this dtype, otherwise a copy cast to it. Gradients flow between float dtypes."""
        if self.dtype == dtype:
            return self
        cast = self._data.astype(dtype)
        is_floating = cast.dtype.kind in "fV"
        return record("to", cast, (self,), lambda g: (g,)) if is_floating else derive("to", cast, (self,))

    def double(self) -> Tensor:
        """Return `to(float64)`."""
        return self.to(np.float64)

    def long(self) -> Tensor:
        """Return `to(int64)`."""
        return self.to(np.int64)

    def float(self) -> Tensor:
        """Return `to(float32)`."""
        return self.to(np.float32)


def record(
    operation: str, data: Any, parents: tuple[Tensor, ...], backward: Backward, arguments: Mapping[str, Any] = NONE
) -> Tensor:
    """Return the result of an operation as a Tensor, on the tape if recording is on and a parent requires a gradient.

    operation: the name that doctor() and summary() use. data: an array or NumPy scalar. backward: see tape.py.
    arguments: what else determines the result, for an observer.
    """
    out = Tensor.__new__(Tensor)
    out._data = data if type(data) is np.ndarray else np.asarray(data)
    out._grad = None
    recorded = recording.get()
    if recorded is True:
        for parent in parents:
            if parent._requires_grad:
                out._requires_grad, out._operation, out._parents, out._backward = True, operation, parents, backward
                return out
    out._requires_grad, out._operation, out._parents, out._backward = False, "", (), None
    if recorded is not True and recorded is not False:
        recorded(operation, out, parents, arguments)
    return out


def derive(operation: str, data: Any, parents: tuple[Tensor, ...], arguments: Mapping[str, Any] = NONE) -> Tensor:
    """Return the result of an operation that has no gradient, such as a comparison. Otherwise like `record`."""
    out = Tensor(np.asarray(data))
    observe(operation, out, parents, arguments)
    return out


def observe(operation: str, out: Tensor, operands: tuple[Tensor, ...], arguments: Mapping[str, Any] = NONE) -> None:
    """Tell the observer, if there is one, about an operation that is not recorded."""
    recorded = recording.get()
    if recorded is not True and recorded is not False:
        recorded(operation, out, operands, arguments)


def as_tensor(data: Any) -> Tensor:
    """Return data if it is a Tensor, otherwise `Tensor(data)`."""
    return data if isinstance(data, Tensor) else Tensor(data)


def tensor(data: Any, dtype: npt.DTypeLike | None = None, device: Device = None, requires_grad: bool = False) -> Tensor:
    """Return a Tensor that holds a copy of data, in dtype if given, otherwise in the dtype of `Tensor(data)`."""
    require_cpu(device)
    return Tensor(np.array(to_array(data), dtype=dtype), requires_grad)


# At the end because the dependency is mutual: the methods above call these modules, which build their results with
# Tensor and record.
from . import operations, reductions, shaping  # noqa: E402
