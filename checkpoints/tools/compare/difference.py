"""The difference between two states, for programs and as text for people. comparison.py computes it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from ...state.manifest import TensorSpec
from ..printing import counted, kind_text, printable, rows_of
from .deviation import Deviation

# The kinds of change of a tensor, most significant first, and their words in the summary.
KINDS = {
    "removed": "removed",
    "added": "added",
    "shape": "of another shape",
    "dtype": "of another dtype",
    "values": "of other values",
}


@dataclass(frozen=True)
class TensorChange:
    """A tensor that was added, removed or changed. before and after hold its dtype and shape, or None.

    kind: "removed", "added", "shape", "dtype" or "values". deviation: of the values, if the shape is the same.
    """

    name: str
    kind: str
    before: TensorSpec | None
    after: TensorSpec | None
    deviation: Deviation | None = None


@dataclass(frozen=True)
class TieChange:
    """A name that shares memory with `before` in the first state and with `after` in the second, or None.

    If both are the same name, the part or arrangement of the memory differs. A group of names that share memory is
    identified by its first name in the order of the first state.
    """

    name: str
    before: str | None
    after: str | None


@dataclass(frozen=True)
class ValueChange:
    """An entry of the extra state or the metadata. kind: "removed", "added" or "changed"."""

    name: str
    kind: str
    before: Any
    after: Any


@dataclass(frozen=True)
class Difference:
    """The difference between state a and state b.

    tensors: the changes, most significant first: removed, added, shape, dtype, values; among the last two, the largest
    relative error first. unchanged: the number of equal tensors. ties: names that share memory with different names
    than before. order: the names at the first place where the order differs, None if it is the same. extra: changes of
    `_extra_state` values. metadata: changes of the metadata of files, which is not part of a state.
    """

    a: str
    b: str
    tensors: tuple[TensorChange, ...]
    unchanged: int
    ties: tuple[TieChange, ...]
    order: tuple[str, str] | None
    extra: tuple[ValueChange, ...]
    metadata: tuple[ValueChange, ...]

    @property
    def same(self) -> bool:
        """Whether the states are equal in everything that the fingerprint covers. Metadata does not count."""
        return not (self.tensors or self.ties or self.order or self.extra)

    def as_dict(self) -> dict[str, Any]:
        """Return the same content as dicts, lists, strings and numbers, for JSON. Non-finite numbers become None."""
        return {"same": self.same, **_for_json(asdict(self))}

    def __str__(self) -> str:
        return _text(self)


def _text(difference: Difference) -> str:
    """Return a table of the tensors that changed, a line for each other change, and a summary line."""
    lines = [f"{printable(difference.a)} -> {printable(difference.b)}"]
    if difference.tensors:
        header = ("", "tensor", "", "differing", "absolute", "relative", "cosine")
        lines += rows_of([header, *map(_row, difference.tensors)])
    lines += map(_tie, difference.ties)
    if difference.order:
        before, after = map(printable, difference.order)
        lines.append(f"  order: {after} stands where {before} stood")
    lines += [_value("extra state", change) for change in difference.extra]
    lines += [_value("metadata", change) for change in difference.metadata]
    return "\n".join([*lines, _summary(difference)])


def _row(change: TensorChange) -> tuple[str, ...]:
    kinds = [kind_text(tensor) for tensor in (change.before, change.after) if tensor]
    kind = " -> ".join(dict.fromkeys(kinds))
    found = change.deviation
    if found is None:
        return change.kind, printable(change.name), kind, "", "", "", ""
    cosine = "none" if found.cosine is None else f"{found.cosine:.6f}"
    numbers = f"{found.differing:,} of {found.size:,}", f"{found.max_absolute:.3g}", f"{found.max_relative:.3g}", cosine
    return change.kind, printable(change.name), kind, *numbers


def _tie(change: TieChange) -> str:
    name = printable(change.name)
    if change.before == change.after:
        return f"  ties: {name} is another part of its shared memory"
    was, now = "had its own memory", "has its own memory"
    if change.before is not None:
        was = f"shared the memory of {printable(change.before)}"
    if change.after is not None:
        now = f"shares the memory of {printable(change.after)}"
    return f"  ties: {name} {was}, and now {now}"


def _value(what: str, change: ValueChange) -> str:
    before, after = (printable(repr(value)) for value in (change.before, change.after))
    values = {"removed": before, "added": after}.get(change.kind, f"{before} -> {after}")
    return f"  {what} {change.kind}: {printable(change.name)}: {values}"


def _summary(difference: Difference) -> str:
    unchanged = f"{counted(difference.unchanged, 'tensor')} unchanged"
    if difference.same:
        return f"same: {unchanged}{'; only the metadata differs' if difference.metadata else ''}"
    kinds = [change.kind for change in difference.tensors]
    parts = [f"{kinds.count(kind):,} {text}" for kind, text in KINDS.items() if kind in kinds]
    parts += [counted(len(difference.ties), "tie") + " changed"] if difference.ties else []
    parts += ["the order changed"] if difference.order else []
    parts += ["the extra state changed"] if difference.extra else []
    return f"different: {', '.join(parts)}; {unchanged}"


def _for_json(value: Any) -> Any:
    if isinstance(value, TensorSpec):
        value = value._asdict()
    if isinstance(value, dict):
        return {key: _for_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_for_json(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
