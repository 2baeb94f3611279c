"""A checkpoint with changed names and tensors, whose other tensors are still those of the file.

Names that share memory are a *group*. A group of which nothing is dropped or replaced keeps its structure, and only its
names change. What is left of any other group is packed again, as a save of these arrays would: another name may now be
the one that is stored, or the memory may be stored in part.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from itertools import count
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np

from ...errors import ArgumentError, StateError, UnknownTensorError, on_one_line
from ...reading.lazy import Checkpoint, LazyTensor
from ...reading.reader import Reader
from ...state.deferred import Deferred
from ...state.manifest import specs_of
from ...state.sharing import STORAGE, Alias, Packed, Union, pack, unpack
from ...state.validation import EXTRA, checked_state

# More than that, and a small file would make a huge one.
_MOST_GROWTH, _SMALL_BYTES = 16, 1 << 20


class Edits(NamedTuple):
    """The changes of an edit, by the names in the file."""

    rename: Mapping[str, str]
    drop: Mapping[str, None]
    replace: Mapping[str, Any]

    @classmethod
    def checked(cls, rename: Mapping[str, str] | None, drop: Iterable[str], replace: Mapping[str, Any] | None) -> Edits:
        """Return the changes. Raises ArgumentError if one of them is of another type."""
        for what, names in (("rename", rename), ("replace", replace)):
            if not isinstance(names, Mapping | None):
                raise ArgumentError(f"{what} is a dict by the names in the file, not {type(names).__name__}.")
        if isinstance(drop, str | bytes) or not isinstance(drop, Iterable):
            raise ArgumentError(f"drop is a list of names, such as [{drop!r:.60}], not {type(drop).__name__}.")
        rename, drop, replace = dict(rename or {}), list(drop), dict(replace or {})
        for name in (*rename, *rename.values(), *drop, *replace):
            if not isinstance(name, str):
                raise ArgumentError(f"the name of a tensor is text, not {type(name).__name__} ({name!r:.60}).")
        return cls(rename, dict.fromkeys(drop), replace)

    def problems(self, checkpoint: Checkpoint) -> Iterator[str]:
        """Yield a line for each change that contradicts another one, or that would untie a name."""
        for name in [name for name in checkpoint if name in self.drop]:
            for what, names in (("renamed", self.rename), ("replaced", self.replace)):
                if name in names:
                    yield f"{name!r} is dropped and {what}: do one of both"
        ties = checkpoint.ties
        groups: dict[str, list[str]] = {}
        for name in checkpoint:
            groups.setdefault(ties.get(name, name), []).append(name)
        after: dict[str, str] = {}
        for name in [name for name in checkpoint if name not in self.drop]:
            new = self.rename.get(name, name)
            if new in after:
                yield f"{after[new]!r} and {name!r} would both be {new!r}: rename or drop one of them"
            after[new] = name
        for name in [name for name in checkpoint if name in self.replace]:
            left = [
                other for other in groups[ties.get(name, name)] if other not in self.replace and other not in self.drop
            ]
            if left:
                others = ", ".join(map(repr, left))
                yield f"{name!r} shares memory with {others}: replace all of them, with one array to keep them tied"


class Edited(Checkpoint):
    """An open checkpoint with changes.

    Raises UnknownTensorError for names that are not in the file, ArgumentError listing all other problems.
    """

    def __init__(self, reader: Reader, edits: Edits) -> None:
        super().__init__(reader)
        self._edits, self._left_out = edits, edits.drop
        unknown = [name for name in (*edits.rename, *edits.drop, *edits.replace) if name not in self]
        if unknown:
            first, *others = dict.fromkeys(unknown)
            raise UnknownTensorError(first, self.name, self, *others)
        problems = list(edits.problems(self))
        if problems:
            lines = "".join(f"\n  {on_one_line(line)}" for line in problems)
            raise ArgumentError(f"{self.name} cannot be edited like this; nothing was changed.{lines}")

    def renamed(self, name: str) -> str:
        """Return the new name for a name in the file."""
        return self._edits.rename.get(name, name)

    def packed(self) -> Packed:
        """Return the changed state."""
        packed, replace = super().packed(), self._edits.replace
        names = [name for name in packed.names if name not in self._edits.drop]
        arrays, extra = self._checked(packed, names)
        replaced = [name for name in names if name in replace and self.renamed(name) in arrays]
        parts = [pack({name: arrays[self.renamed(name)] for name in replaced}, {}, replaced)]
        groups, left = _groups_of(packed, packed.names), _groups_of(packed, set(names) - replace.keys())
        parts += [self._part(packed, kept, left[kept], groups[kept]) for kept in groups if kept in left]
        return self._joined(parts, [self.renamed(name) for name in names], extra)

    def _checked(self, packed: Packed, names: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Check the new names and values as those of any state. Return the new arrays and all extra values, by name.

        Only foreign files have extra values of other names than `_extra_state`.
        """
        given, tensor = {**packed.extra, **self._edits.replace}, np.empty(0)
        free = {name for name in packed.extra if name.rpartition(".")[2] != EXTRA}
        values = {self.renamed(name): tensor if name in free else given.get(name, tensor) for name in names}
        arrays, extra, _ = checked_state(values)
        for name in free.intersection(names):
            new, value = self.renamed(name), given[name]
            if name in self._edits.replace:
                found, _, _ = checked_state({EXTRA: value})
                if found:
                    arrays[new] = found[EXTRA]
                    continue
            del arrays[new]
            extra[new] = value
        return arrays, {name: extra[name] for name in values if name in extra}

    def _part(self, packed: Packed, kept: str, names: list[str], before: list[str]) -> Packed:
        """Return what is left of a group. names, before: those of its members that are left, and all of them."""
        array = packed.stored[kept]
        group = Packed(names, {kept: self._as_it_is(array, array) or array})
        group.aliases = {name: packed.aliases[name] for name in names if name in packed.aliases}
        group.layouts = {kept: packed.layouts[kept]} if kept in packed.layouts else {}
        group.storages = [kept] if kept in packed.storages else []
        if names == before:
            return group
        if any(alias.view for alias in group.aliases.values()):
            return self._packed_again(group, kept, array)
        first, *others = names  # the stored name and ties of it
        return Packed(names, {first: group.stored[kept]}, {name: Alias(first) for name in others})

    def _as_it_is(self, array: np.ndarray | Deferred, like: np.ndarray | Deferred) -> Deferred | None:
        """Return the bytes of a stored tensor as an array like another one, or None if they cannot be copied."""
        return self._reader.unchanged(array.name, like.dtype, like.shape) if isinstance(array, LazyTensor) else None

    def _packed_again(self, group: Packed, kept: str, stored: np.ndarray | Deferred) -> Packed:
        """Pack the arrays of a group from which one is missing. Their values are read later."""
        order = group.layouts.get(kept, tuple(range(len(stored.shape))))
        memory = np.empty([stored.shape[axis] for axis in order], stored.dtype)  # only its addresses are used
        whole = memory.transpose([order.index(axis) for axis in range(memory.ndim)])

        def packed_from(array: np.ndarray, stored_as: Callable[[Union], np.ndarray] = Union.stored) -> Packed:
            return pack(unpack(dataclasses.replace(group, stored={kept: array})), {}, group.names, stored_as)

        def later(name: str, array: np.ndarray) -> Deferred:
            if _has_bytes_of(whole, array) and (found := self._as_it_is(stored, array)) is not None:
                return found
            return Deferred(array.shape, array.dtype, lambda: np.asarray(packed_from(np.asarray(stored)).stored[name]))

        again = packed_from(whole, lambda union: np.empty(-(-(union.high - union.low) // 8), "<u8"))
        size_bytes = sum(spec.size_bytes for spec in specs_of(again.stored).values())
        if size_bytes > _MOST_GROWTH * whole.nbytes + _SMALL_BYTES:
            names = ", ".join(map(repr, group.names))
            raise StateError(
                f"{names} would take {size_bytes:,} bytes without the names that they share memory with, which take "
                f"{whole.nbytes:,}: they repeat their elements. Drop them too, or keep all."
            )
        again.stored = {name: later(name, np.asarray(array)) for name, array in again.stored.items()}
        return again

    def _joined(self, parts: list[Packed], names: list[str], extra: dict[str, Any]) -> Packed:
        """Return the state made of parts, under the new names."""
        new, place = self.renamed, {name: number for number, name in enumerate(names)}
        joined = Packed(names, {}, extra=extra, memory=[part.memory for part in parts])
        storages: list[tuple[int, np.ndarray | Deferred, dict[str, Alias]]] = []
        for part in parts:
            for name, array in part.stored.items():
                if name not in part.storages:
                    joined.stored[new(name)] = array
                    continue
                members = {new(member): alias for member, alias in part.aliases.items() if alias.kept == name}
                storages.append((min(map(place.__getitem__, members)), array, members))
            joined.aliases |= {new(name): Alias(new(kept), view) for name, (kept, view) in part.aliases.items()}
            joined.layouts |= {new(name): order for name, order in part.layouts.items()}
        joined.stored = {name: joined.stored[name] for name in names if name in joined.stored}
        free = filter(lambda name: name not in place, map(STORAGE.format, count()))
        for name, (_, array, members) in zip(free, sorted(storages, key=itemgetter(0)), strict=False):
            joined.storages.append(name)
            joined.stored[name] = array
            joined.aliases |= {member: Alias(name, view) for member, (_, view) in members.items()}
        joined.aliases = {name: joined.aliases[name] for name in names if name in joined.aliases}
        joined.layouts = {name: joined.layouts[name] for name in names if name in joined.layouts}
        return joined


def _groups_of(packed: Packed, names: Container[str]) -> dict[str, list[str]]:
    """Return those of the names that share the memory of each stored array, in order."""
    groups: dict[str, list[str]] = {}
    for name in packed.names:
        if name in names and name not in packed.extra:
            groups.setdefault(packed.aliases[name].kept if name in packed.aliases else name, []).append(name)
    return groups


def _has_bytes_of(whole: np.ndarray, array: np.ndarray) -> bool:
    """Return True if a file holds the same bytes for two arrays that share memory."""
    if array.__array_interface__["data"] != whole.__array_interface__["data"]:
        return False
    if array.flags.c_contiguous and whole.flags.c_contiguous:
        return array.nbytes == whole.nbytes
    return (array.dtype, array.shape, array.strides) == (whole.dtype, whole.shape, whole.strides)
