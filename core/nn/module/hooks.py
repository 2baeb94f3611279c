"""Hooks: functions of the user that run when a module is called, differentiated, saved or loaded.

The gradients of a call are seen at its borders: its inputs, and then its outputs, pass through the identity, whose
gradient calls the hooks.
"""

from __future__ import annotations

import itertools
import operator
import warnings
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from ...autograd.base import to_array
from ...autograd.tape import Handle as HookHandle
from ...autograd.tensor import Tensor, is_grad_enabled, record
from ...commit.steps import Step, run
from ...errors import ArgumentError, GraphError
from .traversal import Traversal

Function = Callable[..., Any]
Values = tuple[Any, ...]


class Hook(NamedTuple):
    """A registered function, and how it is called."""

    function: Function
    with_kwargs: bool = False
    always_call: bool = False

    def __call__(self, *args: Any) -> Any:
        """Call the function."""
        return self.function(*args)

    def before(self, module: Any, args: Values, kwargs: Any) -> tuple[Values, Any]:
        """Return the arguments for forward, changed or not."""
        changed = self(module, args, kwargs) if self.with_kwargs else self(module, args)
        if changed is None:
            return args, kwargs
        if not self.with_kwargs:
            return changed if isinstance(changed, tuple) else (changed,), kwargs
        if isinstance(changed, tuple) and len(changed) == 2:
            return changed
        raise ArgumentError(f"a pre-hook with_kwargs returns None or new (args, kwargs), not {type(changed).__name__}.")

    def after(self, module: Any, args: Values, kwargs: Any, output: Any) -> Any:
        """Return the output of forward, changed or not."""
        changed = self(module, args, kwargs, output) if self.with_kwargs else self(module, args, output)
        return output if changed is None else changed


class Hooked(Traversal):
    """A Traversal with hooks. `forward` is that of the module. prepend: call a hook before those registered so far."""

    forward: Function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return `forward(*args, **kwargs)`, running the hooks before and after it."""
        if not (self._forward_hooks or self._forward_pre_hooks or self._backward_hooks or self._backward_pre_hooks):
            return self.forward(*args, **kwargs)
        waiting, output = dict(self._forward_hooks), None
        try:
            for hook in tuple(self._forward_pre_hooks.values()):
                args, kwargs = hook.before(self, args, kwargs)
            border = _Border(self, args) if self._backward_hooks or self._backward_pre_hooks else None
            args = args if border is None else border.args
            output = self.forward(*args, **kwargs)
            for key, hook in tuple(self._forward_hooks.items()):
                waiting.pop(key, None)
                output = hook.after(self, args, kwargs, output)
        except Exception:
            for hook in waiting.values():
                try:
                    output = hook.after(self, args, kwargs, output) if hook.always_call else output
                except Exception as error:
                    warnings.warn(f"a hook with always_call=True raised {error!r} after an error.", stacklevel=2)
            raise
        return output if border is None else border.leave(output)

    def register_forward_pre_hook(
        self, hook: Function, *, prepend: bool = False, with_kwargs: bool = False
    ) -> HookHandle:
        """Call hook(module, args) before each forward. A result other than None replaces the arguments.

        with_kwargs: call hook(module, args, kwargs), which returns None or new (args, kwargs).
        """
        return _add(self._forward_pre_hooks, Hook(hook, with_kwargs), prepend)

    def register_forward_hook(
        self, hook: Function, with_kwargs: bool = False, *, prepend: bool = False, always_call: bool = False
    ) -> HookHandle:
        """Call hook(module, args, output) after each forward. A result other than None replaces the output.

        with_kwargs: call hook(module, args, kwargs, output). always_call: call it also if forward raises an error.
        """
        return _add(self._forward_hooks, Hook(hook, with_kwargs, always_call), prepend)

    def register_full_backward_hook(self, hook: Function, prepend: bool = False) -> HookHandle:
        """Call hook(module, grad_input, grad_output) when the gradients of the positional arguments are known.

        grad_input, grad_output: a tuple with a Tensor for each argument and output, or None. A tuple that is returned
        replaces grad_input. If no argument requires a gradient, the hook is called when grad_output is known.
        """
        return _add(self._backward_hooks, Hook(hook), prepend)

    register_backward_hook = register_full_backward_hook  # torch's old name

    def register_full_backward_pre_hook(self, hook: Function, prepend: bool = False) -> HookHandle:
        """Call hook(module, grad_output) before the backward pass of the module. A tuple replaces grad_output."""
        return _add(self._backward_pre_hooks, Hook(hook), prepend)

    def register_state_dict_pre_hook(self, hook: Function) -> HookHandle:
        """Call hook(module, prefix, keep_vars) before `state_dict()` reads the module."""
        return _add(self._state_dict_pre_hooks, Hook(hook))

    def register_state_dict_post_hook(self, hook: Function) -> HookHandle:
        """Call hook(module, state_dict, prefix, local_metadata) after `state_dict()`, to change it in place."""
        return _add(self._state_dict_hooks, Hook(hook))

    _register_state_dict_hook = register_state_dict_post_hook

    def register_load_state_dict_pre_hook(self, hook: Function) -> HookHandle:
        """Call hook(module, ...) before the module is loaded, with the arguments of `_load_from_state_dict`."""
        return _add(self._load_state_dict_pre_hooks, Hook(hook, with_kwargs=True))

    def _register_load_state_dict_pre_hook(self, hook: Function, with_module: bool = False) -> HookHandle:
        return _add(self._load_state_dict_pre_hooks, Hook(hook, with_module))

    def register_load_state_dict_post_hook(self, hook: Function) -> HookHandle:
        """Call hook(module, incompatible_keys) after a load of the module. It may change the lists of keys in place."""
        return _add(self._load_state_dict_post_hooks, Hook(hook))


def _add(hooks: dict[int, Hook], hook: Hook, prepend: bool = False) -> HookHandle:
    key = _free_key(hooks)
    run([(hooks.clear,), (hooks.update, {key: hook, **hooks} if prepend else {**hooks, key: hook})])
    return HookHandle(hooks, key)


_hook_keys = itertools.count()


def _free_key(hooks: dict[int, Any]) -> int:
    return next(key for key in _hook_keys if key not in hooks)  # a pickle may contain keys from another process


def steps_to_hook(
    hooks: Iterable[tuple[Any, Function, bool]], pre_hooks: Iterable[tuple[Any, Function]] = ()
) -> tuple[list[Step], list[Step]]:
    """Return the steps that register hooks, and those that remove them. See commit/block.py.

    hooks: (module, hook, with_kwargs), as in register_forward_hook. pre_hooks: (module, hook).
    """
    places = [(module._forward_hooks, Hook(hook, named)) for module, hook, named in hooks]
    places += [(module._forward_pre_hooks, Hook(hook)) for module, hook in pre_hooks]
    keyed = [(registered, _free_key(registered), hook) for registered, hook in places]
    begin: list[Step] = [(operator.setitem, registered, key, hook) for registered, key, hook in keyed]
    return begin, [(registered.pop, key, None) for registered, key, _ in keyed]


class _Border:
    """The inputs and outputs of one call, whose gradients the backward hooks of the module see. args: for forward."""

    def __init__(self, module: Any, args: Values) -> None:
        self._module, self._grad_output = module, None  # grad_output: during a backward pass
        self._hooks, self._pre_hooks = [[*h.values()] for h in (module._backward_hooks, module._backward_pre_hooks)]
        # As in torch, an input that no gradient reaches gets zeros, and an output None.
        self._zeros = tuple(Tensor(np.zeros_like(x._data)) if isinstance(x, Tensor) else None for x in args)
        self.args, self._are_watched = _watched(args, self._at_inputs)

    def leave(self, output: Any) -> Any:
        """Return the output for the caller."""
        if isinstance(output, tuple):
            return _watched(output, self._at_outputs)[0]
        return _watched((output,), self._at_outputs)[0][0]

    def _at_outputs(self, gradients: Values) -> Values:
        for hook in self._pre_hooks:
            gradients = _replaced(hook(self._module, gradients), gradients)
        self._grad_output = gradients
        if not self._are_watched:
            self._at_inputs((None,) * len(self._zeros))
        return gradients

    def _at_inputs(self, gradients: Values) -> Values:
        if self._grad_output is None:  # the gradient did not come through the outputs
            return gradients
        if self._are_watched:
            gradients = tuple(z if g is None else g for g, z in zip(gradients, self._zeros, strict=True))
        for hook in self._hooks:
            gradients = _replaced(hook(self._module, gradients, self._grad_output), gradients)
        self._grad_output = None
        return gradients


def _replaced(changed: Any, gradients: Values) -> Values:
    """Return what a backward hook returned, or the gradients that it was given if that is None."""
    if changed is None:
        return gradients
    if not isinstance(changed, tuple | list) or len(changed) != len(gradients):
        raise GraphError(f"a backward hook returns None or a tuple of {len(gradients)} gradients, not {changed!r:.60}.")
    return tuple(changed)


def _watched(values: Values, hook: Callable[[Values], Values]) -> tuple[Values, bool]:
    """Return the values, and whether any requires a gradient: then `hook` gets and returns all gradients at once.

    Each of these tensors passes through two operations. The first has all of them as operands, so that its gradient
    waits until those of all its results are known.
    """
    places = [at for at, value in enumerate(values) if isinstance(value, Tensor) and value._requires_grad]
    if not places or not is_grad_enabled():
        return values, False
    found: dict[int, np.ndarray] = {}

    def all_known(_: np.ndarray) -> list[np.ndarray | None]:
        given = tuple(Tensor(found[at]) if at in found else None for at in range(len(values)))
        found.clear()
        changed = hook(given)
        return [None if changed[at] is None else to_array(changed[at])[...] for at in places]  # the hook may hold them

    joint = record("hooked", np.zeros((), np.float32), tuple(values[at] for at in places), all_known)

    def passed(at: int) -> Tensor:
        def one_known(g: np.ndarray) -> tuple[np.ndarray]:
            found[at] = g
            return (np.zeros((), np.float32),)

        return record("hooked", values[at]._data, (joint,), one_known)

    return tuple(passed(at) if at in places else value for at, value in enumerate(values)), True
