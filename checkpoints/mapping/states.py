"""States under the names and layouts of a mapping: those that are loaded, and those that are copied to another file.

Names that share memory and are only renamed, and tied names that the rules change alike, are copied as they are stored.
If the rules change some of the names that share memory, that memory is read as a whole, and the changed arrays share it
where NumPy can make them views of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np

from ..reading.lazy import Checkpoint, UnsupportedEntry
from ..reading.reader import Mmap
from ..state.deferred import Deferred
from ..state.dtypes import numpy_dtype
from ..state.sharing import Alias, Packed, View, free_storages, pack, unpack, unpack_group
from ..state.snapshot import copied_at_once
from ..state.validation import check_names, checked_state
from .application import Applied, applied, reversed_rules, unmapped
from .rules import Rule, is_tensor


def entries_of(checkpoint: Checkpoint, prefix: str = "", skip_unsupported: bool = False) -> dict[str, Any]:
    """Return the entries of an open checkpoint whose names start with `prefix`, with the prefix removed."""
    return {
        name.removeprefix(prefix): value
        for name, value in checkpoint.items()
        if name.startswith(prefix) and not (skip_unsupported and isinstance(value, UnsupportedEntry))
    }


def load_mapped(
    checkpoint: Checkpoint,
    rules: Sequence[Rule],
    mmap: Mmap = False,
    *,
    prefix: str = "",
    skip_unsupported: bool = False,
) -> dict[str, Any]:
    """Load a state as the rules give it. Tensors that they ignore are not read.

    prefix: load only the names that start with it, and remove it before the rules. Tensors that need no computation
    are backed by the file with `mmap`. Raises MappingError, or what load_file raises.
    """
    entries = entries_of(checkpoint, prefix, skip_unsupported)
    origins = applied(rules, entries, checkpoint.name).origins
    needed = {prefix + name for origin in origins.values() for name in origin.names}
    loaded = checkpoint.load_names(needed, mmap)
    state = applied(
        rules, entries | {name.removeprefix(prefix): loaded[name] for name in loaded}, checkpoint.name
    ).state
    return computed(state)


def computed(state: dict[str, Any]) -> dict[str, Any]:
    """Return a state with every deferred array computed, once for all names that it has."""
    arrays: dict[int, np.ndarray] = {}
    for value in state.values():
        if isinstance(value, Deferred) and id(value) not in arrays:
            arrays[id(value)] = np.asarray(value)
    return {name: arrays[id(value)] if isinstance(value, Deferred) else value for name, value in state.items()}


def pack_mapped(packed: Packed, rules: Sequence[Rule], source: str, others: Mapping[str, Any] | None = None) -> Packed:
    """Return a packed state as the rules give it. Its arrays are computed when they are written.

    others: entries that cannot be saved, which the rules have to ignore. Raises MappingError or UnsupportedTypeError.
    """
    values = _values(packed) | dict(others or {})
    plan = applied(rules, values, source)
    places, made = _places(plan.state), _made(plan)
    renamed: dict[str, list[str]] = {}
    for kept, family in _families(packed).items():
        if kept not in packed.layouts and not any(_view(packed, name) for name in family):
            is_read = len({made[name] for name in family if name in made}) > 1  # else they stay tied as they are
        else:
            is_read = any(len(places.get(id(values[name]), ())) != _count(values, family, name) for name in family)
            if not is_read:
                renamed[kept] = family
        if is_read:
            values |= unpack_group(packed, kept, np.asarray(packed.stored[kept]), family)
    result = applied(rules, values, source)
    for value in result.state.values():
        if isinstance(value, UnsupportedEntry):
            value.refuse()
    places = _places(result.state)
    check_names(result.state)
    tensors = {name: value for name, value in result.state.items() if is_tensor(value)}
    extra = {name: value for name, value in result.state.items() if name not in tensors}
    new = pack(tensors, extra, result.state)
    for kept, family in renamed.items():
        _rename(packed, kept, {name: places[id(values[name])] for name in family}, new)
    new.aliases = {name: new.aliases[name] for name in new.names if name in new.aliases}
    return new


def pack_unmapped(state: Mapping[str, Any], rules: Sequence[Rule], snapshot: bool) -> Packed:
    """Return a packed state under the names and in the layouts of the other side: what a save with a mapping writes.

    state: arrays and extra values by name, or an open checkpoint. snapshot: copy the arrays first, at one moment.
    Raises MappingError if the rules cannot be reversed or do not fit, or StateError.
    """
    if isinstance(state, Checkpoint):
        unmapped(rules, entries_of(state))
        return pack_mapped(state.packed(), reversed_rules(rules), state.name)
    arrays, extra, names = checked_state(state)
    if snapshot:
        arrays = unpack(copied_at_once(pack(arrays, {}, arrays))[0])
    values = arrays | extra
    return pack(*checked_state(unmapped(rules, {name: values[name] for name in names})))


def _values(packed: Packed) -> dict[str, Any]:
    """Return the values of a packed state: one object for all names of a tie, and a stand-in for each view."""

    def nothing() -> NoReturn:
        raise AssertionError("a view that is only renamed is not computed")

    values: dict[str, Any] = {}
    for name in packed.names:
        alias = packed.aliases.get(name)
        if name in packed.extra:
            values[name] = packed.extra[name]
        elif alias is None or alias.view is None:
            values[name] = packed.stored[alias.kept if alias else name]
        else:
            values[name] = Deferred(alias.view.shape, numpy_dtype(alias.view.dtype), nothing)
    return values


def _families(packed: Packed) -> dict[str, list[str]]:
    """Return the names of each stored tensor that has several, or views."""
    families: dict[str, list[str]] = {}
    for name, alias in packed.aliases.items():
        families.setdefault(alias.kept, [] if alias.kept in packed.storages else [alias.kept]).append(name)
    return families


def _view(packed: Packed, name: str) -> View | None:
    return packed.aliases[name].view if name in packed.aliases else None


def _made(plan: Applied) -> dict[str, frozenset[int]]:
    """Return which values the rules make from each name, as their ids."""
    made: dict[str, set[int]] = {}
    for name, value in plan.state.items():
        for origin in plan.origins[name].names:
            made.setdefault(origin, set()).add(id(value))
    return {name: frozenset(ids) for name, ids in made.items()}


def _places(state: dict[str, Any]) -> dict[int, list[str]]:
    places: dict[int, list[str]] = {}
    for name, value in state.items():
        places.setdefault(id(value), []).append(name)
    return places


def _count(values: dict[str, Any], family: list[str], name: str) -> int:
    return sum(values[other] is values[name] for other in family)


def _rename(packed: Packed, kept: str, places: dict[str, list[str]], new: Packed) -> None:
    """Put a family whose names only changed into a new packed state. places: the new names of each of its names."""
    if kept in packed.storages:
        taken = new.stored.keys() | new.extra.keys() | set(new.names)
        new_kept = next(free_storages(taken))
        new.stored[new_kept] = packed.stored[kept]
        new.storages.append(new_kept)
        if kept in packed.unions:
            new.unions[new_kept] = packed.unions[kept]
    else:
        first = places[kept][0]
        new_kept = new.aliases[first].kept if first in new.aliases else first
    if kept in packed.layouts:
        new.layouts[new_kept] = packed.layouts[kept]
    for name, news in places.items():
        alias = packed.aliases.get(name)
        if alias is not None and alias.view is not None:
            for place in news:
                new.stored.pop(place, None)
                new.aliases[place] = Alias(new_kept, alias.view)
