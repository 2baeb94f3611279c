"""Parameter and Buffer: the tensors that a module registers when they are assigned to it.

A Parameter made from a view of another Parameter, as in a tied autoencoder,

    self.decoder.weight = Parameter(self.encoder.weight.T)

stays a view: it shares the memory, and its gradient flows into the `.grad` of the encoder's weight. (In torch the
two would be trained separately, and each step of the optimizer would overwrite the other.)
"""

from __future__ import annotations

import weakref
from typing import Any, ClassVar

import numpy as np

from ...arrays.memory import byte_bounds, is_dense, repeats_elements, zeros_sharing
from ...autograd.base import rebuild
from ...autograd.tensor import Tensor
from ...errors import ArgumentError, GraphError


class Parameter(Tensor):
    """A tensor that is trained. A Module registers it on assignment, and saves and loads it.

    data: as for Tensor. The memory of a Tensor is shared, but not its graph. If the Tensor is a Parameter or a view of
    one (`.T`, slices, reshapes), the new Parameter is a lasting view, see `view_of`.
    Raises ArgumentError if requires_grad is True and data holds no floats.
    """

    __slots__ = ("_holders",)  # the number of names under which modules hold it
    # The link of a view to its base outlives every backward pass.
    _keep_graph: ClassVar[bool] = True

    def __init__(self, data: Any, requires_grad: bool = True) -> None:
        super().__init__(data._data if isinstance(data, Tensor) else data, requires_grad)
        self._holders = 0
        base = _viewed_parameter(data) if isinstance(data, Tensor) else None
        if base is not None:
            self._link(base)

    @classmethod
    def view_of(cls, base: Parameter, array: np.ndarray, requires_grad: bool = True) -> Parameter:
        """Return a Parameter over an array that is a view of the memory of base. Its gradient flows into `base.grad`.

        Its own `.grad` stays None, so an optimizer steps the memory only once.
        Raises ArgumentError if the array is not a view of base, or repeats elements of it as `expand` does.
        """
        view = cls(array, requires_grad)
        view._link(base)
        return view

    @property
    def base(self) -> Parameter | None:
        """The Parameter that this one is a view of, or None."""
        return self._parents[0] if self._parents else None  # pyright: ignore[reportReturnType]

    def _link(self, base: Parameter) -> None:
        while base.base is not None:
            base = base.base
        if self.dtype != base.dtype or not _holds(base._data, self._data):
            raise ArgumentError(
                f"an array {self.shape} of {self.dtype} is not a view of the memory of a parameter {base.shape} of "
                f"{base.dtype}. Make it from parameter.data by transposing, slicing or reshaping."
            )
        if repeats_elements(self._data):
            raise ArgumentError(
                f"a view {self.shape} that repeats elements of a parameter {base.shape} cannot be a Parameter: the "
                "repeats cannot be loaded or stepped separately. Expand the parameter in forward() instead."
            )
        # A weak reference: the function must not keep its own tensor alive.
        this = weakref.ref(self)
        self._parents, self._backward = (base,), lambda gradient: (_gradient_of_base(base, this(), gradient),)

    def __reduce__(self) -> Any:
        # A view stays a view of its base if both are copied or pickled together.
        memory, place = _located(self._data)
        if self.base is not None and memory is not _located(self.base._data)[0]:
            raise ArgumentError(
                f"a Parameter {self.shape} cannot be copied or pickled as a view: the memory of its base "
                f"{self.base.shape} was replaced, or is in neither C nor Fortran order. Make the view again from a "
                "parameter in C order."
            )
        arguments = (type(self), memory, place, self._requires_grad, self.base)
        return _rebuild_parameter, arguments, getattr(self, "__dict__", None)

    def _with_data(self, array: np.ndarray) -> Parameter:
        return type(self)(array, self.requires_grad)

    def __repr__(self) -> str:
        return f"Parameter containing:\n{super().__repr__()}"


class Buffer(Tensor):
    """A tensor that belongs to a module's state but is not trained, such as a running mean.

    data: as for Tensor; the memory of a Tensor is shared. persistent: whether state_dict() lists it.
    """

    __slots__ = ("persistent",)

    def __init__(self, data: Any, persistent: bool = True) -> None:
        super().__init__(data._data if isinstance(data, Tensor) else data)
        self.persistent = persistent

    def __reduce__(self) -> Any:
        arguments = (type(self), *_located(self._data), self.persistent)
        return _rebuild_buffer, arguments, getattr(self, "__dict__", None)

    def _with_data(self, array: np.ndarray) -> Buffer:
        return type(self)(array, self.persistent)


# --- copies and pickles

Place = tuple[np.dtype, int, tuple[int, ...], tuple[int, ...]]  # dtype, offset in bytes, shape, strides


def _located(array: np.ndarray) -> tuple[np.ndarray, Place | None]:
    """Return the array that owns the memory of `array`, and the place of `array` in it.

    Pickles and copies recognize an object they have seen before, so tensors that share memory share it in the copy.
    The place is None if `array` owns its memory, or if that memory cannot be pickled in its order.
    """
    owner, below = array, array.base
    while below is not None:
        owner = below if isinstance(below, np.ndarray) else owner
        below = getattr(below, "base", None) if not isinstance(below, memoryview) else below.obj
    if owner is array or not (owner.flags.c_contiguous or owner.flags.f_contiguous):
        return array, None
    offset = array.__array_interface__["data"][0] - owner.__array_interface__["data"][0]
    return owner, (array.dtype, offset, array.shape, array.strides)


def _array_at(memory: np.ndarray, place: Place | None) -> np.ndarray:
    """Return the array at a place that `_located` returned."""
    if place is None:
        return memory
    dtype, offset, shape, strides = place
    in_order = memory if memory.flags.c_contiguous else memory.T
    return np.ndarray(shape, dtype, in_order.reshape(-1).view(np.uint8), offset, strides)


def _rebuild_parameter(
    cls: type[Parameter], memory: np.ndarray, place: Place | None, requires_grad: bool, base: Parameter | None
) -> Parameter:
    parameter = rebuild(cls, _array_at(memory, place), requires_grad)
    parameter._holders = 0
    if base is not None:
        parameter._link(base)
    return parameter


def _rebuild_buffer(cls: type[Buffer], memory: np.ndarray, place: Place | None, persistent: bool) -> Buffer:
    buffer = rebuild(cls, _array_at(memory, place), requires_grad=False)
    buffer.persistent = persistent
    return buffer


def _viewed_parameter(tensor: Tensor) -> Parameter | None:
    """Return the Parameter that a tensor is a view of, or None."""
    node = tensor
    while not isinstance(node, Parameter):
        if len(node._parents) != 1:
            return None
        node = node._parents[0]
    low, high = byte_bounds(node._data)
    start, end = byte_bounds(tensor._data)
    return node if low <= start and end <= high else None


def _holds(whole: np.ndarray, part: np.ndarray) -> bool:
    """Return True if every element of part is an element of whole in memory. Both have the same dtype."""
    low, high = byte_bounds(whole)
    start, end = byte_bounds(part)
    if not (low <= start and end <= high):
        return False
    if is_dense(whole):
        return all(step % whole.itemsize == 0 for step in (start - low, *part.strides))
    marks, read = zeros_sharing([whole, part], np.bool_)
    marks[...] = True
    return bool(read.all())


def _gradient_of_base(base: Parameter, view: Parameter | None, gradient: np.ndarray) -> np.ndarray:
    """Return the gradient of base for the gradient of a view of it: zero outside the view."""
    assert view is not None
    if gradient.size and not np.may_share_memory(base._data, view._data):
        raise GraphError(
            f"a Parameter {view.shape} is no longer a view of its base {base.shape}: `.data` was replaced. "
            "Write values into it in place (parameter.data[...] = values), or make a new Parameter from the array."
        )
    by_base, by_view = zeros_sharing([base._data, view._data])
    by_view[...] = gradient
    return by_base
