"""Snapshot: the contents of objects, to be restored in the same memory by one C call."""

from __future__ import annotations

import random
import types
from collections import OrderedDict, deque
from collections.abc import Iterable
from typing import Any

import numpy as np

_PACKAGE = __name__.rpartition(".commit")[0]
# Built-in containers, each with the method that fills it.
_CONTAINERS: dict[Any, Any] = {
    OrderedDict: OrderedDict.update,
    dict: dict.update,
    list: list.extend,
    set: set.update,
    deque: deque.extend,
}


class Snapshot:
    """A record of arrays, generators, containers, and the attributes of objects, to restore them later.

    things: objects to record with their attributes, and with everything below: tensors, modules, optimizers and other
    objects of this package, arrays, generators, and containers of these. It does not look into other objects. Arrays
    are copied, so it takes as much memory as they do.
    leave_out: objects below them that are not recorded.
    steps: the steps that restore everything, for `steps.run`.
    """

    def __init__(self, *things: Any, leave_out: Iterable[Any] = ()) -> None:
        self._seen: dict[int, Any] = {
            id(thing): thing for thing in leave_out
        }  # keeps them alive, so that no id is reused
        self.steps: list[tuple[Any, ...]] = []
        self.keep(*things)

    def keep(self, *things: Any) -> None:
        """Record things, unless they were recorded before."""
        roots = {id(thing) for thing in things}
        pending = list(things)
        while pending:
            thing = pending.pop()
            if id(thing) not in self._seen:
                self._seen[id(thing)] = thing
                pending += self._record(thing, id(thing) in roots)
        # Generators last, because their setters can be interrupted: see Commit.set_generator.
        self.steps.sort(key=lambda step: step[0] is setattr)

    def _record(self, thing: Any, is_root: bool) -> list[Any]:
        """Record a thing without its contents, and return the contents."""
        if isinstance(thing, np.ndarray):
            if thing.flags.writeable:
                self.steps.append((np.ndarray.__setitem__, thing, ..., thing.copy()))
        elif _is_generator(thing):
            self.steps += steps_to_restore(thing)
        elif isinstance(thing, tuple):
            return list(thing)
        elif isinstance(thing, (*_CONTAINERS,)):
            return self._record_container(thing)
        elif isinstance(thing, types.FunctionType):
            held = [cell.cell_contents for cell in thing.__closure__ or () if _is_filled(cell)]
            # A tensor in a closure may be a whole data set, and a loss has no reason to change it.
            ours = [value for value in held if _is_ours(value) and not hasattr(value, "__array__")]
            return ours + [value for value in held if _is_generator(value)]
        elif is_root or _is_ours(thing):
            return self._record_attributes(thing)
        return []

    def _record_container(self, container: Any) -> list[Any]:
        # The methods of the built-in class: those of a subclass may be Python code, such as that of a module's members.
        kind = next(kind for kind in _CONTAINERS if isinstance(container, kind))
        contents = kind(container)
        self.steps += [(kind.clear, container), (_CONTAINERS[kind], container, contents)]
        return list(contents.values() if isinstance(contents, dict) else contents)

    def _record_attributes(self, thing: Any) -> list[Any]:
        slots = [name for kind in type(thing).__mro__ for name in _slots(kind) if hasattr(thing, name)]
        values = {name: getattr(thing, name) for name in slots}
        self.steps += [(object.__setattr__, thing, name, value) for name, value in values.items()]
        return [*values.values(), *([vars(thing)] if hasattr(thing, "__dict__") else [])]


def steps_to_restore(generator: Any) -> list[tuple[Any, ...]]:
    """Return the steps that restore the current state of a random generator of NumPy or Python."""
    if isinstance(generator, np.random.Generator):
        return [(setattr, generator.bit_generator, "state", generator.bit_generator.state)]
    if isinstance(generator, np.random.RandomState):
        return [(generator.set_state, generator.get_state())]
    if isinstance(generator, random.SystemRandom):
        return []  # it has no state
    _, position, gauss_next = generator.getstate()
    # Random.setstate is Python code; the class below it has the C function.
    return [
        (random.Random.__base__.setstate, generator, position),  # pyright: ignore[reportOptionalMemberAccess]
        (setattr, generator, "gauss_next", gauss_next),
    ]


def _is_generator(thing: Any) -> bool:
    # Here, because NumPy imports numpy.random lazily, and loading a model needs none of it.
    return isinstance(thing, np.random.Generator | np.random.RandomState | random.Random)


def _is_ours(thing: Any) -> bool:
    return any(kind.__module__.startswith(_PACKAGE) for kind in type(thing).__mro__)


def _slots(kind: type) -> list[str]:
    slots = vars(kind).get("__slots__", ())
    return [name for name in ((slots,) if isinstance(slots, str) else slots) if name not in ("__weakref__", "__dict__")]


def _is_filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False
