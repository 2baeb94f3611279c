"""Comparing two states: files of either format, sharded or not, or arrays in memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any

from ...files import open_checkpoint, packed_of
from ...reading.lazy import Checkpoint
from ...reading.progress import Progress, silent
from ...state import dtypes
from ...state import validation as state
from ...state.manifest import Tensor
from .deviation import Deviation, deviation
from .difference import KINDS, Difference, TensorChange, TieChange, ValueChange


def diff(a: Any, b: Any, *, progress: Progress | None = None) -> Difference:
    """Return in what b differs from a.

    a, b: files as for load_file, open Checkpoints, or arrays by name as for save_file. progress: called with how many
    bytes of the tensors of a were compared since it was called last.
    Equal fingerprints, and equal digests of a tensor, are believed, which takes no time; a tensor whose bytes are read
    is checked against its digest. verify() checks all. Tensors are compared a block at a time, in little memory.
    Raises MissingFileError, CorruptError, StateError or another CheckpointError.
    """
    with ExitStack() as files:
        before, after = _opened(a, files), _opened(b, files)
        metadata = ()
        if isinstance(before, Checkpoint) and isinstance(after, Checkpoint):
            metadata = _value_changes(before.metadata, after.metadata)
        one, other = _Side(before), _Side(after)
        if one.fingerprint is not None and one.fingerprint == other.fingerprint:
            return Difference(one.name, other.name, (), len(one.tensors), (), None, (), metadata)
        tensors = _tensor_changes(one, other, progress or silent)
        return Difference(
            a=one.name,
            b=other.name,
            tensors=tuple(sorted(tensors, key=_significance)),
            unchanged=sum(name in other.tensors for name in one.tensors)
            - sum(change.before is not None and change.after is not None for change in tensors),
            ties=tuple(_tie_changes(one, other)),
            order=_order_change(one, other),
            extra=_value_changes(one.extra, other.extra),
            metadata=metadata,
        )


def _opened(file_or_state: Any, files: ExitStack) -> Mapping[str, Any]:
    if isinstance(file_or_state, Mapping):
        return file_or_state
    return files.enter_context(open_checkpoint(file_or_state))


class _Side:
    """A state that is compared. tensors: dtype and shape by name, in order. values: the arrays of the same names."""

    def __init__(self, mapping: Mapping[str, Any]) -> None:
        packed = packed_of(mapping)
        self.names, self.extra, self._aliases, self._layouts = (
            packed.names,
            packed.extra,
            packed.aliases,
            packed.layouts,
        )
        if isinstance(mapping, Checkpoint):
            self.name, self.fingerprint, self._digests = mapping.name, mapping.fingerprint, mapping.digests
            self.values = {name: mapping[name] for name in packed.names if name not in packed.extra}
        else:
            self.name, self.fingerprint, self._digests = "<state>", None, {}
            self.values, _, _ = state.checked_state(mapping)
        self.tensors = {n: Tensor(dtypes.name_of(array.dtype, n), array.shape) for n, array in self.values.items()}

    def content(self, name: str) -> tuple[Any, ...] | None:
        """Return what is equal only for tensors whose bytes are, if dtype and shape are; None if that is unknown."""
        kept, view = self.place(name)
        digest = self._digests.get(kept)
        return None if digest is None else (digest, view, self._layouts.get(kept) if view else None)

    def place(self, name: str) -> tuple[str, Any]:
        """Return the name under which the memory of name is kept, and where in that it lies, None if it is all."""
        return self._aliases.get(name, (name, None))


def _tensor_changes(one: _Side, other: _Side, progress: Progress) -> list[TensorChange]:
    changes: list[TensorChange] = []
    measured: dict[tuple[int, int], Deviation] = {}  # names of one array are compared once
    for name in one.tensors | other.tensors:
        before, after = one.tensors.get(name), other.tensors.get(name)
        if before is None or after is None:
            changes.append(TensorChange(name, "added" if before is None else "removed", before, after))
        elif before.shape != after.shape:
            changes.append(TensorChange(name, "shape", before, after))
        elif before.dtype != after.dtype or one.content(name) is None or one.content(name) != other.content(name):
            values = one.values[name], other.values[name]
            key = id(values[0]), id(values[1])
            if key not in measured:
                measured[key] = deviation(*values, progress)
            if before.dtype != after.dtype or measured[key].differing:
                kind = "values" if before.dtype == after.dtype else "dtype"
                changes.append(TensorChange(name, kind, before, after, measured[key]))
    return changes


def _significance(change: TensorChange) -> tuple[Any, ...]:
    sizes = (-change.deviation.max_relative, -change.deviation.max_absolute) if change.deviation else ()
    return list(KINDS).index(change.kind), *sizes, change.name


def _tie_changes(one: _Side, other: _Side) -> Iterator[TieChange]:
    """Give the names in both that share memory with others than before, or in another way."""
    common = [name for name in one.tensors if name in other.tensors]
    first_before, first_after = _first_of_each(common, one.place), _first_of_each(common, other.place)
    for name in common:
        (kept_before, view_before), (kept_after, view_after) = one.place(name), other.place(name)
        before, after = first_before[kept_before], first_after[kept_after]
        if before != after or (kept_before == kept_after and view_before != view_after):
            yield TieChange(name, None if before == name else before, None if after == name else after)


def _first_of_each(names: list[str], place: Callable[[str], tuple[str, Any]]) -> dict[str, str]:
    first: dict[str, str] = {}
    for name in names:
        first.setdefault(place(name)[0], name)
    return first


def _order_change(one: _Side, other: _Side) -> tuple[str, str] | None:
    known, others = set(one.names), set(other.names)
    pairs = zip((n for n in one.names if n in others), (n for n in other.names if n in known), strict=True)
    return next((pair for pair in pairs if pair[0] != pair[1]), None)


def _value_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[ValueChange, ...]:
    """Return what differs between JSON values by name: 1, 1.0 and True are three, and the order in a dict counts."""
    changes = []
    for name in [*before, *(name for name in after if name not in before)]:
        if name not in after or name not in before:
            kind = "removed" if name in before else "added"
            changes.append(ValueChange(name, kind, before.get(name), after.get(name)))
        elif json.dumps(before[name]) != json.dumps(after[name]):
            changes.append(ValueChange(name, "changed", before[name], after[name]))
    return tuple(changes)
