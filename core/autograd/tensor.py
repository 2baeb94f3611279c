"""Tensor: an array that remembers how it was computed, so that gradients can be found.

    w = Tensor([1.0, 2.0], requires_grad=True)
    loss = (w * w).sum()
    loss.backward()        # w.grad is now the array [2., 4.]

The methods here say what a Tensor can do; how each is computed, forward beside gradient, stands in operations.py
(elementwise, matmul), reductions.py and shaping.py. Every result is recorded through `record`, the tape is tape.py.

In-place changes (`w -= lr * w.grad`) are for tensors outside a graph: a change to an array that a recorded operation
still needs for its gradient is not detected.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..errors import ArgumentError, GraphError, ShapeError
from .silence import silently
from .tape import Backward, is_grad_enabled, no_grad, recording, run_backward

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["Tensor", "is_grad_enabled", "no_grad", "record", "tensor"]

Number = bool | int | float
Dim = int | tuple[int, ...] | None


class Tensor:
    """An n-dimensional array with an optional gradient.

    data: an ndarray is held, never copied, and keeps its dtype, as NumPy scalars do; Python floats become float32,
    ints int64. grad: an ndarray of data's shape and dtype, or None. Raises ArgumentError if data holds no numbers,
    or if requires_grad is asked of anything but floats.
    """

    __slots__ = ("__weakref__", "_backward", "_operation", "_parents", "_requires_grad", "data", "grad")

    # True where the link to `_parents` is part of what the tensor is (a parameter that views another's memory):
    # backward() then leaves it in place.
    _keep_graph: ClassVar[bool] = False

    # NumPy must leave `array * tensor` to us, or it would build an object array of tensors.
    __array_ufunc__ = None

    data: np.ndarray
    grad: np.ndarray | None
    _operation: str  # the name of the recorded operation that computed it, "" if there is none
    _parents: tuple[Tensor, ...]
    _backward: Backward | None

    def __init__(self, data: Any, requires_grad: bool = False) -> None:
        self.data = _to_array(data)
        self.grad = None
        self._operation, self._parents, self._backward = "", (), None
        self._requires_grad = False
        if requires_grad:
            self.requires_grad = True

    # --- what it is

    @property
    def requires_grad(self) -> bool:
        """Whether `backward()` finds a gradient for this tensor, or through it."""
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, flag: bool) -> None:
        if flag and self.data.dtype.kind not in "fV":  # "V": bfloat16 and the like
            raise ArgumentError(
                f"only a tensor of floats can require a gradient, not {self.dtype}. Call .float() first."
            )
        if not flag and self._requires_grad and self._parents and not self._keep_graph:
            raise GraphError("this tensor is the result of a recorded operation. Call detach() to leave the graph.")
        self._requires_grad = flag

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Return self, after setting `requires_grad`."""
        self.requires_grad = requires_grad
        return self

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.data.dtype

    @property
    def ndim(self) -> int:
        return self.data.ndim

    @property
    def T(self) -> Tensor:
        """A view with the order of all axes reversed."""
        return shaping.permute(self, tuple(range(self.ndim))[::-1])

    def size(self, dim: int | None = None) -> tuple[int, ...] | int:
        """Return the shape, or its entry dim."""
        return self.data.shape if dim is None else self.data.shape[dim]

    def numel(self) -> int:
        """Return the number of elements."""
        return self.data.size

    def __len__(self) -> int:
        return len(self.data)

    def __repr__(self) -> str:
        text = np.array2string(self.data, separator=", ", prefix="tensor(")
        kind = "" if self.dtype in (np.float32, np.int64, np.bool_) else f", dtype={self.dtype}"
        return f"tensor({text}{kind}{', requires_grad=True' if self._requires_grad else ''})"

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if self.ndim == 0 else super().__format__(spec)

    # Equality is elementwise, so that only identity is left to hash by.
    __hash__ = object.__hash__

    # --- out of the graph

    def item(self) -> Any:
        """Return the one element as a Python number. Raises ShapeError if there is not exactly one."""
        if self.data.size != 1:
            raise ShapeError(f"only a tensor of one element has one value; this one has shape {self.shape}.")
        return self.data.item()

    def __bool__(self) -> bool:
        return bool(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __float__(self) -> Any:
        return float(self.item())

    def __index__(self) -> int:
        return self.item().__index__()

    def numpy(self) -> np.ndarray:
        """Return the array itself. Raises GraphError if the tensor requires a gradient, which would be lost."""
        if self._requires_grad:
            raise GraphError("numpy() of a tensor that requires a gradient would lose it. Call detach().numpy().")
        return self.data

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.data, dtype=dtype) if copy else np.asarray(self.data, dtype=dtype)

    def detach(self) -> Tensor:
        """Return a tensor with the same memory that no gradient flows through."""
        return Tensor(self.data)

    # --- gradients

    def backward(self, gradient: Tensor | npt.ArrayLike | None = None) -> None:
        """Add the derivatives of this tensor to `.grad` of every leaf it was computed from; then the graph is gone.

        gradient: what to weigh this tensor's elements with, same shape; not needed for a single number.
        Raises GraphError if nothing requires a gradient, if it is needed and not given, or on a second pass.
        """
        if not self._requires_grad:
            raise GraphError(
                "backward() of a tensor that requires no gradient. Compute it from tensors with requires_grad=True, "
                "outside no_grad() and without detach()."
            )
        if gradient is None:
            if self.data.size != 1:
                raise GraphError(
                    f"backward() starts at a single number; this tensor has shape {self.shape}. "
                    "Reduce it first, as in loss.mean().backward(), or pass backward(gradient) of that shape."
                )
            start = np.array(1, self.data.dtype)
            if self.data.ndim:
                start = start.reshape(self.data.shape)
        else:
            start = np.array(gradient, dtype=self.dtype)
            if start.shape != self.shape:
                raise ShapeError(
                    f"backward() was given a gradient of shape {start.shape} for a tensor of {self.shape}."
                )
        if self._backward is not None:
            silently(run_backward, self, start)
        elif self.grad is None:
            self.grad = start
        else:
            self.grad += start

    # --- arithmetic

    def __add__(self, other: Any) -> Tensor:
        return operations.add(self, other)

    def __radd__(self, other: Any) -> Tensor:
        return operations.add(other, self)

    def __sub__(self, other: Any) -> Tensor:
        return operations.subtract(self, other)

    def __rsub__(self, other: Any) -> Tensor:
        return operations.subtract(other, self)

    def __mul__(self, other: Any) -> Tensor:
        return operations.multiply(self, other)

    def __rmul__(self, other: Any) -> Tensor:
        return operations.multiply(other, self)

    def __truediv__(self, other: Any) -> Tensor:
        return operations.divide(self, other)

    def __rtruediv__(self, other: Any) -> Tensor:
        return operations.divide(other, self)

    def __pow__(self, other: Any) -> Tensor:
        return operations.power(self, other)

    def __rpow__(self, other: Any) -> Tensor:
        return operations.power(other, self)

    def __matmul__(self, other: Any) -> Tensor:
        return operations.matmul(self, other)

    def __rmatmul__(self, other: Any) -> Tensor:
        return operations.matmul(other, self)

    def __neg__(self) -> Tensor:
        return operations.negative(self)

    def __invert__(self) -> Tensor:
        return Tensor(np.invert(self.data))

    def __and__(self, other: Any) -> Tensor:
        return operations.without_gradient(np.bitwise_and, self, other)

    def __or__(self, other: Any) -> Tensor:
        return operations.without_gradient(np.bitwise_or, self, other)

    # --- comparisons: tensors of bool, without gradient

    def __eq__(self, other: Any) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return operations.without_gradient(np.equal, self, other)

    def __ne__(self, other: Any) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return operations.without_gradient(np.not_equal, self, other)

    def __lt__(self, other: Any) -> Tensor:
        return operations.without_gradient(np.less, self, other)

    def __le__(self, other: Any) -> Tensor:
        return operations.without_gradient(np.less_equal, self, other)

    def __gt__(self, other: Any) -> Tensor:
        return operations.without_gradient(np.greater, self, other)

    def __ge__(self, other: Any) -> Tensor:
        return operations.without_gradient(np.greater_equal, self, other)

    # --- in place: the array changes, every view of it sees the change

    def __iadd__(self, other: Any) -> Tensor:
        return operations.in_place(np.add, self, other)

    def __isub__(self, other: Any) -> Tensor:
        return operations.in_place(np.subtract, self, other)

    def __imul__(self, other: Any) -> Tensor:
        return operations.in_place(np.multiply, self, other)

    def __itruediv__(self, other: Any) -> Tensor:
        return operations.in_place(np.true_divide, self, other)

    def __setitem__(self, index: Any, value: Any) -> None:
        operations.require_outside_graph(self, value)
        self.data[shaping.array_index(index)] = np.asarray(value)

    # --- elementwise

    def abs(self) -> Tensor:
        """Return absolute values; see operations.absolute."""
        return operations.absolute(self)

    def __abs__(self) -> Tensor:
        return operations.absolute(self)

    def exp(self) -> Tensor:
        """Return e to the power of each element."""
        return operations.exp(self)

    def log(self) -> Tensor:
        """Return natural logarithms: -inf at 0, NaN below."""
        return operations.log(self)

    def sqrt(self) -> Tensor:
        """Return square roots: NaN below 0."""
        return operations.sqrt(self)

    def tanh(self) -> Tensor:
        """Return hyperbolic tangents."""
        return operations.tanh(self)

    def sigmoid(self) -> Tensor:
        """Return 1 / (1 + exp(-x)); see functional.sigmoid."""
        return operations.sigmoid(self)

    def relu(self) -> Tensor:
        """Return max(x, 0); see functional.relu."""
        return operations.relu(self)

    def clamp(self, min: Number | None = None, max: Number | None = None) -> Tensor:
        """Return the elements limited to [min, max]; the gradient is 0 where the limit holds."""
        return operations.clamp(self, min, max)

    def masked_fill(self, mask: Any, value: Number) -> Tensor:
        """Return the elements, but value where mask is True. mask: bool, broadcastable to this shape."""
        return operations.masked_fill(self, mask, value)

    # --- reductions: over dim (an int, a tuple, or None for all), kept as size 1 if keepdim

    def sum(self, dim: Dim = None, keepdim: bool = False) -> Tensor:
        """Return the sum over dim."""
        return reductions.sum(self, dim, keepdim)

    def mean(self, dim: Dim = None, keepdim: bool = False) -> Tensor:
        """Return the mean over dim."""
        return reductions.mean(self, dim, keepdim)

    def var(self, dim: Dim = None, correction: int = 1, keepdim: bool = False) -> Tensor:
        """Return the variance over dim, divided by n - correction (0: of a population, 1: of a sample)."""
        return reductions.var(self, dim, correction, keepdim)

    def std(self, dim: Dim = None, correction: int = 1, keepdim: bool = False) -> Tensor:
        """Return the square root of `var`."""
        return reductions.std(self, dim, correction, keepdim)

    def max(self, dim: int | None = None, keepdim: bool = False) -> Any:
        """Return the largest element, or (values, indices) of the largest along dim; see reductions.max."""
        return reductions.max(self, dim, keepdim)

    def min(self, dim: int | None = None, keepdim: bool = False) -> Any:
        """Return the smallest element, or (values, indices) of the smallest along dim; see reductions.max."""
        return reductions.min(self, dim, keepdim)

    def argmax(self, dim: int | None = None, keepdim: bool = False) -> Tensor:
        """Return the int64 index of the (first) largest along dim, or in the flattened tensor."""
        return reductions.position(self, np.argmax, dim, keepdim)

    def argmin(self, dim: int | None = None, keepdim: bool = False) -> Tensor:
        """Return the int64 index of the (first) smallest along dim, or in the flattened tensor."""
        return reductions.position(self, np.argmin, dim, keepdim)

    def all(self, dim: Dim = None, keepdim: bool = False) -> Tensor:
        """Return whether every element is true (not 0)."""
        return Tensor(np.asarray(self.data.all(axis=dim, keepdims=keepdim)))

    def any(self, dim: Dim = None, keepdim: bool = False) -> Tensor:
        """Return whether some element is true (not 0)."""
        return Tensor(np.asarray(self.data.any(axis=dim, keepdims=keepdim)))

    # --- shape: views of the same memory wherever NumPy can make one

    def __getitem__(self, index: Any) -> Tensor:
        return shaping.getitem(self, index)

    def __iter__(self) -> Iterator[Tensor]:
        return (self[position] for position in range(len(self)))

    def reshape(self, *shape: int | tuple[int, ...]) -> Tensor:
        """Return the elements in another shape, in row-major order; one entry may be -1."""
        return shaping.reshape(self, shaping.as_tuple(shape))

    def view(self, *shape: int | tuple[int, ...]) -> Tensor:
        """Return `reshape` of the same memory. Raises ShapeError if that needs a copy."""
        return shaping.view(self, shaping.as_tuple(shape))

    def flatten(self, start_dim: int = 0, end_dim: int = -1) -> Tensor:
        """Return the elements with the axes from start_dim to end_dim made one."""
        return shaping.flatten(self, start_dim, end_dim)

    def transpose(self, dim0: int, dim1: int) -> Tensor:
        """Return a view with two axes exchanged."""
        return shaping.transpose(self, dim0, dim1)

    def permute(self, *dims: int | tuple[int, ...]) -> Tensor:
        """Return a view with the axes in the order dims."""
        return shaping.permute(self, shaping.as_tuple(dims))

    def squeeze(self, dim: Dim = None) -> Tensor:
        """Return a view without the axes of size 1, or only without dim if it has size 1."""
        return shaping.squeeze(self, dim)

    def unsqueeze(self, dim: int) -> Tensor:
        """Return a view with a new axis of size 1 at dim."""
        return shaping.unsqueeze(self, dim)

    def expand(self, *shape: int | tuple[int, ...]) -> Tensor:
        """Return a read-only view repeated along new axes and those of size 1; -1 keeps a size."""
        return shaping.expand(self, shaping.as_tuple(shape))

    # --- copies and dtypes

    def clone(self) -> Tensor:
        """Return a copy that gradients flow through."""
        return record("clone", self.data.copy(), (self,), lambda g: (g,))

    def contiguous(self) -> Tensor:
        """Return self if the memory is in row-major order, else a copy that is."""
        return self if self.data.flags.c_contiguous else self.clone()

    def to(self, dtype: npt.DTypeLike) -> Tensor:
        """Return self if it has this dtype, else a copy cast to it; gradients flow between float dtypes."""
        if self.dtype == dtype:
            return self
        cast = self.data.astype(dtype)
        return record("to", cast, (self,), lambda g: (g,)) if cast.dtype.kind in "fV" else Tensor(cast)

    def double(self) -> Tensor:
        """Return `to(float64)`."""
        return self.to(np.float64)

    def long(self) -> Tensor:
        """Return `to(int64)`."""
        return self.to(np.int64)

    def float(self) -> Tensor:
        """Return `to(float32)`."""
        return self.to(np.float32)


def record(operation: str, data: Any, parents: tuple[Tensor, ...], backward: Backward) -> Tensor:
    """Return the Tensor of an operation's result, on the tape if recording is on and a parent needs a gradient.

    operation: the name under which doctor() and summary() know it. data: an array or NumPy scalar.
    backward: as tape.py describes it.
    """
    out = Tensor.__new__(Tensor)
    out.data = data if type(data) is np.ndarray else np.asarray(data)
    out.grad = None
    recorded = recording.get()
    if recorded is True:
        for parent in parents:
            if parent._requires_grad:
                out._requires_grad, out._operation, out._parents, out._backward = True, operation, parents, backward
                return out
    out._requires_grad, out._operation, out._parents, out._backward = False, "", (), None
    if recorded is not True and recorded is not False:
        recorded(operation, out, parents)
    return out


def as_tensor(data: Any) -> Tensor:
    """Return data if it is a Tensor, else `Tensor(data)`."""
    return data if isinstance(data, Tensor) else Tensor(data)


def tensor(data: Any, dtype: npt.DTypeLike | None = None, requires_grad: bool = False) -> Tensor:
    """Return a Tensor of a copy of data, in dtype if given, else as `Tensor(data)` would have it."""
    return Tensor(np.array(_to_array(data), dtype=dtype), requires_grad)


def _to_array(data: Any) -> np.ndarray:
    """Return arrays, Tensors and NumPy's numbers in their own dtype, Python's as float32, int64 or bool."""
    array = data if type(data) is np.ndarray else np.asarray(data)
    if array.dtype.kind not in "biufcV":
        raise ArgumentError(f"a tensor holds numbers or booleans, not {type(data).__name__} of dtype {array.dtype}.")
    if array is data or isinstance(data, np.ndarray | Tensor | np.generic):
        return array
    default = {"f": np.float32, "i": np.int64}.get(array.dtype.kind)
    return array if default is None else array.astype(default, copy=False)


# Last, as they build on the class above: operations need Tensor to make results, Tensor needs them for its methods.
from . import operations, reductions, shaping  # noqa: E402
