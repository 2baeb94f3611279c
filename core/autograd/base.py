"""TensorBase: the contents of a tensor, its conversions, and backward(). `Tensor` adds the operations."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

import numpy as np

from ..arrays.silence import silently
from ..arrays.versions import owner
from ..errors import ArgumentError, GraphError, ShapeError
from .arrays import TensorArray, shown
from .dtypes import NUMBERS, get_default_dtype, is_floating
from .tape import Backward, Handle, add_hook, collected, named, run_backward

if TYPE_CHECKING:
    import numpy.typing as npt

    from .tensor import Tensor

TensorType = TypeVar("TensorType", bound="TensorBase")


class TensorBase:
    """An array, its gradient, and the operation that computed it."""

    __slots__ = (
        "__weakref__", "_backward", "_data", "_grad", "_hooks", "_operation", "_parents", "_past", "_requires_grad",
        "_shown", "_shown_grad", "_time",
    )  # fmt: skip

    # True if the link to `_parents` belongs to the tensor itself (a parameter that is a view of another).
    # Then backward() keeps the link.
    _keep_graph: ClassVar[bool] = False

    # Makes NumPy leave `array * tensor` to us. Otherwise it would build an object array of tensors.
    __array_ufunc__ = None

    _data: np.ndarray
    _grad: np.ndarray | None
    _shown: TensorArray  # what `data` returned last, if anything
    _shown_grad: TensorArray
    _operation: str  # the name of the recorded operation that computed this tensor, or ""
    _parents: tuple[Tensor, ...]
    _backward: Backward | None
    _time: int  # of the record, see arrays/versions.py
    _past: tuple[tuple[int, Tensor], ...]  # if it was changed in place in a graph: when, and what it was before
    _hooks: dict[object, Any]  # if it has hooks: what calls them with its gradient

    def __init__(self, data: Any, requires_grad: bool | int = False, *sizes: int) -> None:
        if type(requires_grad) is int:  # Tensor(2, 3)
            data, requires_grad = np.empty((data, requires_grad, *sizes), get_default_dtype()), False
        self._data = to_array(data)
        self._grad = None
        self._operation, self._parents, self._backward = "", (), None
        self._requires_grad, self._time = False, 0
        if requires_grad:
            self.requires_grad = True

    @property
    def data(self) -> TensorArray:
        """The array, writable in place. Assigning another one replaces it; views of this tensor keep the old one."""
        self._shown = shown(self._data, getattr(self, "_shown", None))
        return self._shown

    @data.setter
    def data(self, value: Any) -> None:
        self._data = to_array(value)

    @property
    def grad(self) -> TensorArray | None:
        """The gradient, an array like `data`, or None before `backward()` and after `zero_grad()`."""
        if self._grad is None:
            return None
        self._shown_grad = shown(self._grad, getattr(self, "_shown_grad", None))
        return self._shown_grad

    @grad.setter
    def grad(self, value: Any) -> None:
        self._grad = None if value is None else to_array(value)

    @property
    def requires_grad(self) -> bool:
        """True if `backward()` computes a gradient for this tensor or through it."""
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, flag: bool) -> None:
        self._check_requires_grad(flag)
        self._requires_grad = flag

    def _check_requires_grad(self, flag: bool) -> None:
        """Raise ArgumentError or GraphError if `requires_grad` cannot be set to flag."""
        if flag and self._data.dtype.kind not in "fV":  # "V": bfloat16 and the like
            raise ArgumentError(
                f"only a tensor of floats can require a gradient, not {self.dtype}. Call .float() first."
            )
        if not flag and self._requires_grad and self._parents and not self._keep_graph:
            raise GraphError("this tensor is the result of a recorded operation. Call detach() to leave the graph.")

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Set `requires_grad` and return self."""
        self.requires_grad = requires_grad
        return self

    @property
    def shape(self) -> tuple[int, ...]:
        return self._data.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._data.dtype

    @property
    def ndim(self) -> int:
        return self._data.ndim

    def size(self, dim: int | None = None) -> tuple[int, ...] | int:
        """Return the shape, or with dim the size of that axis."""
        return self._data.shape if dim is None else self._data.shape[dim]

    dim = ndimension = named(lambda self: self._data.ndim, "dim", "Return the number of axes.")
    numel = nelement = named(lambda self: self._data.size, "numel", "Return the number of elements.")
    element_size = named(lambda self: self._data.itemsize, "element_size", "Return the number of bytes of an element.")
    is_floating_point = named(
        lambda self: is_floating(self._data.dtype), "is_floating_point", "Return True for floats."
    )
    data_ptr = named(lambda self: _address(self._data), "data_ptr", "Return the address of the first element.")
    storage_offset = named(
        lambda self: (_address(self._data) - _address(owner(self._data))) // self._data.itemsize, "storage_offset",
        "Return the number of elements in memory before the first one.",
    )  # fmt: skip

    def stride(self, dim: int | None = None) -> tuple[int, ...] | int:
        """Return for each axis, or for one, the number of elements from one to the next in memory."""
        steps = tuple(step // self._data.itemsize for step in self._data.strides)
        return steps if dim is None else steps[dim]

    def __len__(self) -> int:
        return len(self._data)

    def __repr__(self) -> str:
        text = np.array2string(self._data, separator=", ", prefix="tensor(")
        kind = "" if self.dtype in (np.float32, np.int64, np.bool_) else f", dtype={self.dtype}"
        graph = f", grad_fn=<{fn}>" if (fn := self.grad_fn) else ", requires_grad=True" if self._requires_grad else ""
        return f"tensor({text}{kind}{graph})"

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if self.ndim == 0 else super().__format__(spec)

    # --- conversion to Python and NumPy

    def item(self) -> Any:
        """Return the only element as a Python number. Raises ShapeError unless there is exactly one."""
        if self._data.size != 1:
            raise ShapeError(f"only a tensor with one element has a single value; this one has shape {self.shape}.")
        return self._data.item()

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
        return self._data

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self._data, dtype=dtype) if copy else np.asarray(self._data, dtype=dtype)

    def __reduce__(self) -> Any:
        # Copies and pickles hold the values, without graph and gradient. The result of an operation becomes a constant.
        arguments = (type(self), self._data, self._requires_grad and not self._parents)
        return rebuild, arguments, getattr(self, "__dict__", None)

    # --- gradients

    @property
    def is_leaf(self) -> bool:
        """True unless the tensor is the result of a recorded operation."""
        return not self._requires_grad or self._backward is None or self._keep_graph

    @property
    def grad_fn(self) -> GradFn | None:
        """The recorded operation that computed the tensor, or None for a leaf."""
        return None if self.is_leaf else GradFn(f"{self._operation.title().replace('_', '')}Backward0")

    def register_hook(self: Any, hook: Callable[[Tensor], Any]) -> Handle:
        """Call hook(gradient) in each backward pass; what it returns, if anything, replaces the gradient.

        Returns a handle whose `remove()` removes the hook. Raises GraphError if the tensor requires no gradient.
        """
        return add_hook(self, hook)

    def retain_grad(self: Any) -> None:
        """Keep the gradient of a result in its `.grad`, as for a leaf."""
        if self.is_leaf:
            return
        this = weakref.ref(self)

        def keep(gradient: Tensor) -> None:
            if (tensor := this()) is not None:
                tensor._grad = gradient._data.copy() if tensor._grad is None else tensor._grad + gradient._data

        add_hook(self, keep)

    def backward(
        self,
        gradient: Tensor | npt.ArrayLike | None = None,
        retain_graph: bool | None = None,
        create_graph: bool = False,
    ) -> None:
        """Add the derivatives of this tensor to `.grad` of every leaf it was computed from, and free the graph.

        gradient: the weight of each element of this tensor, of the same shape; optional for a single number.
        retain_graph: keep the graph for another backward(). create_graph: not possible here.
        Raises GraphError without a graph, or if an array that a gradient needs was changed in place; ShapeError if
        `gradient` has another shape.
        """
        if create_graph:
            raise GraphError("there are no gradients of gradients here: create_graph must be False.")
        if not self._requires_grad:
            raise GraphError(
                "backward() needs a tensor that requires a gradient. Compute it from tensors with requires_grad=True, "
                "outside no_grad() and without detach()."
            )
        start = self._first_gradient(gradient)
        if self._backward is not None:
            silently(run_backward, self, start, bool(retain_graph))
            return
        collected({self: start}, None)

    def _first_gradient(self, gradient: Any) -> np.ndarray:
        """Return the array that the backward pass starts from."""
        if gradient is None:
            if self._data.size != 1:
                raise GraphError(
                    f"backward() starts from a single number; this tensor has shape {self.shape}. "
                    "Reduce it first, as in loss.mean().backward(), or pass a gradient of that shape."
                )
            start = np.array(1, self._data.dtype)
            return start.reshape(self._data.shape) if self._data.ndim else start
        start = np.array(gradient, dtype=self.dtype)
        if start.shape != self.shape:
            raise ShapeError(f"backward() got a gradient of shape {start.shape} for a tensor of shape {self.shape}.")
        return start


class GradFn(str):
    """The name of a recorded operation, as torch shows it."""

    __slots__ = ()
    name = str.__str__


def _address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


# The setters of three slots, which are written in C, for the steps of commit/steps.py.
_SLOTS = vars(TensorBase)
set_data, set_grad, set_requires_grad = (_SLOTS[name].__set__ for name in ("_data", "_grad", "_requires_grad"))


def rebuild(cls: type[TensorType], data: np.ndarray, requires_grad: bool) -> TensorType:
    """Return a copied or unpickled tensor without calling the constructor of its class."""
    out = cls.__new__(cls)
    TensorBase.__init__(out, data, requires_grad)
    return out


def to_array(data: Any) -> np.ndarray:
    """Return data as an array. Arrays, Tensors and NumPy scalars keep their dtype; Python floats become float32."""
    if type(data) is TensorArray and data.shows is not None:
        return data.shows
    array = data if type(data) is np.ndarray else np.asarray(data)
    if array.dtype.kind not in NUMBERS:
        raise ArgumentError(f"a tensor holds numbers or booleans, not {type(data).__name__} of dtype {array.dtype}.")
    if array is data or isinstance(data, np.ndarray | TensorBase | np.generic):
        return array
    default = {"f": get_default_dtype(), "i": np.int64}.get(array.dtype.kind)
    return array if default is None else array.astype(default, copy=False)
