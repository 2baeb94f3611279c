"""Sequential, ModuleList, ModuleDict and ParameterList: collections whose members a model knows of."""

from __future__ import annotations

import itertools
import operator
from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from typing import Any, Self

from ...errors import did_you_mean
from ..module.module import Module
from ..module.registration import Kind, NameRefusedError, UnknownMemberError


class UnknownKeyError(UnknownMemberError, KeyError):
    """A key that a ModuleDict does not have."""

    __str__ = Exception.__str__  # KeyError would put the message in quotes


class _Numbered(Module):
    """What the counted collections have in common: the members are registered under "0", "1", ..."""

    _kind: Kind = "_modules"

    def __init__(self, members: Iterable[Any] = ()) -> None:
        super().__init__()
        self.extend(members)

    def append(self, member: Any) -> Self:
        """Return self, after adding member at the end."""
        self._add(member)
        return self

    def extend(self, members: Iterable[Any]) -> Self:
        """Return self, after adding members at the end."""
        for member in list(members):
            self._add(member)
        return self

    def _members(self) -> dict[str, Any]:
        return vars(self)[self._kind]

    def _names(self, index: int | slice) -> list[str]:
        """Return the names of the members at index, which counts from the end if negative."""
        names = list(self._members())
        if isinstance(index, slice):
            return names[index]
        position = operator.index(index)
        if not -len(names) <= position < len(names):
            raise IndexError(f"index {position} is out of range in a {type(self).__name__} of {len(names)}.")
        return [names[position]]

    def __len__(self) -> int:
        return len(self._members())

    def __iter__(self) -> Iterator[Any]:
        return iter(self._members().values())

    def __getitem__(self, index: int | slice) -> Any:
        """Return the member at index, or for a slice a collection of the same members."""
        names = self._names(index)
        if isinstance(index, slice):
            return type(self)([self._members()[name] for name in names])
        return self._members()[names[0]]

    def __setitem__(self, index: int, value: Any) -> None:
        setattr(self, self._names(index)[0], value)

    def __delitem__(self, index: int | slice) -> None:
        """Delete members; those behind them are numbered anew."""
        gone = self._names(index)
        self._refill([member for name, member in self._members().items() if name not in gone])

    def _refill(self, members: Iterable[Any]) -> None:
        for name in list(self._members()):
            self._remove(self._kind, name)
        self.extend(members)

    def _add(self, member: Any) -> None:
        name = str(len(self))
        if name in self._members():
            kind = type(self).__name__
            raise NameRefusedError(
                f"{kind} already has a member {name!r}, since a slice or a dict brought its own names; to append would "
                f"replace it. Build a new one: {kind}(*members)."
            )
        if self._kind == "_modules":
            self.add_module(name, member)
        else:
            self.register_parameter(name, member)


class Sequential(_Numbered):
    """A module that passes its input through its modules, one after the other.

    Sequential(Linear(2, 3), ReLU()) names them "0" and "1"; Sequential({"fc": Linear(2, 3)}) takes the names of a dict.
    A slice keeps the names.
    """

    def __init__(self, *modules: Module | Mapping[str, Module]) -> None:
        super().__init__()
        if len(modules) == 1 and isinstance(modules[0], Mapping):
            for name, module in modules[0].items():
                self.add_module(name, module)
        else:
            self.extend(modules)

    def __getitem__(self, index: int | slice) -> Any:
        """Return the module at index, or for a slice a Sequential of the same modules under the same names."""
        if isinstance(index, slice):
            return type(self)({name: self._modules[name] for name in self._names(index)})
        return super().__getitem__(index)

    def forward(self, x: Any) -> Any:
        for module in self._modules.values():
            x = module(x)
        return x


class ModuleList(_Numbered):
    """A list of modules. It has no forward: index it, or iterate over it, in yours."""

    def insert(self, index: int, module: Module) -> None:
        """Put module before the one at index; those behind it are numbered anew."""
        members = list(self)
        members.insert(index, module)
        self.append(module)  # refuses what is no module, before anything moves
        self._refill(members)

    def __repr__(self) -> str:
        """Return a line for each run of equal members: (0-2): 3 x Linear(...)."""
        children, position = [], 0
        for text, run in itertools.groupby(map(repr, self)):
            count = len(list(run))
            last = position + count - 1
            children.append((f"({position}): ", text) if count == 1 else (f"({position}-{last}): {count} x ", text))
            position += count
        return self._described(children)


class ModuleDict(Module):
    """A dict of modules, in the order they were added. It has no forward: use its members in yours."""

    def __init__(self, modules: Mapping[str, Module] | None = None) -> None:
        super().__init__()
        self.update(modules or {})

    def __getitem__(self, key: str) -> Any:
        if key not in self._modules:
            raise UnknownKeyError(f"{type(self).__name__} has no module {key!r}.{did_you_mean(key, self._modules)}")
        return self._modules[key]

    def __setitem__(self, key: str, module: Module) -> None:
        self.add_module(key, module)

    def __delitem__(self, key: str) -> None:
        self.pop(key)

    def __contains__(self, key: object) -> bool:
        return key in self._modules

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def keys(self) -> KeysView[str]:
        """Return the keys, as a dict does."""
        return self._modules.keys()

    def values(self) -> ValuesView[Any]:
        """Return the modules, as a dict does."""
        return self._modules.values()

    def items(self) -> ItemsView[str, Any]:
        """Return the pairs of key and module, as a dict does."""
        return self._modules.items()

    def update(self, modules: Mapping[str, Module]) -> None:
        """Add modules, in place of those with the same keys."""
        for key, module in modules.items():
            self.add_module(key, module)

    def pop(self, key: str) -> Any:
        """Return the module of this key, after taking it out. Raises UnknownKeyError if there is none."""
        module = self[key]
        self._remove("_modules", key)
        return module


class ParameterList(_Numbered):
    """A list of Parameters."""

    _kind: Kind = "_parameters"

    def __repr__(self) -> str:
        sizes = ["x".join(map(str, parameter.shape)) for parameter in self]
        lines = [f"Parameter containing: [{p.dtype} of size {size}]" for p, size in zip(self, sizes, strict=True)]
        return self._described([(f"  ({position}): ", line) for position, line in enumerate(lines)])
