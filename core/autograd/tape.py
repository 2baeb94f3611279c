"""The tape: whether operations are recorded, and the backward pass through the recorded graph.

A recorded tensor knows its `_parents` and a function `_backward` that turns the gradient of the tensor into one
gradient for each parent, or None. Two rules keep the backward pass simple and cheap:

- A `_backward` function returns new arrays, the gradient it was given, or views of that; never an array that something
  else holds, and never the same new array twice. So run_backward knows which arrays can become a `.grad` without a
  copy. The function is called once and may overwrite what it kept from the forward pass, in arrays of its closure:
  backward(retain_graph=True) calls a copy of it.
- It does not undo broadcasting or changes of dtype: the gradient of a repeated operand is the sum over the repeats,
  whatever the operation, and run_backward computes that in one place.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine, Generator, Iterable, Mapping, Sequence
from contextvars import ContextVar
from types import CellType, FunctionType, MappingProxyType
from typing import TYPE_CHECKING, Any, Concatenate, NamedTuple, NoReturn, ParamSpec, TypeGuard, TypeVar

import numpy as np

from ..arrays.versions import (
    clock,
    is_outdated,
    kept_arrays,
    mark_replaced,
    mark_written,
    replaced,
    written_since,
)
from ..commit.block import Setting
from ..errors import ArgumentError, GraphError, ShapeError
from .dtypes import rank

if TYPE_CHECKING:
    from .base import TensorBase
    from .tensor import Tensor

Backward = Callable[[np.ndarray], Sequence["np.ndarray | None"]]
Arguments = ParamSpec("Arguments")
Returned = TypeVar("Returned")
Named = TypeVar("Named", bound=Callable[..., Any])

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
        "backward() has already gone through this graph and freed it. Run the forward pass again before each "
        "backward(); for several losses, add them up first. Or pass retain_graph=True to all but the last."
    )


# --- recording

if not TYPE_CHECKING:
    Tensor = None  # tensor.py, which is above, sets it: results are Tensors


def record(
    operation: str, data: Any, parents: tuple[Tensor, ...], backward: Backward, arguments: Mapping[str, Any] = NONE
) -> Tensor:
    """Return the result of an operation as a Tensor, on the tape if recording is on and a parent requires a gradient.

    operation: the name that doctor() and summary() use. data: an array or NumPy scalar. backward: see above.
    arguments: what else determines the result, for an observer.
    """
    if replaced:
        require_current(parents)
    out = Tensor.__new__(Tensor)
    out._data = data if type(data) is np.ndarray else np.asarray(data)
    out._grad, out._time = None, clock[0]
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
    if replaced:
        require_current(parents)
    out = Tensor(np.asarray(data))
    observe(operation, out, parents, arguments)
    return out


def observe(operation: str, out: Tensor, operands: tuple[Tensor, ...], arguments: Mapping[str, Any] = NONE) -> None:
    """Tell the observer, if there is one, about an operation that is not recorded."""
    recorded = recording.get()
    if recorded is not True and recorded is not False:
        recorded(operation, out, operands, arguments)


def named(function: Named, name: str, text: str) -> Named:
    """Return a function that was made by another, with a name and a docstring."""
    function.__name__, function.__doc__ = name, text
    return function


def as_tensor(data: Any) -> Tensor:
    """Return data if it is a Tensor, otherwise `Tensor(data)`."""
    return data if isinstance(data, Tensor) else Tensor(data)


def is_tensor(obj: Any) -> TypeGuard[Tensor]:
    """Return True if obj is a Tensor."""
    return isinstance(obj, Tensor)


# --- changes in place


def in_place(
    function: Callable[Concatenate[Tensor, Arguments], Tensor],
) -> Callable[Concatenate[Tensor, Arguments], Tensor]:
    """Return the method that computes a function of a tensor and makes the tensor its result."""

    def method(self: Tensor, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Tensor:
        require_changeable(self)
        return assign(self, function(self, *args, **kwargs), function.__name__)

    return named(method, f"{function.__name__}_", f"Make the tensor the result of `{function.__name__}`, in place.")


def require_changeable(tensor: Tensor) -> None:
    """Raise GraphError if a tensor is a leaf that requires a gradient, or a view of one, and recording is on."""
    node = tensor
    while tensor._requires_grad and is_grad_enabled():
        if node._backward is None or node._keep_graph:
            raise GraphError(
                "a leaf that requires a gradient cannot be changed in place, nor can a view of it. To update values, "
                "do it under no_grad(); for a step of the computation, write a = a + b instead of a += b."
            )
        if len(node._parents) != 1 or not np.may_share_memory(node._data, node._parents[0]._data):
            return
        node = node._parents[0]


def assign(target: Tensor, out: Tensor, name: str) -> Tensor:
    """Make target the result `out` of an operation on it, and return it.

    Outside a graph the array changes, and so does every view of it. In a graph the tensor gets the array and the links
    of `out`; operations that used it before keep their link to what it was. Another tensor over the old memory must
    not be used any more, see `require_current`.
    Raises ShapeError or ArgumentError if `out` does not fit into target.
    """
    if out.shape != target.shape:
        raise ShapeError(f"{name} in place cannot broadcast shape {out.shape} to {target.shape}.")
    if rank(out.dtype) > rank(target.dtype):
        raise ArgumentError(f"{name} in place cannot keep {out.dtype} in {target.dtype}. Call .to({out.dtype}) first.")
    if not out._requires_grad and type(target) is Tensor and type(recording.get()) is not bool:
        mark_replaced(target._data, target)
        target._data = out._data.astype(target.dtype, copy=False)  # so that an observer sees where the values are from
        return target
    if not out._requires_grad:
        np.copyto(target._data, out._data, casting="unsafe")
        mark_written(target._data)
        observe(f"in-place {name}", target, (target,))
        return target
    return relink(target, out if out.dtype == target.dtype else out.to(target.dtype))


def relink(target: Tensor, out: Tensor) -> Tensor:
    """Give target the array and the links of `out`, and return it. Operations that used it keep what it was."""
    before = _stand_in(target)
    target._parents = tuple(before if parent is target else parent for parent in out._parents)
    target._data, target._requires_grad, target._operation = out._data, True, out._operation
    target._backward, target._time, target._hooks = out._backward, out._time, {}
    if np.may_share_memory(out._data, before._data):  # written without a copy, or a view of what it was
        before._data = np.broadcast_to(np.zeros((), before.dtype), before.shape)  # only shape and dtype are needed
        clock[0] += 1
    else:
        mark_replaced(before._data, target)
    target._past = (*getattr(target, "_past", ()), (clock[0], before))
    return target


def _stand_in(tensor: Tensor) -> Tensor:
    """Return a tensor with the array and the links of another."""
    before = Tensor.__new__(Tensor)
    before._data, before._grad, before._requires_grad = tensor._data, None, tensor._requires_grad
    before._operation, before._parents, before._backward = tensor._operation, tensor._parents, tensor._backward
    before._time = tensor._time
    return before


def operands(node: TensorBase) -> tuple[Tensor, ...]:
    """Return the operands of a recorded operation as they were when it was recorded."""
    return tuple(
        next((before for time, before in getattr(parent, "_past", ()) if node._time < time), parent)
        for parent in node._parents
    )


def require_current(tensors: Iterable[TensorBase]) -> None:
    """Raise GraphError if a tensor shows memory whose values were replaced by a change in place to another tensor."""
    for tensor in tensors:
        if is_outdated(tensor._data):
            raise GraphError(
                f"a tensor of shape {tensor.shape} shares memory with one that was changed in place within the graph, "
                "and does not show the change. Use the changed tensor, or write a = a + b instead of a += b."
            )


def _require_unchanged(node: TensorBase) -> None:
    """Raise GraphError if an array that the gradient of a node needs was changed in place since it was recorded."""
    for kept in kept_arrays(node._backward) if not node._keep_graph else ():
        array = kept._data if isinstance(kept, Tensor) else kept
        is_relinked = isinstance(kept, Tensor) and any(node._time < time for time, _ in getattr(kept, "_past", ()))
        if is_relinked or (isinstance(array, np.ndarray) and written_since(array, node._time)):
            raise GraphError(
                f"the gradient of {node._operation} needs an array of shape {array.shape} that was changed in place "
                "after the forward pass, perhaps by a step of an optimizer. Run the forward pass again, or change a "
                "copy: write a = a + b instead of a += b, or use clone()."
            )


# --- hooks


class Handle(NamedTuple):
    """The result of registering a hook: `remove()`, or the end of a `with` block, removes the hook."""

    hooks: dict[Any, Any]
    key: object

    def remove(self) -> None:
        """Remove the hook, if it is still there."""
        self.hooks.pop(self.key, None)

    def __enter__(self) -> Handle:
        return self

    def __exit__(self, *exception: object) -> None:
        self.remove()


hooked: list[bool] = []  # not empty once a leaf has a hook


def add_hook(tensor: Tensor, hook: Callable[[Tensor], Any]) -> Handle:
    """Call hook with the gradient of tensor in each backward pass. What it returns, if anything, replaces it."""
    if not tensor._requires_grad:
        raise GraphError("a hook needs a tensor that requires a gradient.")
    known = getattr(tensor, "_hooks", {})
    if not known:
        known = tensor._hooks = {}
        if tensor._backward is None:
            hooked.append(True)
        else:
            # A step of its own, between the tensor and what it was computed from.
            tensor._parents, tensor._backward = (_stand_in(tensor),), lambda g: (apply_hooks(known, g),)
    key = object()
    known[key] = hook
    return Handle(known, key)


def apply_hooks(hooks: Mapping[object, Callable[[Tensor], Any]], gradient: np.ndarray) -> np.ndarray:
    """Return the gradient as the hooks leave it."""
    for hook in tuple(hooks.values()):
        returned = hook(Tensor(gradient))
        if returned is not None:
            gradient = np.asarray(returned, gradient.dtype)
    return gradient


# --- the backward pass


def run_backward(
    root: TensorBase, gradient: np.ndarray, retain: bool = False, wanted: set[TensorBase] | None = None
) -> dict[TensorBase, np.ndarray]:
    """Add to the `.grad` of every leaf that root was computed from, and free the graph unless `retain` is True.

    gradient: the gradient of root, with its shape and dtype; this call may keep it. Call this function `silently`:
    infinities and NaN are ordinary values here, as in the forward pass.
    wanted: return the gradients of these tensors, and change no `.grad`.
    Raises GraphError if a part of the graph has already been freed, or if an array that a gradient needs was changed in
    place since; no `.grad` is changed in that case.
    """
    uses, gradients, ready = _uses(root), {root: gradient}, [root]
    found: dict[TensorBase, np.ndarray] | None = {} if hooked or wanted is not None else None
    while ready:
        node = ready.pop()
        given = gradients.pop(node, None)
        parents, backward = _opened(node, retain)
        if wanted is not None and node in wanted and given is not None and found is not None:
            found[node] = given.copy()
        parts = (None,) * len(parents) if given is None else backward(given)
        if len(parts) != len(parents):
            raise GraphError(f"{node._operation} returned {len(parts)} gradients for {len(parents)} operands.")
        for parent, part in zip(parents, parts):  # noqa: B905 (the lengths were compared; strict=True is slower)
            if not parent._requires_grad:
                continue
            if part is not None and (
                part.shape != parent._data.shape or part.dtype is not parent._data.dtype or type(part) is not np.ndarray
            ):
                part = _fit(part, parent._data)
            if parent._backward is None:
                if part is not None:
                    _add_to_leaf(parent, part, part is given, found)
                continue
            if part is not None:
                known = gradients.get(parent)
                gradients[parent] = part if known is None else np.asarray(known + part)
            uses[parent] -= 1
            if not uses[parent]:
                ready.append(parent)
    return {} if found is None else collected(found, wanted)


def _opened(node: TensorBase, retain: bool) -> tuple[tuple[Tensor, ...], Backward]:
    """Return the operands and the function of a node, and free its part of the graph unless `retain` is True."""
    parents, backward = node._parents if node._time == clock[0] else operands(node), node._backward
    assert backward is not None
    if retain:
        return parents, _duplicate(backward, {})
    if not node._keep_graph:  # before the call, which may fail after it has overwritten what it kept
        node._parents, node._backward = (), spent
    return parents, backward


def _add_to_leaf(
    leaf: TensorBase, part: np.ndarray, is_given: bool, found: dict[TensorBase, np.ndarray] | None
) -> None:
    """Add a part of the gradient of a leaf to `.grad`, or to `found` if there is one."""
    if found is not None:
        found[leaf] = np.asarray(found[leaf] + part) if leaf in found else part
    elif leaf._grad is not None:
        leaf._grad += part
    else:  # later additions are in place, so an array that something else may hold is copied
        leaf._grad = part.copy() if is_given or part.base is not None else part


def collected(found: dict[TensorBase, np.ndarray], wanted: set[TensorBase] | None) -> dict[TensorBase, np.ndarray]:
    """Pass the gradients of leaves to their hooks. Add them to `.grad`, or return those in `wanted`."""
    for leaf in found:
        if leaf._backward is None:
            found[leaf] = apply_hooks(getattr(leaf, "_hooks", {}), found[leaf])
        if wanted is None:
            leaf._grad = np.array(found[leaf]) if leaf._grad is None else np.asarray(leaf._grad + found[leaf])
    return found if wanted is None else {tensor: found[tensor] for tensor in wanted if tensor in found}


def _uses(root: TensorBase) -> dict[TensorBase, int]:
    """Return how often each recorded tensor behind root is used, which is the number of parts of its gradient."""
    uses: dict[TensorBase, int] = {}
    found = [root]
    while found:  # not recursive: graphs are deeper than the stack
        node = found.pop()
        if node._backward is spent:
            spent(node._data)
        parents = node._parents
        if node._time != clock[0]:
            parents = operands(node)
            _require_unchanged(node)
        for parent in parents:
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


def _duplicate(kept: Any, known: dict[int, Any]) -> Any:
    """Return a copy of a `_backward` function with copies of the arrays it kept, which it may overwrite."""
    if id(kept) in known:
        return known[id(kept)]
    if isinstance(kept, np.ndarray):
        known[id(kept)] = kept.copy("K")
    elif type(kept) in (tuple, list):
        known[id(kept)] = type(kept)(_duplicate(part, known) for part in kept)
    elif isinstance(kept, FunctionType) and kept.__closure__:
        cells = tuple(CellType() for _ in kept.__closure__)
        copy = FunctionType(kept.__code__, kept.__globals__, kept.__name__, kept.__defaults__, cells)
        copy.__kwdefaults__ = kept.__kwdefaults__  # pyright: ignore[reportAttributeAccessIssue]
        known[id(kept)] = copy
        for new, old in zip(cells, kept.__closure__, strict=True):
            new.cell_contents = _duplicate(old.cell_contents, known)
    else:
        return kept
    return known[id(kept)]
