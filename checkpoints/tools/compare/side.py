"""One of two states in a comparison: its names, tensors and ties."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ...files import packed_of
from ...reading.lazy import Checkpoint
from ...state import validation as state
from ...state.manifest import specs_of
from ...state.sharing import View
from .difference import TieChange


class Side:
    """A state in a comparison.

    packed: the state with every shared byte stored once. tensors: dtype and shape by name, in order. values: the arrays
    by the same names. name: the path of the file, if it is one. fingerprint: None if it is unknown.
    """

    def __init__(self, mapping: Mapping[str, Any]) -> None:
        self.packed = packed = packed_of(mapping)
        self.names, self.extra = packed.names, packed.extra
        if isinstance(mapping, Checkpoint):
            self.name, self.fingerprint, self._digests = mapping.name, mapping.fingerprint, mapping.digests
            self.values = {name: mapping[name] for name in packed.names if name not in packed.extra}
        else:
            self.name, self.fingerprint, self._digests = "<state>", None, {}
            self.values, _, _ = state.checked_state(mapping)
        self.tensors = specs_of(self.values)

    def content(self, name: str) -> tuple[Any, ...] | None:
        """Return a key that is equal for tensors with equal bytes, dtype and shape. Return None if it is unknown."""
        kept, view = self.place(name)
        digest = self._digests.get(kept)
        return None if digest is None else (digest, view, self.packed.layouts.get(kept) if view else None)

    def place(self, name: str) -> tuple[str, View | None]:
        """Return the name that the memory of a tensor is stored under, and its view of it, or None for all of it."""
        return self.packed.aliases.get(name, (name, None))


def tie_changes(one: Side, other: Side) -> Iterator[TieChange]:
    """Yield the names that share memory differently in the second state: with other names, or in another way."""
    common = [name for name in one.tensors if name in other.tensors]
    first_before, first_after = _first_of_each(common, one.place), _first_of_each(common, other.place)
    for name in common:
        (kept_before, view_before), (kept_after, view_after) = one.place(name), other.place(name)
        before, after = first_before[kept_before], first_after[kept_after]
        if before != after or (kept_before == kept_after and view_before != view_after):
            yield TieChange(name, None if before == name else before, None if after == name else after)


def _first_of_each(names: list[str], place: Callable[[str], tuple[str, View | None]]) -> dict[str, str]:
    first: dict[str, str] = {}
    for name in names:
        first.setdefault(place(name)[0], name)
    return first
