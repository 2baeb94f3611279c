"""Find the modules and parameters in plain lists, tuples, dicts and sets, of which a model would not know.

    self.layers = []
    self.layers.append(Linear(2, 2))     # would not be trained, saved or moved

At the assignment only a container that is already filled can be seen; what is put into it later is seen when the model
is next traversed: by parameters(), state_dict(), train() and so on. One that holds what the model knows anyway is fine.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from ...errors import RegistrationError
from . import ownership
from .parameter import Parameter
from .registration import Registry

CONTAINERS = (list, tuple, dict, set, frozenset)


def in_class(kind: type) -> set[str]:
    """Return the names of the class attributes, shared by all instances, that are containers."""
    attributes = (item for base in kind.__mro__ for item in vars(base).items())
    return {name for name, value in attributes if isinstance(value, CONTAINERS) and not name.startswith("__")}


def refuse_unheld(owner: Registry, name: str, value: Any) -> None:
    """Raise RegistrationError if value, about to become an attribute, contains what no module holds."""
    for path, member in _members(name, value, set()):
        if not ownership.roots(member):
            raise _error(type(owner).__name__, name, value, path, member)


def refuse_strangers(root: Registry, tree: Iterable[tuple[str, Registry]]) -> None:
    """Raise RegistrationError if a container in some module of root's tree holds what is not part of the model."""
    for prefix, module in tree:
        for name in module._containers:
            value = vars(module).get(name, getattr(type(module), name, None))
            for path, member in _members(name, value, set()):
                if not ownership.same_model(member, root):
                    where = f"{type(module).__name__} ({prefix})" if prefix else type(module).__name__
                    raise _error(where, name, value, path, member)


def _members(path: str, value: Any, seen: set[int]) -> Iterator[tuple[str, Any]]:
    """Yield the modules and parameters in a container, however deep, each with its path: `layers[0]['a']`."""
    if not isinstance(value, CONTAINERS) or id(value) in seen:
        return
    seen.add(id(value))
    # A long list of plain numbers or words costs no more than looking at the types in it.
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
    fitting = "ModuleDict" if isinstance(value, dict) else "ModuleList"
    if isinstance(member, Parameter):
        fitting = "ParameterList"
    return RegistrationError(
        f"{where}.{name} is a {type(value).__name__} that holds {path}, a {type(member).__name__} the model does not "
        f"know of: it would not be trained, saved or moved. Use {fitting} for it (there are ModuleList, ModuleDict and "
        f"ParameterList). To keep it out of the model on purpose, write object.__setattr__(self, {name!r}, ...)."
    )
