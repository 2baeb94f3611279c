"""Comparing two states: files of any format, sharded or not, or arrays in memory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from ...files import open_checkpoint
from ...models import find_adapter, state_of
from ...reading.lazy import Checkpoint
from ...reading.progress import Progress, silent
from .deviation import Deviation, deviation
from .difference import KINDS, Difference, TensorChange, ValueChange
from .side import Side, tie_changes


def diff(a: Any, b: Any, *, progress: Progress | None = None) -> Difference:
    """Compare two states and return what changed from `a` to `b`.

    a, b: files as for load_file, open Checkpoints, models, or arrays by name as for save_file. progress: called with
    the number of bytes of `a` compared since the last call.
    Equal fingerprints, and equal digests of a tensor, are trusted without reading. Tensors that are read are checked
    against their digests, and compared a block at a time in little memory. Use verify() to check every byte.
    Raises MissingFileError, CorruptError, StateError or another CheckpointError.
    """
    with ExitStack() as files:
        before, after = _opened(a, files), _opened(b, files)
        metadata = ()
        if isinstance(before, Checkpoint) and isinstance(after, Checkpoint):
            metadata = _value_changes(before.metadata, after.metadata)
        one, other = Side(before), Side(after)
        if one.fingerprint is not None and one.fingerprint == other.fingerprint:
            return Difference(one.name, other.name, (), len(one.tensors), (), None, (), metadata)
        tensors = _tensor_changes(one, other, progress or silent)
        return Difference(
            a=one.name,
            b=other.name,
            tensors=tuple(sorted(tensors, key=_significance)),
            unchanged=sum(name in other.tensors for name in one.tensors)
            - sum(change.before is not None and change.after is not None for change in tensors),
            ties=tuple(tie_changes(one, other)),
            order=_order_change(one, other),
            extra=_value_changes(one.extra, other.extra),
            metadata=metadata,
        )


def _opened(given: Any, files: ExitStack) -> Mapping[str, Any]:
    if isinstance(given, Checkpoint) or find_adapter(given) is not None:
        return state_of(given)
    return files.enter_context(open_checkpoint(given))


def _tensor_changes(one: Side, other: Side, progress: Progress) -> list[TensorChange]:
    changes: list[TensorChange] = []
    measured: dict[tuple[int, int], Deviation] = {}  # an array with several names is compared once
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


def _order_change(one: Side, other: Side) -> tuple[str, str] | None:
    known, others = set(one.names), set(other.names)
    pairs = zip((n for n in one.names if n in others), (n for n in other.names if n in known), strict=True)
    return next((pair for pair in pairs if pair[0] != pair[1]), None)


def _value_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[ValueChange, ...]:
    """Compare JSON values by name. 1, 1.0 and True are different values, and the order of a dict counts."""
    changes = []
    for name in [*before, *(name for name in after if name not in before)]:
        if name not in after or name not in before:
            kind = "removed" if name in before else "added"
            changes.append(ValueChange(name, kind, before.get(name), after.get(name)))
        elif json.dumps(before[name]) != json.dumps(after[name]):
            changes.append(ValueChange(name, "changed", before[name], after[name]))
    return tuple(changes)
