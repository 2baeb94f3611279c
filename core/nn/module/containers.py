"""Sequential, and the lists and dicts of modules and of parameters: containers that register their members."""

from __future__ import annotations

import itertools
import operator
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import Any, Self

from ...autograd.tensor import Tensor
from ...errors import ArgumentError, ModuleError, RegistrationError, did_you_mean
from .module import Module
from .parameter import Parameter
from .registration import Kind, NameRefusedError, UnknownMemberError


class UnknownKeyError(UnknownMemberError, KeyError):
    """A key that a ModuleDict or ParameterDict does not have."""


class MemberIndexError(ModuleError, IndexError):
    """An index that is out of range for a container."""


class _Container(Module):
    """A module whose members are of one kind: modules, or parameters."""

    _kind: Kind = "_modules"

    def __len__(self) -> int:
        return len(self._members())

    def clear(self) -> None:
        """Remove all members."""
        self._members().clear()

    def __repr__(self) -> str:
        if self._kind == "_modules":
            return super().__repr__()
        sizes = [(name, p, "x".join(map(str, p.shape))) for name, p in self._members().items()]
        lines = [(f"  ({name}): ", f"Parameter containing: [{p.dtype} of size {size}]") for name, p, size in sizes]
        return self._described(lines)

    def _members(self) -> dict[str, Any]:
        return vars(self)[self._kind]

    def _as_member(self, member: Any) -> Any:
        """Return what is registered for a member: a Parameter for a Tensor."""
        return Parameter(member) if isinstance(member, Tensor) and not isinstance(member, Parameter) else member


class _Numbered(_Container):
    """A container whose members are registered as "0", "1", and so on."""

    def __init__(self, members: Iterable[Any] | None = None) -> None:
        super().__init__()
        self.extend(() if members is None else members)

    def append(self, member: Any) -> Self:
        """Add a member at the end and return self."""
        return self.extend([member])

    def extend(self, members: Iterable[Any]) -> Self:
        """Add members at the end and return self."""
        if not isinstance(members, Iterable) or isinstance(members, Tensor):
            kind = type(self).__name__
            raise RegistrationError(f"{kind} takes an iterable of members, not a single {type(members).__name__}.")
        new = list(members)
        self._register(self._kind, self._numbered(new, len(self)))
        return self

    def insert(self, index: int, member: Any) -> Self:
        """Insert a member before the one at `index`, renumber the members after it, and return self."""
        if index == len(self):
            return self.append(member)
        self._names(index)  # checks it
        members = list(self)
        members.insert(index, member)
        self._refill(members)
        return self

    def pop(self, index: int | slice) -> Any:
        """Remove and return the member at `index`, or for a slice a container of the members."""
        member = self[index]
        del self[index]
        return member

    def __iadd__(self, members: Iterable[Any]) -> Self:
        return self.extend(members)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._members().values())

    def __getitem__(self, index: int | slice) -> Any:
        """Return the member at `index`, or for a slice a container of the same members."""
        names = self._names(index)
        if isinstance(index, slice):
            return type(self)([self._members()[name] for name in names])
        return self._members()[names[0]]

    def __setitem__(self, index: int, value: Any) -> None:
        if isinstance(index, slice):
            raise RegistrationError(
                f"{type(self).__name__} does not support assignment to a slice, as in PyTorch. Assign the members one "
                f"by one, or build a new {type(self).__name__}."
            )
        setattr(self, self._names(index)[0], self._as_member(value))

    def __delitem__(self, index: int | slice) -> None:
        """Delete the members at `index` and renumber the ones after them."""
        gone = self._names(index)
        self._refill([member for name, member in self._members().items() if name not in gone])

    def _names(self, index: int | slice) -> list[str]:
        """Return the names of the members at `index`. A negative index counts from the end."""
        names = list(self._members())
        if isinstance(index, slice):
            return names[index]
        position = operator.index(index)
        if not -len(names) <= position < len(names):
            raise MemberIndexError(f"index {position} is out of range: {type(self).__name__} has {len(names)} members.")
        return [names[position]]

    def _refill(self, members: list[Any]) -> None:
        """Replace all members."""
        self._register(self._kind, self._numbered(members, 0), gone=tuple(self._members()))

    def _numbered(self, members: list[Any], start: int) -> dict[str, Any]:
        """Return new members by name."""
        named = {str(start + position): self._as_member(member) for position, member in enumerate(members)}
        taken = next((name for name in named if start and name in self._members()), None)
        if taken is not None:
            kind = type(self).__name__
            raise NameRefusedError(
                f"{kind} already has a member {taken!r}, because it kept the names of a slice or a dict; appending "
                f"would replace it. Build a new one: {kind}(*members)."
            )
        return named


class Sequential(_Numbered):
    """A module that passes its input through its modules, one after the other.

    Sequential(Linear(2, 3), ReLU()) names them "0" and "1". Sequential({"fc": Linear(2, 3)}) uses the names of a dict.
    A slice keeps the names. `+` and `*` make a new Sequential of the same modules.
    """

    def __init__(self, *modules: Module | Mapping[str, Module]) -> None:
        super().__init__()
        if len(modules) == 1 and isinstance(modules[0], Mapping):
            self._register(self._kind, modules[0])
        else:
            self.extend(modules)

    def __getitem__(self, index: int | slice) -> Any:
        """Return the module at `index`, or for a slice a Sequential of the same modules under the same names."""
        if isinstance(index, slice):
            return type(self)({name: self._modules[name] for name in self._names(index)})
        return super().__getitem__(index)

    def __add__(self, other: Sequential) -> Sequential:
        return Sequential(*self, *_require_sequential(other))

    def __iadd__(self, members: Iterable[Any]) -> Self:
        return self.extend(_require_sequential(members))

    def __mul__(self, count: int) -> Sequential:
        return Sequential(*self).__imul__(count)

    __rmul__ = __mul__

    def __imul__(self, count: int) -> Self:
        if not isinstance(count, int):
            return NotImplemented
        if count < 1:
            raise ArgumentError(f"a Sequential can be repeated one or more times, not {count} times.")
        return self.extend(list(self) * (count - 1))

    def forward(self, x: Any) -> Any:
        for module in self._modules.values():
            x = module(x)
        return x


def _require_sequential(other: Any) -> Sequential:
    if not isinstance(other, Sequential):
        raise ArgumentError(f"only a Sequential can be added to a Sequential, not {type(other).__name__}.")
    return other


class ModuleList(_Numbered):
    """A list of modules. It has no forward: index it or iterate over it in your own. `+` makes a new ModuleList."""

    def __add__(self, other: Iterable[Module]) -> ModuleList:
        return ModuleList([*self, *other])

    def __repr__(self) -> str:
        """Return torch's repr, with one line for each run of equal members: (0-2): 3 x Linear(...)."""
        children, position = [], 0
        for text, run in itertools.groupby(map(repr, self)):
            count = len(list(run))
            last = position + count - 1
            children.append((f"({position}): ", text) if count == 1 else (f"({position}-{last}): {count} x ", text))
            position += count
        return self._described(children)


class _Named(_Container):
    """A container whose members are registered under keys, in the order they were added."""

    def __init__(self, members: Mapping[str, Any] | Iterable[tuple[str, Any]] | None = None) -> None:
        super().__init__()
        self.update({} if members is None else members)

    def __getitem__(self, key: str) -> Any:
        if key not in self._members():
            word = self._kind[1:-1]
            raise UnknownKeyError(f"{type(self).__name__} has no {word} {key!r}.{did_you_mean(key, self._members())}")
        return self._members()[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self._register(self._kind, {key: self._as_member(value)})

    def __delitem__(self, key: str) -> None:
        self.pop(key)

    def __contains__(self, key: object) -> bool:
        return key in self._members()

    def __iter__(self) -> Iterator[str]:
        return iter(self._members())

    def __reversed__(self) -> Iterator[str]:
        return reversed(self._members())

    # As in a dict.
    keys, values, items = MutableMapping.keys, MutableMapping.values, MutableMapping.items
    get = MutableMapping.get

    def setdefault(self, key: str, default: Any = None) -> Any:
        """Return the member with this key, after adding the default if there is none."""
        if key not in self:
            self[key] = default
        return self[key]

    def pop(self, key: str) -> Any:
        """Remove and return the member with this key. Raises UnknownKeyError if there is none."""
        member = self[key]
        del self._members()[key]
        return member

    def popitem(self) -> tuple[str, Any]:
        """Remove and return the last (key, member)."""
        return self._members().popitem()

    def update(self, members: Any) -> None:
        """Add members, replacing those with the same keys. members: a mapping, or pairs of key and member."""
        pairs = members.items() if isinstance(members, Mapping | _Named) else members
        self._register(self._kind, {key: self._as_member(member) for key, member in pairs})


class ModuleDict(_Named):
    """A dict of modules, in the order they were added. It has no forward: use its members in your own."""


class ParameterList(_Numbered):
    """A list of Parameters. A Tensor that is added becomes a Parameter of the same memory."""

    _kind: Kind = "_parameters"


class ParameterDict(_Named):
    """A dict of Parameters. A Tensor that is added becomes a Parameter of the same memory. It holds nothing else.

    As in torch, the parameters of a plain dict are added in the order of their sorted keys.
    """

    _kind: Kind = "_parameters"

    def update(self, members: Any) -> None:
        """Add parameters, replacing those with the same keys. members: a mapping, or pairs of key and parameter."""
        plain = isinstance(members, Mapping) and not isinstance(members, OrderedDict)
        super().update(sorted(members.items()) if plain else members)

    def copy(self) -> ParameterDict:
        """Return a new ParameterDict of the same parameters."""
        return ParameterDict(self.items())

    def fromkeys(self, keys: Iterable[str], default: Any = None) -> ParameterDict:
        """Return a new ParameterDict with these keys and one parameter."""
        return ParameterDict((key, default) for key in keys)

    def __or__(self, other: Any) -> ParameterDict:
        return self.copy().__ior__(other)

    def __ior__(self, other: Any) -> Self:
        self.update(other)
        return self
