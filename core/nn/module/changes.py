"""Changes: registered members that are put and removed together, see commit/steps.py.

A member is in a collection, in the attributes of its module, and in the count of the names that hold it. An interrupt
must not come between these.
"""

from __future__ import annotations

import operator
import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

from ...autograd.tensor import Tensor
from ...commit.steps import Step, run
from .parameter import Parameter

if TYPE_CHECKING:
    from .registration import Registry

Kind = Literal["_parameters", "_buffers", "_modules"]

_set_holders = vars(Parameter)["_holders"].__set__


class Changes:
    """Members to put into modules or to remove from them. Nothing changes until `make`.

    The names and kinds must have been checked. A name may be removed and then put, in this order.
    """

    def __init__(self) -> None:
        self._steps: list[Step] = []
        self._held: dict[int, tuple[Any, int]] = {}  # by id: a module or parameter, and the change of its names
        self._gone: set[tuple[int, str, str]] = set()
        self._kept: list[Any] = []  # what is replaced must not be freed, and run its finalizers, between the steps

    def put(self, module: Registry, kind: Kind, name: str, value: Any) -> None:
        """Register value under a name, replacing what the collection has there."""
        attributes = vars(module)
        before = None if (id(module), kind, name) in self._gone else attributes[kind].get(name)
        self._kept += (before, attributes.get(name))
        self._steps += [(dict.__setitem__, attributes[kind], name, value), (operator.setitem, attributes, name, value)]
        if before is not value:
            self._count(kind, value, 1)
        if before is not value and before is not None:
            self._count(kind, before, -1)
            self._note_replaced(module, name, before)

    def remove(self, module: Registry, kind: Kind, name: str) -> None:
        """Remove the member that a collection has under a name."""
        attributes = vars(module)
        before = attributes[kind][name]
        self._gone.add((id(module), kind, name))
        self._kept.append(before)
        self._steps.append((dict.pop, attributes[kind], name, None))
        if attributes.get(name) is before:
            self.remove_plain(module, name)
        self._steps.append((set.discard, module._non_persistent_buffers_set, name))
        self._count(kind, before, -1)
        if kind == "_modules":
            self._note_replaced(module, name, before)
        else:
            # A parameter that is deleted first is untied on purpose.
            self._steps.append((dict.pop, module._replaced, name, None))

    def remove_plain(self, module: Registry, name: str) -> None:
        """Remove an attribute, but no registered member."""
        self._kept.append(vars(module).get(name))
        self._steps.append((dict.pop, vars(module), name, None))

    def persist(self, module: Registry, name: str, persistent: bool) -> None:
        """Make a buffer persistent or not."""
        change = set.discard if persistent else set.add
        self._steps.append((change, module._non_persistent_buffers_set, name))

    def steps(self) -> list[Step]:
        """Return the steps that make the changes. Nothing else may register members before they have run."""
        return [*self._steps, *(_step_to_count(held, change) for held, change in self._held.values() if change)]

    def make(self) -> None:
        """Make the changes."""
        run(self.steps())

    def _count(self, kind: Kind, held: Any, change: int) -> None:
        if isinstance(held, Parameter) or (kind == "_modules" and held is not None):
            self._held[id(held)] = (held, self._held.get(id(held), (held, 0))[1] + change)

    def _note_replaced(self, module: Registry, name: str, before: Any) -> None:
        """Remember for the doctor the parameters that a name used to hold, without keeping them alive."""
        gone = list(_parameters_in(before))
        if gone:
            alive = [reference for reference in module._replaced.get(name, ()) if reference() is not None]
            references = alive + [weakref.ref(parameter) for parameter in gone]
            self._steps.append((operator.setitem, module._replaced, name, references))


def _step_to_count(held: Any, change: int) -> Step:
    """Return the step that changes the number of names under which modules hold a module or a parameter."""
    if isinstance(held, Parameter):
        return _set_holders, held, held._holders + change
    return operator.setitem, vars(held), "_holders", vars(held).get("_holders", 0) + change


def _parameters_in(before: Any) -> Iterator[Parameter]:
    """Yield the parameter itself, or those of a module, each followed by the base that it is a view of."""
    if isinstance(before, Parameter):
        yield from (before,) if before.base is None else (before, before.base)
    elif before is not None and not isinstance(before, Tensor):
        for _, module in before._walk("", set()):
            for parameter in module._parameters.values():
                yield from _parameters_in(parameter)
