"""Module: the base class of layers and models.

    class Net(Module):
        def __init__(self):
            super().__init__()
            self.fc1 = Linear(784, 128)     # registered by the assignment, see registration.py
            self.fc2 = Linear(128, 10)

        def forward(self, x):               # (N, 784) -> (N, 10)
            return self.fc2(relu(self.fc1(x)))

Names and their order are torch's: a module's own parameters, its buffers, then those of its children. The traversal is
in traversal.py.
"""

from __future__ import annotations

import copy
import itertools
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ...arrays.memory import copy_sharing, count_elements
from ...autograd.base import set_data, set_grad, set_requires_grad
from ...autograd.devices import Device, require_cpu
from ...autograd.dtypes import is_floating
from ...commit.block import Block
from ...commit.commit import Commit
from ...commit.steps import Step, run
from ...errors import ArgumentError, ModuleError, did_you_mean
from .loading import LoadResult, plan_load
from .parameter import Buffer, Parameter
from .registration import UnknownMemberError
from .targets import put_values, targets_of
from .traversal import Traversal

if TYPE_CHECKING:
    import numpy.typing as npt

    from ...inspection.summary import Summary

ForwardHook = Callable[..., Any]  # (module, args, output), or with_kwargs (module, args, kwargs, output)
ForwardPreHook = Callable[["Module", tuple[Any, ...]], Any]


class MissingForwardError(ModuleError, NotImplementedError):
    """A call of a module whose class does not define forward."""


class HookHandle:
    """The result of registering a hook: `remove()` removes the hook."""

    def __init__(self, hooks: dict[int, Any], key: int) -> None:
        self._hooks, self._key = hooks, key

    def remove(self) -> None:
        """Remove the hook, if it is still registered."""
        self._hooks.pop(self._key, None)


_hook_keys = itertools.count()


class Module(Traversal):
    """The base class of all layers and models. A subclass calls super().__init__() first and defines forward.

    training: True in training mode, which changes Dropout and BatchNorm1d; see `train`.
    """

    training: bool

    def __init__(self) -> None:
        super().__init__()
        vars(self).update(training=True, _forward_hooks={}, _forward_pre_hooks={})

    # --- calls

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return the output of the module. Subclasses define it."""
        raise MissingForwardError(
            f"{type(self).__name__} has no forward(). Define forward(self, x) in the class; calling the module runs it."
        )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return `forward(*args, **kwargs)`, running the hooks before and after it."""
        if not self._forward_pre_hooks and not self._forward_hooks:
            return self.forward(*args, **kwargs)
        for pre_hook in tuple(self._forward_pre_hooks.values()):
            changed = pre_hook(self, args)
            if changed is not None:
                args = changed if isinstance(changed, tuple) else (changed,)
        output = self.forward(*args, **kwargs)
        for hook, with_kwargs in tuple(self._forward_hooks.values()):
            changed = hook(self, args, kwargs, output) if with_kwargs else hook(self, args, output)
            output = output if changed is None else changed
        return output

    def register_forward_pre_hook(self, hook: ForwardPreHook) -> HookHandle:
        """Call hook(module, args) before each forward. A result other than None replaces the arguments."""
        return _add_hook(self._forward_pre_hooks, hook)

    def register_forward_hook(self, hook: ForwardHook, with_kwargs: bool = False) -> HookHandle:
        """Call hook(module, args, output) after each forward. A result other than None replaces the output.

        with_kwargs=True calls it as hook(module, args, kwargs, output).
        """
        return _add_hook(self._forward_hooks, (hook, with_kwargs))

    # --- state

    def state_dict(self, prefix: str = "") -> dict[str, Any]:
        """Return the array of every parameter and persistent buffer by name, tied ones under each name.

        The arrays are the model's memory, not copies. A module that defines get_extra_state adds its result as
        "<its name>._extra_state".
        """
        state: dict[str, Any] = {}
        for path, module in self._tree(distinct=False):
            dot = f"{prefix}{path}." if path else prefix
            state.update((dot + name, tensor.data) for name, tensor in module._own_state())
            if module._has_extra_state():
                state[f"{dot}_extra_state"] = module.get_extra_state()
        return state

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True, cast: bool = False) -> LoadResult:
        """Copy the values of state into the model's own arrays and return (missing_keys, unexpected_keys).

        state: arrays or Tensors by name. strict=False skips the names that only one side has and the values of another
        shape; the result lists them, the latter also as `mismatched_keys`. cast=True converts to the model's dtypes,
        see `loading.plan_load`.
        Raises StateDictError listing every problem, or if nothing matches. Nothing has changed in that case, nor after
        an interrupt.
        """
        targets, commit = targets_of(self), Commit()
        plan = plan_load(targets, state, strict, cast)
        put_values(self, targets, plan.values, commit)
        commit.apply()
        return plan.result

    def get_extra_state(self) -> Any:
        """Return additional state of this module. A subclass that has any defines this and set_extra_state."""
        raise ModuleError(f"{type(self).__name__} has no extra state: it does not define get_extra_state().")

    def set_extra_state(self, state: Any) -> None:
        """Restore what get_extra_state returned."""
        raise ModuleError(f"{type(self).__name__} has no extra state: it does not define set_extra_state().")

    def _has_extra_state(self) -> bool:
        return type(self).get_extra_state is not Module.get_extra_state

    # --- changes to the whole module

    def train(self, mode: bool = True) -> Self:
        """Set training mode, or with False evaluation mode, here and in every module below, and return self."""
        if not isinstance(mode, bool):
            raise ArgumentError(f"train() takes True or False, not {type(mode).__name__}.")
        modules = [module for _, module in self._tree()]
        if all(module is self or type(module).train is Module.train for module in modules):
            run([(object.__setattr__, module, "training", mode) for module in modules])
            return self
        # A module that defines train() itself decides for those below it.
        before = [(object.__setattr__, module, "training", module.training) for module in modules]
        with Block((), before, None):
            self.training = mode
            for child in self.children():
                child.train(mode)
            before.clear()
        return self

    def eval(self) -> Self:
        """Set evaluation mode and return self: dropout is off, batch norm uses its running statistics."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Set `requires_grad` of every parameter and return self. False freezes the model.

        Raises ArgumentError if that needs a gradient for integers; nothing is changed in that case.
        """
        parameters = list(self.parameters())
        for parameter in parameters:
            parameter._check_requires_grad(requires_grad)
        run([(set_requires_grad, parameter, requires_grad) for parameter in parameters])
        return self

    def zero_grad(self) -> None:
        """Set the gradient of every parameter to None."""
        run([(set_grad, parameter, None) for parameter in self.parameters()])

    def apply(self, function: Callable[[Any], Any]) -> Self:
        """Call function on every module below, children first, then on self, and return self."""
        for child in self.children():
            child.apply(function)
        function(self)
        return self

    def to(self, dtype: npt.DTypeLike) -> Self:
        """Convert the floating-point parameters and buffers, and their gradients, to dtype, and return self.

        Ties and views within this module are kept. The base of a view is converted even if another module holds it.
        Raises ArgumentError if dtype is not a floating-point dtype.
        """
        try:
            wanted = np.dtype(dtype)
        except TypeError:
            wanted = np.dtype(object)
        if not is_floating(wanted):
            raise ArgumentError(f"Module.to() takes a floating-point dtype such as numpy.float64, not {dtype!r}.")
        tensors = [t for t in self._tensors() if is_floating(t.dtype) and t.dtype != wanted]
        arrays = copy_sharing([tensor._data for tensor in tensors], wanted)
        gradients = [None if tensor._grad is None else tensor._grad.astype(wanted) for tensor in tensors]
        steps = [(set_data, tensor, array) for tensor, array in zip(tensors, arrays, strict=True)]
        steps += [(set_grad, tensor, gradient) for tensor, gradient in zip(tensors, gradients, strict=True)]
        run(steps)
        return self

    def float(self) -> Self:
        """Return `to(float32)`."""
        return self.to(np.float32)

    def double(self) -> Self:
        """Return `to(float64)`."""
        return self.to(np.float64)

    def _placed(self, device: Device, dtype: npt.DTypeLike | None) -> None:
        """Check the device and convert to dtype, unless it is None. Constructors with these arguments end with this."""
        require_cpu(device)
        if dtype is not None:
            self.to(dtype)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return a copy in new memory that keeps ties and views."""
        tensors = [t for t in self._tensors() if isinstance(t, Parameter | Buffer)]
        if any(id(tensor) in memo for tensor in tensors):
            tensors = []  # an optimizer was copied first, so the others are copied one by one, with what they share
        for tensor, array in zip(tensors, copy_sharing([t._data for t in tensors]), strict=True):
            memo[id(tensor)] = tensor._with_data(array)
        for tensor in tensors:
            if isinstance(tensor, Parameter) and tensor.base is not None:
                memo[id(tensor)]._link(memo[id(tensor.base)])
        new = memo[id(self)] = type(self).__new__(type(self))
        new.__setstate__(copy.deepcopy(self.__getstate__(), memo))
        return new

    # --- inspection

    def get_submodule(self, target: str) -> Module:
        """Return the module with this dotted name, or self for "". Raises UnknownMemberError if there is none."""
        found: Any = self
        for part in target.split(".") if target else ():
            found = found._modules.get(part)
            if found is None:
                known = (name for name, _ in self._tree())
                raise UnknownMemberError(
                    f"{type(self).__name__} has no module {target!r}.{did_you_mean(target, known)}"
                )
        return found

    def get_parameter(self, target: str) -> Parameter:
        """Return the parameter with this dotted name. Raises UnknownMemberError if there is none."""
        return self._named("_parameters", "parameter", target)

    def get_buffer(self, target: str) -> Any:
        """Return the buffer with this dotted name. Raises UnknownMemberError if there is none."""
        return self._named("_buffers", "buffer", target)

    def num_parameters(self) -> int:
        """Return the number of elements in all parameters, counting tied or viewed memory once."""
        return count_elements([parameter._data for parameter in self.parameters()])

    def summary(self, *inputs: Any) -> Summary:
        """Return a table of the modules with output shapes, sizes and multiply-adds. Notebooks show it.

        inputs: the arguments of forward, each as a shape such as (1, 64), which stands for float32 zeros, or as an
        example array. Without inputs the model is not run, and only sizes are shown. See summary.py for the counts.
        """
        from ...inspection.summary import summarize  # inspection is above nn: it must not be imported with it

        return summarize(self, inputs)

    def extra_repr(self) -> str:
        """Return the text that `repr` shows in the parentheses: the arguments of the constructor."""
        return ""

    def __repr__(self) -> str:
        return self._described([(f"({name}): ", repr(child)) for name, child in self._modules.items()])

    def _described(self, children: list[tuple[str, str]]) -> str:
        """Return the text in torch's format: the class, its arguments, and a line for each child."""
        arguments = self.extra_repr()
        if not children and "\n" not in arguments:
            return f"{type(self).__name__}({arguments})"
        lines = arguments.split("\n") if arguments else []
        lines += [label + text.replace("\n", "\n  ") for label, text in children]
        return "\n  ".join([f"{type(self).__name__}(", *lines]) + "\n)"


def _add_hook(hooks: dict[int, Any], hook: Any) -> HookHandle:
    key = _free_key(hooks)
    hooks[key] = hook
    return HookHandle(hooks, key)


def _free_key(hooks: dict[int, Any]) -> int:
    return next(key for key in _hook_keys if key not in hooks)  # a pickle may contain keys from another process


def steps_to_hook(
    hooks: Iterable[tuple[Module, ForwardHook, bool]], pre_hooks: Iterable[tuple[Module, ForwardPreHook]] = ()
) -> tuple[list[Step], list[Step]]:
    """Return the steps that register hooks, and those that remove them. See commit/block.py.

    hooks: (module, hook, with_kwargs), as in register_forward_hook. pre_hooks: (module, hook).
    """
    places: list[tuple[dict[int, Any], Any]] = [(m._forward_hooks, (hook, named)) for m, hook, named in hooks]
    places += [(module._forward_pre_hooks, hook) for module, hook in pre_hooks]
    keyed = [(registered, _free_key(registered), hook) for registered, hook in places]
    begin: list[Step] = [(operator.setitem, registered, key, hook) for registered, key, hook in keyed]
    return begin, [(registered.pop, key, None) for registered, key, _ in keyed]
