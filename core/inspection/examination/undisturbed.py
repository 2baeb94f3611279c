"""Runs that leave no trace: what they may change is saved before and restored after, in the same memory."""

from __future__ import annotations

import random
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ...autograd.tensor import Tensor
from ...nn.module.module import Module
from ...nn.module.registration import Members
from ...optim.optimizer import Optimizer
from ...random import undisturbed_generator

_PACKAGE = Module.__module__.rpartition(".")[0]
_GENERATORS = (np.random.Generator, np.random.RandomState, random.Random)


class Memory:
    """A record of arrays, tensors, modules, optimizers, generators, and containers of these, to restore them later.

    It does not look into other objects. Arrays are copied, so it takes as much memory as they do.
    """

    def __init__(self) -> None:
        self._seen: dict[int, Any] = {}  # keeps them alive, so that no id is reused
        self._undo: list[Callable[[], None]] = []

    def keep(self, *things: Any) -> None:
        """Save the current state of things, unless they were saved before."""
        pending = list(things)
        while pending:
            thing = pending.pop()
            if id(thing) not in self._seen:
                self._seen[id(thing)] = thing
                pending += self._remember(thing)

    def restore(self) -> None:
        """Restore everything."""
        for undo in self._undo:
            undo()

    def _remember(self, thing: Any) -> list[Any]:
        """Save how to restore a thing itself, and return what it contains."""
        if isinstance(thing, np.ndarray):
            self._undo += [_array(thing)] if thing.flags.writeable else []
        elif isinstance(thing, _GENERATORS):
            self._undo.append(_generator(thing))
        elif isinstance(thing, tuple):
            return list(thing)
        elif isinstance(thing, list | dict | set):
            self._undo.append(_container(thing))
            return list(thing.values()) if isinstance(thing, dict) else list(thing)
        elif isinstance(thing, types.FunctionType):
            # An array in a closure may be a whole data set, and a loss has no reason to change it.
            held = [cell.cell_contents for cell in thing.__closure__ or () if _is_filled(cell)]
            return [value for value in held if isinstance(value, (Module, Optimizer, *_GENERATORS))]
        elif isinstance(thing, Module | Optimizer | Tensor) or type(thing).__module__.startswith(_PACKAGE):
            return self._remember_attributes(thing)
        return []

    def _remember_attributes(self, thing: Any) -> list[Any]:
        slots = [name for kind in type(thing).__mro__ for name in _slots(kind) if hasattr(thing, name)]
        values = {name: getattr(thing, name) for name in slots}

        def undo() -> None:
            for name, value in values.items():
                object.__setattr__(thing, name, value)

        self._undo.append(undo)
        if not hasattr(thing, "__dict__"):
            return list(values.values())
        return [*values.values(), vars(thing)]


def _slots(kind: type) -> list[str]:
    slots = vars(kind).get("__slots__", ())
    return [name for name in ((slots,) if isinstance(slots, str) else slots) if name not in ("__weakref__", "__dict__")]


def _is_filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False


def _array(array: np.ndarray) -> Callable[[], None]:
    values = array.copy()

    def undo() -> None:
        array[...] = values

    return undo


def _generator(generator: Any) -> Callable[[], None]:
    if isinstance(generator, np.random.Generator):
        state = generator.bit_generator.state
        return lambda: setattr(generator.bit_generator, "state", state)
    if isinstance(generator, random.Random):
        position = generator.getstate()
        return lambda: generator.setstate(position)
    legacy = generator.get_state()
    return lambda: generator.set_state(legacy)


def _container(container: Any) -> Callable[[], None]:
    contents = container.copy()

    def undo() -> None:
        if isinstance(container, Members):  # without writing to the attributes, which are restored separately
            dict.clear(container)
            dict.update(container, contents)
            return
        container.clear()
        (container.extend if isinstance(container, list) else container.update)(contents)

    return undo


@contextmanager
def undisturbed(*things: Any) -> Iterator[Memory]:
    """Yield a Memory of things. At the end, restore everything in it and all shared random generators."""
    memory = Memory()
    memory.keep(*things)
    # A forward may draw from these generators; nothing here does.
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        with undisturbed_generator():
            yield memory
    finally:
        memory.restore()
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002
