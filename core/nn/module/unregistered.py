"""Modules and parameters in plain lists, tuples, dicts and sets, where the model does not see them.

    self.layers = []
    self.layers.append(Linear(2, 2))     # would not be trained, saved or converted

An assignment checks what a container holds at that moment. What is added later is checked when the model is traversed
next: by parameters(), state_dict(), train() and so on. Members that some module has registered are allowed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...errors import RegistrationError
from .parameter import Parameter
from .registration import Registry

CONTAINERS = (list, tuple, dict, set, frozenset)


def in_class(kind: type) -> set[str]:
    """Return the names of the class attributes that are containers, shared by all instances."""
    attributes = (item for base in kind.__mro__ for item in vars(base).items() if not item[0].startswith("__"))
    return {name for name, value in attributes if isinstance(value, CONTAINERS) and not _holds_names(value)}


def refuse_unheld(where: str, name: str, value: Any) -> None:
    """Raise RegistrationError if the container `value` of an attribute has members that no module has registered."""
    for path, member in _members(name, value, set()):
        if member._holders <= 0:
            raise _error(where, name, value, path, member)


def refuse_unheld_in(module: Registry, path: str) -> None:
    """Raise RegistrationError if a container in an attribute of `module` has members that no module has registered."""
    for name in module._containers:
        where = f"{type(module).__name__} ({path})" if path else type(module).__name__
        refuse_unheld(where, name, vars(module).get(name, getattr(type(module), name, None)))


def _holds_names(value: Any) -> bool:
    """Return True for a constant that holds nothing but strings."""
    return isinstance(value, tuple | frozenset) and all(isinstance(entry, str) for entry in value)


def _members(path: str, value: Any, seen: set[int]) -> Iterator[tuple[str, Any]]:
    """Yield the modules and parameters in a container, at any depth, each with its path: `layers[0]['a']`."""
    if not isinstance(value, CONTAINERS) or id(value) in seen:
        return
    seen.add(id(value))
    # For a long list of numbers or strings, looking at the types is enough.
    kinds = set(map(type, value.values() if isinstance(value, dict) else value))
    if not any(issubclass(kind, (Parameter, Registry, *CONTAINERS)) for kind in kinds):
        return
    entries = value.items() if isinstance(value, dict) else enumerate(value)
    for key, entry in entries:
        here = f"{path}[{key!r}]" if isinstance(value, dict | list | tuple) else path
        if isinstance(entry, Parameter | Registry):
            yield here, entry
        else:
            yield from _members(here, entry, seen)


def _error(where: str, name: str, value: Any, path: str, member: Any) -> RegistrationError:
    kinds = ["ModuleList", "ModuleDict", "ParameterList"]
    fitting = kinds.pop(2 if isinstance(member, Parameter) else isinstance(value, dict))
    return RegistrationError(
        f"{where}.{name} is a {type(value).__name__} that holds {path}, a {type(member).__name__} that no module has "
        f"registered: it would not be trained, saved or converted. Use {fitting} instead (or {kinds[0]}, "
        f"{kinds[1]}). To keep it out of the model on purpose, write object.__setattr__(self, {name!r}, ...)."
    )
