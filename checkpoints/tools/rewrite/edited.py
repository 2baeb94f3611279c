"""A checkpoint with changed names and tensors, whose other tensors are still those of the file.

Names that share memory are a *group*. A group of which nothing is dropped or replaced keeps its structure, and only its
names change. What is left of any other group is packed again, as a save of these arrays would: another name may now be
the one that is stored, or the memory may be stored in part.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np

from ...errors import ArgumentError, StateError, UnknownTensorError, on_one_line
from ...reading.lazy import Checkpoint, LazyTensor
from ...reading.reader import Reader
from ...state.deferred import Deferred
from ...state.manifest import specs_of
from ...state.sharing import Alias, Packed, Union, free_storages, pack, unpack_group
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

    def renamed(self, name: str) -> str:
        """Return the new name for a name in the file."""
        return self.rename.get(name, name)


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
        self._before = before = super().packed()
        self._names = [name for name in before.names if name not in edits.drop]
        self._groups = _groups_of(before, set(before.names))
        self._left = _groups_of(before, set(self._names) - edits.replace.keys())
        problems = list(self._problems())
        if problems:
            lines = "".join(f"\n  {on_one_line(line)}" for line in problems)
            raise ArgumentError(f"{self.name} cannot be edited like this; nothing was changed.{lines}")

    def _problems(self) -> Iterator[str]:
        """Yield a line for each change that contradicts another one, or that would untie a name."""
        edits = self._edits
        for name in [name for name in self if name in edits.drop]:
            for what, names in (("renamed", edits.rename), ("replaced", edits.replace)):
                if name in names:
                    yield f"{name!r} is dropped and {what}: do one of both"
        after: dict[str, str] = {}
        for name in self._names:
            new = edits.renamed(name)
            if new in after:
                yield f"{after[new]!r} and {name!r} would both be {new!r}: rename or drop one of them"
            after[new] = name
        for kept, left in self._left.items() if edits.replace else ():
            for name in self._groups[kept]:
                if name in edits.replace:
                    others = ", ".join(map(repr, left))
                    yield f"{name!r} shares memory with {others}: replace all of them, with one array to keep them tied"

    def packed(self) -> Packed:
        """Return the changed state."""
        arrays, extra = self._checked()
        new, replace = self._edits.renamed, self._edits.replace
        replaced = [name for name in self._names if name in replace and new(name) in arrays]
        whole = {kept for kept, names in self._left.items() if names == self._groups[kept]}
        parts = [self._unchanged(whole), pack({name: arrays[new(name)] for name in replaced}, {}, replaced)]
        parts += [self._rest(kept, names) for kept, names in self._left.items() if kept not in whole]
        return self._joined(parts, extra)

    def _checked(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Check the new names and values as those of any state. Return the new arrays and all extra values, by name.

        Only foreign files have extra values of other names than `_extra_state`.
        """
        before, replace, new = self._before.extra, self._edits.replace, self._edits.renamed
        given, tensor = {**before, **replace}, np.empty(0)
        free = {name for name in before if name.rpartition(".")[2] != EXTRA}
        values = {new(name): tensor if name in free else given.get(name, tensor) for name in self._names}
        arrays, extra, _ = checked_state(values)
        for name in free.intersection(self._names):
            found = checked_state({EXTRA: given[name]})[0] if name in replace else {}
            if found:
                arrays[new(name)] = found[EXTRA]
            else:
                del arrays[new(name)]
                extra[new(name)] = given[name]
        return arrays, {name: extra[name] for name in values if name in extra}

    def _unchanged(self, groups: Container[str]) -> Packed:
        """Return the groups of which nothing is missing, by their stored names."""
        before = self._before
        stored = {name: array for name, array in before.stored.items() if name in groups}
        return Packed(
            [],
            {name: self._as_it_is(array, array) or array for name, array in stored.items()},
            {name: alias for name, alias in before.aliases.items() if alias.kept in groups},
            {name: order for name, order in before.layouts.items() if name in groups},
            [name for name in before.storages if name in groups],
        )

    def _rest(self, kept: str, names: list[str]) -> Packed:
        """Return what is left of a group."""
        before, array = self._before, self._before.stored[kept]
        if any(before.aliases[name].view for name in names if name in before.aliases):
            return self._packed_again(kept, names)
        first, *others = names  # the stored name and ties of it
        return Packed([], {first: self._as_it_is(array, array) or array}, {name: Alias(first) for name in others})

    def _as_it_is(self, array: np.ndarray | Deferred, like: np.ndarray | Deferred) -> Deferred | None:
        """Return the bytes of a stored tensor as an array like another one, or None if they cannot be copied."""
        return self._reader.unchanged(array.name, like.dtype, like.shape) if isinstance(array, LazyTensor) else None

    def _packed_again(self, kept: str, names: list[str]) -> Packed:
        """Pack what is left of a group with views. The values are read later."""
        before, stored = self._before, self._before.stored[kept]
        order = before.layouts.get(kept, tuple(range(len(stored.shape))))
        memory = np.empty([stored.shape[axis] for axis in order], stored.dtype)  # only its addresses are used
        whole = memory.transpose([order.index(axis) for axis in range(memory.ndim)])

        def packed_from(array: np.ndarray, stored_as: Callable[[Union], np.ndarray] = Union.stored) -> Packed:
            return pack(unpack_group(before, kept, array, names), {}, names, stored_as)

        def later(name: str, array: np.ndarray) -> Deferred:
            if _has_bytes_of(whole, array) and (found := self._as_it_is(stored, array)) is not None:
                return found
            return Deferred(array.shape, array.dtype, lambda: np.asarray(packed_from(np.asarray(stored)).stored[name]))

        again = packed_from(whole, lambda union: np.empty(-(-(union.high - union.low) // 8), "<u8"))
        size_bytes = sum(spec.size_bytes for spec in specs_of(again.stored).values())
        if size_bytes > _MOST_GROWTH * whole.nbytes + _SMALL_BYTES:
            left = ", ".join(map(repr, names))
            raise StateError(
                f"{left} would take {size_bytes:,} bytes without the names that they share memory with, which take "
                f"{whole.nbytes:,}: they repeat their elements. Drop them too, or keep all."
            )
        again.stored = {name: later(name, np.asarray(array)) for name, array in again.stored.items()}
        return again

    def _joined(self, parts: list[Packed], extra: dict[str, Any]) -> Packed:
        """Return the state made of parts, under the new names."""
        new = {name: self._edits.renamed(name) for name in self._names}
        place = {name: number for number, name in enumerate(new.values())}
        joined = Packed(list(place), {}, extra=extra, memory=[part.memory for part in parts])
        storages: list[tuple[int, np.ndarray | Deferred, dict[str, Alias]]] = []
        for part in parts:
            members: dict[str, dict[str, Alias]] = {name: {} for name in part.storages}
            for name, alias in part.aliases.items():
                if alias.kept in members:
                    members[alias.kept][new[name]] = alias
                else:
                    joined.aliases[new[name]] = Alias(new[alias.kept], alias.view)
            joined.stored |= {new[name]: array for name, array in part.stored.items() if name not in members}
            joined.layouts |= {new[name]: order for name, order in part.layouts.items()}
            storages += [(min(place[name] for name in members[of]), part.stored[of], members[of]) for of in members]
        joined.stored = {name: joined.stored[name] for name in place if name in joined.stored}
        for name, (_, array, views) in zip(free_storages(place), sorted(storages, key=itemgetter(0)), strict=False):
            joined.storages.append(name)
            joined.stored[name] = array
            joined.aliases |= {member: Alias(name, view) for member, (_, view) in views.items()}
        joined.aliases = {name: joined.aliases[name] for name in place if name in joined.aliases}
        joined.layouts = {name: joined.layouts[name] for name in place if name in joined.layouts}
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
