"""The tape: whether operations are recorded, and the backward pass through the recorded graph.

A recorded tensor knows its `_parents` and a function `_backward` that turns the gradient of the tensor into one
gradient for each parent, or None. Two rules keep the backward pass simple and cheap:

- A `_backward` function returns new arrays, the gradient it was given, or views of that; never an array that something
  else holds, and never the same new array twice. So run_backward knows which arrays can become a `.grad` without a
  copy. The function is called once and may overwrite what it kept from the forward pass.
- It does not undo broadcasting or changes of dtype: the gradient of a repeated operand is the sum over the repeats,
  whatever the operation, and run_backward computes that in one place.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence
from contextvars import ContextVar
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, TypeVar

import numpy as np

from ..commit.block import Setting
from ..errors import GraphError

if TYPE_CHECKING:
    from .base import TensorBase
    from .tensor import Tensor

Backward = Callable[[np.ndarray], Sequence["np.ndarray | None"]]
Arguments = ParamSpec("Arguments")
Returned = TypeVar("Returned")

# What happens to each operation: True records it, False does not, and a function is called with its name, result,
# operands and arguments instead. This is a context variable, so every thread and asyncio task has its own.
Observer = Callable[[str, "Tensor", tuple["Tensor", ...], Mapping[str, Any]], None]
NONE: Mapping[str, Any] = MappingProxyType({})  # the arguments of most operations
recording: ContextVar[bool | Observer] = ContextVar("statezoo_recording", default=True)


def is_grad_enabled() -> bool:
    """Return True if operations are recorded for `backward()` in this thread or asyncio task."""
    return recording.get() is True


class _Mode(Setting):
    """A context or decorator that turns recording on or off; with None, nothing changes. Observers go on in any case.

    A decorated generator or coroutine runs its own body in the mode; code that consumes it is not affected.
    """

    def __init__(self, mode: bool | None) -> None:
        self._mode = mode
        super().__init__(recording, lambda outside: mode if mode is not None and type(outside) is bool else outside)

    def __call__(self, function: Callable[Arguments, Returned]) -> Callable[Arguments, Returned]:
        mode = self._mode
        if inspect.isgeneratorfunction(function):
            return _generator_in(mode, function)
        if inspect.iscoroutinefunction(function):
            return _coroutine_in(mode, function)

        @functools.wraps(function)
        def in_mode(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Returned:
            with _Mode(mode):
                return function(*args, **kwargs)

        return in_mode


def no_grad(function: Any = None) -> Any:
    """Turn recording off: `with no_grad():`, `@no_grad()` or `@no_grad`."""
    return _Mode(False) if function is None else _Mode(False)(function)


def enable_grad(function: Any = None) -> Any:
    """Turn recording on again within `no_grad`, in the same ways."""
    return _Mode(True) if function is None else _Mode(True)(function)


def inference_mode(mode: Any = True) -> Any:
    """Do the same as `no_grad`, or with mode=False nothing. Here the results may be used in graphs later."""
    return no_grad(mode) if callable(mode) else _Mode(False if mode else None)


class set_grad_enabled(_Mode):
    """A call that turns recording on or off at once; as a context or decorator only for the block or function."""

    def __init__(self, mode: bool) -> None:
        super().__init__(bool(mode))
        self._before = recording.get()
        recording.set(self._value(self._before))

    def steps(self) -> Any:
        return super().steps()[0], [(recording.set, self._before)]

    def __call__(self, function: Callable[Arguments, Returned]) -> Callable[Arguments, Returned]:
        recording.set(self._before)
        return super().__call__(function)


def _generator_in(mode: bool | None, function: Callable[..., Generator[Any, Any, Any]]) -> Callable[..., Any]:
    """Return a generator function whose own body alone runs in the mode."""

    @functools.wraps(function)
    def in_mode(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        generator = function(*args, **kwargs)
        resume = _Mode(mode)(lambda method, *values: method(*values))
        try:
            item = resume(next, generator)
            while True:
                try:
                    sent = yield item
                except GeneratorExit:
                    return resume(generator.close)
                except BaseException as error:
                    item = resume(generator.throw, error)
                else:
                    item = resume(generator.send, sent)
        except StopIteration as end:
            return end.value

    return in_mode


def _coroutine_in(mode: bool | None, function: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def in_mode(*args: Any, **kwargs: Any) -> Any:
        with _Mode(mode):
            return await function(*args, **kwargs)

    return in_mode


def spent(_: np.ndarray) -> NoReturn:
    """Raise GraphError. This replaces the `_backward` of a tensor whose graph has been freed."""
    raise GraphError(
        "backward() has already gone through this graph and freed it. "
        "Run the forward pass again before each backward(); for several losses, add them up first."
    )


def run_backward(root: TensorBase, gradient: np.ndarray) -> None:
    """Add to the `.grad` of every leaf that root was computed from, and free the graph.

    gradient: the gradient of root, with its shape and dtype; this call may keep it. Call this function `silently`:
    infinities and NaN are ordinary values here, as in the forward pass.
    Raises GraphError if a part of the graph has already been freed; no `.grad` is changed in that case.
    """
    uses, gradients, ready = _uses(root), {root: gradient}, [root]
    while ready:
        node = ready.pop()
        parents, backward, given = node._parents, node._backward, gradients.pop(node, None)
        assert backward is not None
        if not node._keep_graph:  # before the call, which may fail after it has overwritten what it kept
            node._parents, node._backward = (), spent
        parts = (None,) * len(parents) if given is None else backward(given)
        if len(parts) != len(parents):
            raise GraphError(f"{node._operation} returned {len(parts)} gradients for {len(parents)} operands.")
        for parent, part in zip(parents, parts):  # noqa: B905 (the lengths were compared; strict=True is slower)
            if not parent._requires_grad:
                continue
            array = parent._data
            if part is not None and (
                part.shape != array.shape or part.dtype is not array.dtype or type(part) is not np.ndarray
            ):
                part = _fit(part, array)
            if parent._backward is None:
                if part is not None:
                    if parent._grad is not None:
                        parent._grad += part
                    else:  # later additions are in place, so an array that something else may hold is copied
                        parent._grad = part if part is not given and part.base is None else part.copy()
                continue
            if part is not None:
                known = gradients.get(parent)
                gradients[parent] = part if known is None else np.asarray(known + part)
            uses[parent] -= 1
            if not uses[parent]:
                ready.append(parent)


def _uses(root: TensorBase) -> dict[TensorBase, int]:
    """Return how often each recorded tensor behind root is used, which is the number of parts of its gradient."""
    uses: dict[TensorBase, int] = {}
    found = [root]
    while found:  # not recursive: graphs are deeper than the stack
        node = found.pop()
        if node._backward is spent:
            spent(node._data)
        for parent in node._parents:
            if parent._backward is None or not parent._requires_grad:
                continue
            if parent in uses:
                uses[parent] += 1
            else:
                uses[parent] = 1
                found.append(parent)
    return uses


def _fit(gradient: np.ndarray, array: np.ndarray) -> np.ndarray:
    """Return the gradient in the shape and dtype of array, summed over broadcast axes."""
    if gradient.shape != array.shape:
        extra = gradient.ndim - array.ndim
        repeated = [axis + extra for axis, size in enumerate(array.shape) if size == 1]
        # 16-bit floats are summed in float32: bfloat16 would stop growing at 256 terms.
        dtype = np.float32 if gradient.dtype.itemsize <= 2 else None
        summed = gradient.sum(axis=(*range(extra), *repeated), keepdims=True, dtype=dtype)
        gradient = np.asarray(summed).reshape(array.shape)
    return np.asarray(gradient, dtype=array.dtype)
