"""Tensor: an array that remembers how it was computed, so that gradients can be computed too.

    w = Tensor([1.0, 2.0], requires_grad=True)
    loss = (w * w).sum()
    loss.backward()        # w.grad is now the array [2., 4.]

A function and the method of that name are one thing: `core.exp(x)` is `x.exp()`. The class lists them; operations.py
(elementwise, products), reductions.py, shaping.py and indexing.py compute them, each forward next to its gradient, and
put every result on the tape (tape.py). A name that ends in "_" changes the tensor in place, see `tape.assign`.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from . import operations, shaping, tape
from .base import TensorBase, to_array
from .devices import CPU, Device, require_cpu
from .devices import device as _Device
from .dtypes import NAMED, bfloat16, holds_numbers, is_floating
from .tape import as_tensor, derive, in_place, is_grad_enabled, is_tensor, named, no_grad, observe, record

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["Tensor", "as_tensor", "derive", "is_grad_enabled", "no_grad", "observe", "record", "tensor"]

Number = bool | int | float
Dim = int | tuple[int, ...] | None
_TYPES = {"float32": "Float", "float64": "Double", "float16": "Half", "bfloat16": "BFloat16", "int64": "Long",
          "int32": "Int", "int16": "Short", "int8": "Char", "uint8": "Byte", "bool": "Bool"}  # fmt: skip
_OPERANDS = (TensorBase, int, float)  # recognized at once; NumPy has to convert anything else


def _operator(function: Callable[..., Tensor], swapped: bool = False) -> Callable[[Any, Any], Tensor]:
    """Make an operator of a function, which returns NotImplemented if the other operand holds no numbers.

    Python then tries the operator of the other operand. Without one, == is False and + raises TypeError.
    """

    def operator(self: Any, other: Any) -> Any:
        if not isinstance(other, _OPERANDS) and not holds_numbers(other):
            return NotImplemented
        return function(other, self) if swapped else function(self, other)

    operator.__doc__ = function.__doc__
    return operator


def _both(function: Callable[..., Tensor]) -> tuple[Callable[[Any, Any], Tensor], Callable[[Any, Any], Tensor]]:
    return _operator(function), _operator(function, True)


_SHIFTS = (operations.bitwise_left_shift, operations.bitwise_right_shift)


def _each_in_place(*functions: Callable[..., Tensor]) -> tuple[Callable[..., Tensor], ...]:
    return tuple(map(in_place, functions))


def _cast(name: str) -> Callable[[Any], Tensor]:
    def cast(self: Tensor) -> Tensor:
        return self.to(NAMED[name])

    return named(cast, name, f"Return `to({name})`.")


def _filled(name: str, fill: Callable[[np.ndarray], Any]) -> Callable[..., Tensor]:
    def new(self: Tensor, *size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
        require_cpu(device)
        array = np.empty(shaping.as_tuple(size), self.dtype if dtype is None else dtype)
        fill(array)
        return Tensor(array, requires_grad)

    return named(new, name, "Return a new tensor of the given shape, by default in the dtype of this one.")


def _reshaped(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return the method that makes the tensor a view of itself."""

    def method(self: Tensor, *args: Any) -> Tensor:
        out = function(self, *args)
        if out._requires_grad:
            tape.require_changeable(self)
            return tape.relink(self, out)
        self._data = out._data
        return self

    return named(method, f"{function.__name__}_", f"Make the tensor the view that `{function.__name__}` is.")


class Tensor(TensorBase):
    """An n-dimensional array with an optional gradient.

    data: an ndarray is held without a copy. Arrays and NumPy scalars keep their dtype; Python floats become float32 and
    ints int64. grad: an ndarray with the shape and dtype of data, or None. Tensor(2, 3) has this shape, and any values;
    unlike in torch, Tensor([1, 2]) keeps integers, and Tensor(3) is the number 3.
    Raises ArgumentError if data holds no numbers, or if requires_grad is True and data holds no floats.
    """

    __slots__ = ()

    if TYPE_CHECKING:  # bound in core/creation.py and core/__init__.py: what they need is above
        softmax: Callable[..., Tensor]
        log_softmax: Callable[..., Tensor]
        normal_: Callable[..., Tensor]
        uniform_: Callable[..., Tensor]
        bernoulli_: Callable[..., Tensor]
        bernoulli: Callable[..., Tensor]
        multinomial: Callable[..., Tensor]
        random_: Callable[..., Tensor]
        exponential_: Callable[..., Tensor]

    # The functions of four modules, and those of them that also work in place.
    # isort: off
    # fmt: off
    from .indexing import (
        allclose, argsort, bincount, equal, gather, histc, index_add, index_copy, index_fill,
        index_select, isclose, isin, kthvalue, masked_select, median, mode, nonzero, scatter, scatter_add, sort,
        take_along_dim, topk, unique,
    )
    from .operations import (
        abs, absolute, acos, add, addcdiv, addcmul, addmm, asin, atan, atan2, baddbmm, bitwise_and, bitwise_not,
        bitwise_or, bitwise_xor, bmm, ceil, clamp, clamp_max, clamp_min, clip, cos, cosh, cross, div, divide, dot,
        eq, erf, exp, exp2, expm1, floor, floor_divide, fmod, ge, gt, isfinite, isinf, isnan, kron, le, lerp, log,
        log1p, log2, log10, logical_and, logical_not, logical_or, logical_xor, lt, masked_fill, matmul, maximum,
        minimum, mm, mul, multiply, mv, nan_to_num, ne, neg, negative, outer, pow, reciprocal, relu, remainder,
        round, rsqrt, sigmoid, sign, sin, sinh, sqrt, square, sub, subtract, tan, tanh, true_divide, trunc,
    )
    from .reductions import (
        all, amax, amin, aminmax, any, argmax, argmin, count_nonzero, cumprod, cumsum, logsumexp, max, mean, min,
        norm, prod, std, sum, trace, var,
    )
    from .shaping import (
        broadcast_to, chunk, diag, diagonal, expand, flatten, flip, movedim, narrow, permute, ravel, repeat,
        repeat_interleave, reshape, roll, select, split, squeeze, swapaxes, t, tile, transpose, tril, triu, unbind,
        unflatten, unsqueeze, view,
    )
    # fmt: on
    # isort: on

    (
        add_, sub_, mul_, div_, pow_, neg_, abs_, square_, exp_, exp2_, expm1_, log_, log2_, log10_, log1p_,
        sqrt_, rsqrt_, reciprocal_, sin_, cos_, tan_, asin_, acos_, atan_, sinh_, cosh_, tanh_, erf_, sigmoid_,
        relu_, floor_, ceil_, trunc_, round_, sign_, nan_to_num_, clamp_, clip_, clamp_min_, clamp_max_,
        masked_fill_, lerp_, addcmul_, addcdiv_, addmm_, baddbmm_, remainder_, fmod_, floor_divide_, eq_, ne_,
        lt_, le_, gt_, ge_, logical_and_, logical_or_, logical_xor_, logical_not_, bitwise_and_, bitwise_or_,
        bitwise_xor_, bitwise_not_, scatter_, scatter_add_, index_add_, index_copy_, index_fill_, tril_, triu_,
    ) = _each_in_place(
        add, sub, mul, div, pow, neg, abs, square, exp, exp2, expm1, log, log2, log10, log1p, sqrt, rsqrt,
        reciprocal, sin, cos, tan, asin, acos, atan, sinh, cosh, tanh, erf, sigmoid, relu, floor, ceil, trunc,
        round, sign, nan_to_num, clamp, clip, clamp_min, clamp_max, masked_fill, lerp, addcmul, addcdiv, addmm,
        baddbmm, remainder, fmod, floor_divide, eq, ne, lt, le, gt, ge, logical_and, logical_or, logical_xor,
        logical_not, bitwise_and, bitwise_or, bitwise_xor, bitwise_not, scatter, scatter_add, index_add,
        index_copy, index_fill, tril, triu,
    )  # fmt: skip

    __add__, __radd__, __sub__, __rsub__ = *_both(add), *_both(sub)
    __mul__, __rmul__, __truediv__, __rtruediv__ = *_both(mul), *_both(div)
    __floordiv__, __rfloordiv__, __mod__, __rmod__ = *_both(floor_divide), *_both(remainder)
    __pow__, __rpow__, __matmul__, __rmatmul__ = *_both(pow), *_both(matmul)
    __and__, __rand__, __or__, __ror__ = *_both(bitwise_and), *_both(bitwise_or)
    __xor__, __rxor__, (__lshift__, _), (__rshift__, _) = *_both(bitwise_xor), *map(_both, _SHIFTS)
    __neg__, __abs__, __invert__ = neg, abs, bitwise_not
    if TYPE_CHECKING:

        def __eq__(self, other: Any) -> Tensor: ...  # pyright: ignore[reportIncompatibleMethodOverride]
        def __ne__(self, other: Any) -> Tensor: ...  # pyright: ignore[reportIncompatibleMethodOverride]
    else:
        __eq__, __ne__ = _operator(eq), _operator(ne)
    __lt__, __le__, __gt__, __ge__ = _operator(lt), _operator(le), _operator(gt), _operator(ge)
    __hash__ = object.__hash__  # equality is elementwise, so tensors can only be hashed by identity
    __iadd__, __isub__, __imul__, __itruediv__ = map(_operator, _each_in_place(add, sub, mul, div))
    __ifloordiv__, __imod__, __ipow__ = map(_operator, _each_in_place(floor_divide, remainder, pow))
    __iand__, __ior__, __ixor__ = map(_operator, _each_in_place(bitwise_and, bitwise_or, bitwise_xor))
    __getitem__, __setitem__ = shaping.getitem, shaping.setitem

    squeeze_, unsqueeze_ = _reshaped(shaping.squeeze), _reshaped(shaping.unsqueeze)
    transpose_, t_ = _reshaped(shaping.transpose), _reshaped(shaping.t)
    view_as = named(lambda self, other: shaping.view(self, other.shape), "view_as", "Return the view of other's shape.")
    reshape_as = named(
        lambda self, other: shaping.reshape(self, other.shape), "reshape_as", "Return the shape of other."
    )
    expand_as = named(lambda self, other: shaping.expand(self, other.shape), "expand_as", "Return the shape of other.")
    T = property(lambda self: shaping.permute(self, *range(self.ndim)[::-1]), doc="A view with all axes reversed.")
    mT = H = property(lambda self: shaping.transpose(self, -2, -1), doc="A view with the last two axes swapped.")
    fill_ = named(lambda self, value: self.copy_(value), "fill_", "Set every element to value, in place.")
    zero_ = named(lambda self: self.copy_(0), "zero_", "Set every element to 0, in place.")

    def __iter__(self) -> Iterator[Tensor]:
        return iter(shaping.unbind(self))

    def __contains__(self, value: Any) -> builtins.bool:
        return builtins.bool(operations.eq(self, value).any())

    def detach(self) -> Tensor:
        """Return a tensor over the same memory, outside the graph."""
        return Tensor(self._data)

    def detach_(self) -> Tensor:
        """Leave the graph, and return self."""
        if not self.is_leaf:
            tape.relink(self, Tensor(self._data))
            self._backward, self._requires_grad = None, False
        return self

    def copy_(self, src: Any, non_blocking: bool = False) -> Tensor:
        """Set the elements to those of src, which may broadcast and have another dtype, in place."""
        tape.require_changeable(self)
        self[...] = src
        return self

    def tolist(self) -> Any:
        """Return the elements as Python numbers in nested lists, or the only one of a tensor without axes."""
        return self._data.tolist()

    def clone(self, *, memory_format: Any = None) -> Tensor:
        """Return a copy. Gradients flow through it."""
        return record("clone", self._data.copy(), (self,), lambda g: (g,))

    def contiguous(self, memory_format: Any = None) -> Tensor:
        """Return self if the memory is in row-major order, otherwise a row-major copy."""
        return self if self._data.flags.c_contiguous else self.clone()

    is_contiguous = named(lambda self: self._data.flags.c_contiguous, "is_contiguous", "Return True if row-major.")
    new_zeros, new_empty = _filled("new_zeros", lambda a: a.fill(0)), _filled("new_empty", lambda a: a.fill(0))
    new_ones = _filled("new_ones", lambda a: a.fill(1))

    def new_full(self, size: Any, fill_value: Any, **options: Any) -> Tensor:
        """Return a new tensor of the given shape with one value, by default in the dtype of this one."""
        return self.new_zeros(size, **options).fill_(fill_value)

    def new_tensor(self, data: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
        """Return a new tensor with a copy of data, by default in the dtype of this one."""
        require_cpu(device)
        return tensor(data, self.dtype if dtype is None else dtype, device, requires_grad)

    # --- dtype and device

    half, double, long, int = _cast("half"), _cast("double"), _cast("long"), _cast("int")
    short, bool, byte, float = _cast("short"), _cast("bool"), _cast("uint8"), _cast("float")

    bfloat16 = named(lambda self: self.to(bfloat16()), "bfloat16", "Return `to(bfloat16)`.")
    type_as = named(lambda self, other: self.to(other.dtype), "type_as", "Return `to(other.dtype)`.")

    def to(
        self, *args: Any, dtype: Any = None, device: Any = None, non_blocking: Any = None, copy: Any = False
    ) -> Tensor:
        """Return self if it has this dtype, otherwise a copy cast to it. Gradients flow between float dtypes.

        args: a dtype, a device ("cpu"), both, or a Tensor whose dtype to take. copy: return a copy in any case.
        """
        for given in args:
            if is_tensor(given):
                dtype = given.dtype
            elif isinstance(given, _Device) or (isinstance(given, str) and given not in _TYPES):
                device = given
            elif given is not None and not isinstance(given, builtins.bool):
                dtype = given
        require_cpu(device)
        if dtype is None or self.dtype == dtype:
            return self.clone() if copy else self
        cast = self._data.astype(dtype)
        return record("to", cast, (self,), lambda g: (g,)) if is_floating(cast.dtype) else derive("to", cast, (self,))

    def type(self, dtype: Any = None) -> Any:
        """Return the tensor cast to dtype, or without it the name of its type, as in "torch.FloatTensor"."""
        if dtype is None:
            return f"torch.{_TYPES[self.dtype.name]}Tensor"
        named = {f"torch.{kind}Tensor": name for name, kind in _TYPES.items()}
        return self.to(np.dtype(named.get(dtype, dtype) if isinstance(dtype, str) else dtype))

    cpu = named(lambda self: self, "cpu", "Return self: everything is on the CPU.")
    cuda = named(lambda self, *device, **options: self.to("cuda"), "cuda", "Raise ArgumentError: there is none.")
    device = CPU
    is_cuda = False


def tensor(data: Any, dtype: npt.DTypeLike | None = None, device: Device = None, requires_grad: bool = False) -> Tensor:
    """Return a Tensor that holds a copy of data, in dtype if given, otherwise in the dtype of `Tensor(data)`."""
    require_cpu(device)
    return Tensor(np.array(to_array(data), dtype=dtype), requires_grad)


tape.Tensor = Tensor  # the results of operations
