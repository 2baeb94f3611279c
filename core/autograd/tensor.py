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

from . import indexing, operations, reductions, shaping, tape
from .base import TensorBase, to_array
from .devices import CPU, Device, require_cpu
from .devices import device as _Device
from .dtypes import NAMED, bfloat16, holds_numbers, is_floating
from .tape import as_tensor, derive, in_place, is_grad_enabled, is_tensor, no_grad, observe, record

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


def _is_dtype(name: str) -> bool:
    """Return True if NumPy knows a dtype of this name."""
    try:
        return bool(np.dtype(name))
    except TypeError:
        return False


def _cast(name: str) -> Callable[[Any], Tensor]:
    def cast(self: Tensor) -> Tensor:
        return self.to(NAMED[name])

    cast.__name__, cast.__doc__ = name, f"Return `to({name})`."
    return cast


def _filled(name: str, fill: Callable[[np.ndarray], Any]) -> Callable[..., Tensor]:
    def new(self: Tensor, *size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
        require_cpu(device)
        array = np.empty(shaping.as_tuple(size), self.dtype if dtype is None else dtype)
        fill(array)
        return Tensor(array, requires_grad)

    new.__name__, new.__doc__ = name, "Return a new tensor of the given shape, by default in the dtype of this one."
    return new


def _reshaped(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return the method that makes the tensor a view of itself."""

    def method(self: Tensor, *args: Any) -> Tensor:
        out = function(self, *args)
        if out._requires_grad:
            tape.require_changeable(self)
            return tape.relink(self, out)
        self._data = out._data
        return self

    method.__name__, method.__doc__ = (
        f"{function.__name__}_",
        f"Make the tensor the view that `{function.__name__}` is.",
    )
    return method


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

    def detach(self) -> Tensor:
        """Return a tensor over the same memory, outside the graph."""
        return Tensor(self._data)

    def detach_(self) -> Tensor:
        """Leave the graph, and return self."""
        if not self.is_leaf:
            tape.relink(self, Tensor(self._data))
            self._backward, self._requires_grad = None, False
        return self

    # --- operators

    __add__, __radd__ = _operator(operations.add), _operator(operations.add, True)
    __sub__, __rsub__ = _operator(operations.sub), _operator(operations.sub, True)
    __mul__, __rmul__ = _operator(operations.mul), _operator(operations.mul, True)
    __truediv__, __rtruediv__ = _operator(operations.div), _operator(operations.div, True)
    __floordiv__, __rfloordiv__ = _operator(operations.floor_divide), _operator(operations.floor_divide, True)
    __mod__, __rmod__ = _operator(operations.remainder), _operator(operations.remainder, True)
    __pow__, __rpow__ = _operator(operations.pow), _operator(operations.pow, True)
    __matmul__, __rmatmul__ = _operator(operations.matmul), _operator(operations.matmul, True)
    __and__, __rand__ = _operator(operations.bitwise_and), _operator(operations.bitwise_and, True)
    __or__, __ror__ = _operator(operations.bitwise_or), _operator(operations.bitwise_or, True)
    __xor__, __rxor__ = _operator(operations.bitwise_xor), _operator(operations.bitwise_xor, True)
    __lshift__, __rshift__ = _operator(operations.bitwise_left_shift), _operator(operations.bitwise_right_shift)
    __neg__, __abs__, __invert__ = operations.neg, operations.abs, operations.invert
    __eq__ = _operator(operations.eq)  # pyright: ignore[reportAssignmentType]
    __ne__ = _operator(operations.ne)  # pyright: ignore[reportAssignmentType]
    __lt__, __le__, __gt__, __ge__ = map(_operator, (operations.lt, operations.le, operations.gt, operations.ge))
    __hash__ = object.__hash__  # equality is elementwise, so tensors can only be hashed by identity

    __iadd__, __isub__ = _operator(in_place(operations.add)), _operator(in_place(operations.sub))
    __imul__, __itruediv__ = _operator(in_place(operations.mul)), _operator(in_place(operations.div))
    __ifloordiv__, __imod__ = _operator(in_place(operations.floor_divide)), _operator(in_place(operations.remainder))
    __ipow__ = _operator(in_place(operations.pow))
    __iand__, __ior__ = _operator(in_place(operations.bitwise_and)), _operator(in_place(operations.bitwise_or))
    __ixor__ = _operator(in_place(operations.bitwise_xor))
    __ilshift__ = _operator(in_place(operations.bitwise_left_shift))
    __irshift__ = _operator(in_place(operations.bitwise_right_shift))

    __getitem__, __setitem__ = shaping.getitem, shaping.setitem

    def __iter__(self) -> Iterator[Tensor]:
        return iter(shaping.unbind(self))

    def __contains__(self, value: Any) -> bool:
        return bool(operations.eq(self, value).any())

    # --- elementwise, and products

    add, sub, subtract, mul = operations.add, operations.sub, operations.subtract, operations.mul
    multiply, div, divide = operations.multiply, operations.div, operations.divide
    true_divide, pow, neg, negative = operations.true_divide, operations.pow, operations.neg, operations.negative
    abs, absolute, square, exp = operations.abs, operations.absolute, operations.square, operations.exp
    exp2, expm1, log, log2 = operations.exp2, operations.expm1, operations.log, operations.log2
    log10, log1p, sqrt, rsqrt = operations.log10, operations.log1p, operations.sqrt, operations.rsqrt
    reciprocal, sin, cos, tan = operations.reciprocal, operations.sin, operations.cos, operations.tan
    asin, acos, atan, sinh, cosh = operations.asin, operations.acos, operations.atan, operations.sinh, operations.cosh
    tanh, asinh, acosh, atanh = operations.tanh, operations.asinh, operations.acosh, operations.atanh
    erf, sigmoid, relu, floor = operations.erf, operations.sigmoid, operations.relu, operations.floor
    ceil, trunc, frac, round = operations.ceil, operations.trunc, operations.frac, operations.round
    sign, nan_to_num, clamp, clip = operations.sign, operations.nan_to_num, operations.clamp, operations.clip
    clamp_min, clamp_max, masked_fill = operations.clamp_min, operations.clamp_max, operations.masked_fill
    lerp, addcmul, addcdiv, addmm = operations.lerp, operations.addcmul, operations.addcdiv, operations.addmm
    addmv, baddbmm, remainder, fmod = operations.addmv, operations.baddbmm, operations.remainder, operations.fmod
    floor_divide, eq, ne, lt, le = operations.floor_divide, operations.eq, operations.ne, operations.lt, operations.le
    gt, ge, logical_and, logical_or = operations.gt, operations.ge, operations.logical_and, operations.logical_or
    logical_xor, logical_not, bitwise_and = operations.logical_xor, operations.logical_not, operations.bitwise_and
    bitwise_or, bitwise_xor, bitwise_not = operations.bitwise_or, operations.bitwise_xor, operations.bitwise_not
    maximum, minimum, atan2, isnan = operations.maximum, operations.minimum, operations.atan2, operations.isnan
    isinf, isfinite, signbit, matmul = operations.isinf, operations.isfinite, operations.signbit, operations.matmul
    mm, bmm, mv, dot, outer = operations.mm, operations.bmm, operations.mv, operations.dot, operations.outer
    kron, cross = operations.kron, operations.cross
    add_, sub_, mul_ = in_place(operations.add), in_place(operations.sub), in_place(operations.mul)
    div_, pow_, neg_ = in_place(operations.div), in_place(operations.pow), in_place(operations.neg)
    abs_, square_, exp_ = in_place(operations.abs), in_place(operations.square), in_place(operations.exp)
    exp2_, expm1_, log_ = in_place(operations.exp2), in_place(operations.expm1), in_place(operations.log)
    log2_, log10_, log1p_ = in_place(operations.log2), in_place(operations.log10), in_place(operations.log1p)
    sqrt_, rsqrt_ = in_place(operations.sqrt), in_place(operations.rsqrt)
    reciprocal_, sin_, cos_ = in_place(operations.reciprocal), in_place(operations.sin), in_place(operations.cos)
    tan_, asin_, acos_ = in_place(operations.tan), in_place(operations.asin), in_place(operations.acos)
    atan_, sinh_, cosh_ = in_place(operations.atan), in_place(operations.sinh), in_place(operations.cosh)
    tanh_, asinh_, acosh_ = in_place(operations.tanh), in_place(operations.asinh), in_place(operations.acosh)
    atanh_, erf_, sigmoid_ = in_place(operations.atanh), in_place(operations.erf), in_place(operations.sigmoid)
    relu_, floor_, ceil_ = in_place(operations.relu), in_place(operations.floor), in_place(operations.ceil)
    trunc_, frac_, round_ = in_place(operations.trunc), in_place(operations.frac), in_place(operations.round)
    sign_, nan_to_num_ = in_place(operations.sign), in_place(operations.nan_to_num)
    clamp_, clip_, clamp_min_ = in_place(operations.clamp), in_place(operations.clip), in_place(operations.clamp_min)
    clamp_max_, masked_fill_ = in_place(operations.clamp_max), in_place(operations.masked_fill)
    lerp_, addcmul_, addcdiv_ = in_place(operations.lerp), in_place(operations.addcmul), in_place(operations.addcdiv)
    addmm_, addmv_, baddbmm_ = in_place(operations.addmm), in_place(operations.addmv), in_place(operations.baddbmm)
    remainder_, fmod_ = in_place(operations.remainder), in_place(operations.fmod)
    floor_divide_, eq_, ne_ = in_place(operations.floor_divide), in_place(operations.eq), in_place(operations.ne)
    lt_, le_, gt_ = in_place(operations.lt), in_place(operations.le), in_place(operations.gt)
    ge_, logical_and_ = in_place(operations.ge), in_place(operations.logical_and)
    logical_or_, logical_xor_ = in_place(operations.logical_or), in_place(operations.logical_xor)
    logical_not_, bitwise_and_ = in_place(operations.logical_not), in_place(operations.bitwise_and)
    bitwise_or_, bitwise_xor_ = in_place(operations.bitwise_or), in_place(operations.bitwise_xor)
    bitwise_not_ = in_place(operations.bitwise_not)

    # --- reductions, over dim (an int, a tuple, or None for all), kept as size 1 if keepdim

    sum, mean, var, std, max = reductions.sum, reductions.mean, reductions.var, reductions.std, reductions.max
    min, amax, amin, aminmax = reductions.min, reductions.amax, reductions.amin, reductions.aminmax
    argmax, argmin, all, any = reductions.argmax, reductions.argmin, reductions.all, reductions.any
    count_nonzero, prod, cumsum = reductions.count_nonzero, reductions.prod, reductions.cumsum
    cumprod, logsumexp, norm = reductions.cumprod, reductions.logsumexp, reductions.norm
    trace = reductions.trace

    # --- by index, and order

    scatter, scatter_add, index_add = indexing.scatter, indexing.scatter_add, indexing.index_add
    index_copy, index_fill, index_put = indexing.index_copy, indexing.index_fill, indexing.index_put
    gather, take_along_dim, index_select = indexing.gather, indexing.take_along_dim, indexing.index_select
    masked_select, take, argsort, sort = indexing.masked_select, indexing.take, indexing.argsort, indexing.sort
    topk, kthvalue, median, mode = indexing.topk, indexing.kthvalue, indexing.median, indexing.mode
    unique, unique_consecutive, bincount = indexing.unique, indexing.unique_consecutive, indexing.bincount
    histc, nonzero, argwhere, isclose = indexing.histc, indexing.nonzero, indexing.argwhere, indexing.isclose
    allclose, equal, isin = indexing.allclose, indexing.equal, indexing.isin
    scatter_, scatter_add_ = in_place(indexing.scatter), in_place(indexing.scatter_add)
    index_add_, index_copy_ = in_place(indexing.index_add), in_place(indexing.index_copy)
    index_fill_, index_put_ = in_place(indexing.index_fill), in_place(indexing.index_put)

    # --- shape: views of the same memory wherever NumPy can make one

    tril, triu, reshape, view, flatten = shaping.tril, shaping.triu, shaping.reshape, shaping.view, shaping.flatten
    permute, transpose, squeeze, unsqueeze = shaping.permute, shaping.transpose, shaping.squeeze, shaping.unsqueeze
    expand, narrow, select, unbind = shaping.expand, shaping.narrow, shaping.select, shaping.unbind
    split, chunk, diagonal, diag, flip = shaping.split, shaping.chunk, shaping.diagonal, shaping.diag, shaping.flip
    roll, tile, repeat, repeat_interleave = shaping.roll, shaping.tile, shaping.repeat, shaping.repeat_interleave
    movedim, broadcast_to, swapaxes = shaping.movedim, shaping.broadcast_to, shaping.swapaxes
    swapdims, t, unflatten, ravel = shaping.swapdims, shaping.t, shaping.unflatten, shaping.ravel
    tril_, triu_ = in_place(shaping.tril), in_place(shaping.triu)
    squeeze_, unsqueeze_ = _reshaped(shaping.squeeze), _reshaped(shaping.unsqueeze)
    transpose_, t_ = _reshaped(shaping.transpose), _reshaped(shaping.t)

    @property
    def T(self) -> Tensor:
        """A view with all axes in reverse order."""
        return shaping.permute(self, *range(self.ndim)[::-1])

    @property
    def mT(self) -> Tensor:
        """A view with the last two axes swapped."""
        return shaping.transpose(self, -2, -1)

    H = mT  # there are no complex gradients here

    def view_as(self, other: Tensor) -> Tensor:
        """Return a view in the shape of other."""
        return shaping.view(self, other.shape)

    def reshape_as(self, other: Tensor) -> Tensor:
        """Return the elements in the shape of other."""
        return shaping.reshape(self, other.shape)

    def expand_as(self, other: Tensor) -> Tensor:
        """Return a view repeated to the shape of other."""
        return shaping.expand(self, other.shape)

    # --- values

    def fill_(self, value: Any) -> Tensor:
        """Set every element to value, in place."""
        return self.copy_(value)

    def zero_(self) -> Tensor:
        """Set every element to 0, in place."""
        return self.copy_(0)

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

    def is_contiguous(self) -> bool:
        """Return True if the memory is in row-major order."""
        return self._data.flags.c_contiguous

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

    def bfloat16(self) -> Tensor:
        """Return `to(bfloat16)`."""
        return self.to(bfloat16())

    def to(
        self, *args: Any, dtype: Any = None, device: Any = None, non_blocking: Any = None, copy: Any = False
    ) -> Tensor:
        """Return self if it has this dtype, otherwise a copy cast to it. Gradients flow between float dtypes.

        args: a dtype, a device ("cpu"), both, or a Tensor whose dtype to take. copy: return a copy in any case.
        """
        for given in args:
            if is_tensor(given):
                dtype = given.dtype
            elif isinstance(given, _Device) or (isinstance(given, str) and not _is_dtype(given)):
                device = given
            elif given is not None and not isinstance(given, builtins.bool):
                dtype = given
        require_cpu(device)
        if dtype is None or self.dtype == dtype:
            return self.clone() if copy else self
        cast = self._data.astype(dtype)
        return record("to", cast, (self,), lambda g: (g,)) if is_floating(cast.dtype) else derive("to", cast, (self,))

    def type_as(self, other: Tensor) -> Tensor:
        """Return `to(other.dtype)`."""
        return self.to(other.dtype)

    def type(self, dtype: Any = None) -> Any:
        """Return the tensor cast to dtype, or without it the name of its type, as in "torch.FloatTensor"."""
        if dtype is None:
            return f"torch.{_TYPES[self.dtype.name]}Tensor"
        named = {f"torch.{kind}Tensor": name for name, kind in _TYPES.items()}
        return self.to(np.dtype(named.get(dtype, dtype) if isinstance(dtype, str) else dtype))

    def cpu(self) -> Tensor:
        """Return self: everything is on the CPU."""
        return self

    def cuda(self, device: Any = None, **options: Any) -> Tensor:
        """Raise ArgumentError: there is no other device than the CPU."""
        require_cpu("cuda")
        raise AssertionError

    device = CPU
    is_cuda = False


def tensor(data: Any, dtype: npt.DTypeLike | None = None, device: Device = None, requires_grad: bool = False) -> Tensor:
    """Return a Tensor that holds a copy of data, in dtype if given, otherwise in the dtype of `Tensor(data)`."""
    require_cpu(device)
    return Tensor(np.array(to_array(data), dtype=dtype), requires_grad)


tape.Tensor = Tensor  # the results of operations
