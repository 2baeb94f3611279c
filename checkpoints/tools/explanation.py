"""A dry run of a mapping: what it does to each name of a file, and what is left, read from the headers alone."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from difflib import SequenceMatcher
from typing import Any

from ..errors import MismatchError
from ..files import open_checkpoint
from ..mapping import Mapping as NameMapping
from ..mapping import rules_of
from ..mapping.application import Applied, applied, why_irreversible
from ..mapping.rules import is_tensor
from ..mapping.states import entries_of
from ..models import adapter_of, state_of
from ..reading.lazy import UnsupportedEntry
from ..state.dtypes import name_of
from ..state.manifest import TensorSpec
from ..state.validation import checked_state
from .printing import counted, kind_text, printable, rows_of

# Looking for near names compares each with each.
_MOST_COMPARED = 100_000
_MOST_NEAR = 2


@dataclass(frozen=True)
class MappedName:
    """A name that a mapping gives: what it is made from, by which rules, and what the model has under it.

    sources: the names in the file. source_kinds, kind, model_kind: dtype and shape; model_kind is None if the model
    does not have the name, or if no model was given.
    """

    name: str
    kind: str
    sources: tuple[str, ...]
    source_kinds: tuple[str, ...]
    rules: tuple[str, ...]
    model_kind: str | None = None


@dataclass(frozen=True)
class MissingName:
    """A name of the model that the mapping does not give. near: names that it gives and the model lacks, which fit."""

    name: str
    kind: str
    near: tuple[str, ...]


@dataclass(frozen=True)
class Explanation:
    """What a mapping does to a file. See explain().

    names: in the order that they are loaded in. ignored: the names in the file that rules leave out, with the reasons.
    unchanged: the names that no rule changes. extra: the names that the model lacks. missing: those that only the model
    has. reshaped: those with another shape in the model. irreversible: why a save with the mapping would not write this
    file again, a line each.
    """

    path: str
    model: str | None
    names: tuple[MappedName, ...]
    ignored: dict[str, str]
    unchanged: tuple[str, ...]
    extra: tuple[str, ...]
    missing: tuple[MissingName, ...]
    reshaped: tuple[str, ...]
    irreversible: tuple[str, ...]

    @property
    def fits(self) -> bool:
        """Whether the names and shapes are those of the model. True if no model was given."""
        return not (self.extra or self.missing or self.reshaped)

    def as_dict(self) -> dict[str, Any]:
        """Return the same content as dicts, lists, strings and numbers, for JSON."""
        return {**asdict(self), "fits": self.fits}

    def __str__(self) -> str:
        target = "" if self.model is None else f" -> {printable(self.model)}"
        lines = [f"{printable(self.path)}{target}: {counted(len(self.names), 'name')}"]
        header = ("in the file", "", "rules", "in the model" if self.model else "becomes", "")
        lines += rows_of([header, *map(_row, self.names)])
        lines += _section("ignored", [(printable(name), printable(why)) for name, why in self.ignored.items()])
        if self.model is None:
            lines += _section("changed by no rule", [(printable(name),) for name in self.unchanged])
        else:
            kinds = {row.name: row.kind for row in self.names}
            shapes = {row.name: row.model_kind or "" for row in self.names}
            lines += _section("left in the file", [(printable(name), kinds[name]) for name in self.extra])
            lines += _section("left in the model", [_missing_row(missing) for missing in self.missing])
            rows = [(printable(name), kinds[name], "in the model", shapes[name]) for name in self.reshaped]
            lines += _section("of another shape", rows)
        lines += _section("cannot be reversed", [(printable(why),) for why in self.irreversible])
        return "\n".join(lines)


def explain(
    file: Any, mapping: NameMapping, model: Any = None, *, prefix: str = "", dequantize: bool = False
) -> Explanation:
    """Return what a mapping would do to a file, as a table and as data. No tensor is read, and nothing changes.

    file, prefix: as for load_model. mapping, dequantize: as for load_file. model: the model to load into, a state, or a
    file with the names that the model has. Without it, the table has no names of a model.
    Raises MappingError for a rule that matches nothing or does not fit, MissingFileError, CorruptError or another
    CheckpointError.
    """
    rules = rules_of(mapping)
    with open_checkpoint(file, dequantize=dequantize) as checkpoint:
        entries = entries_of(checkpoint, prefix)
        if prefix and not entries:
            raise MismatchError(
                checkpoint.name, "the mapping", [f"no name starts with {prefix!r}"], "Check the prefix."
            )
        result = applied(rules, entries, checkpoint.name)
        irreversible = tuple(why_irreversible(rules, entries, result))
        path = checkpoint.name
    kind, known = (None, None) if model is None else _names_of(model)
    names = tuple(_names(entries, result, known or {}))
    extra = [row for row in names if known is not None and row.name not in known]
    return Explanation(
        path=path,
        model=kind,
        names=names,
        ignored=result.ignored,
        unchanged=tuple(row.name for row in names if not row.rules),
        extra=tuple(row.name for row in extra),
        missing=tuple(_missing(extra, {row.name for row in names}, known or {})),
        reshaped=tuple(row.name for row in names if row.model_kind and _shape(row.kind) != _shape(row.model_kind)),
        irreversible=irreversible,
    )


def _names_of(model: Any) -> tuple[str, dict[str, str]]:
    """Return what to call a model, a state or a file, and the kinds of its names."""
    if isinstance(model, str | os.PathLike | bytes) or hasattr(model, "read"):
        with open_checkpoint(model) as checkpoint:
            return checkpoint.name, {name: _kind(value) for name, value in checkpoint.items()}
    if isinstance(model, Mapping):
        kind, state = "the state", model
    else:
        kind, state = adapter_of(model).targets(model).kind, state_of(model)
    arrays, _, names = checked_state(state)
    return kind, {name: _kind(arrays.get(name)) for name in names}


def _names(entries: Mapping[str, Any], result: Applied, known: Mapping[str, str]) -> Iterator[MappedName]:
    for name, value in result.state.items():
        origin = result.origins[name]
        kinds = tuple(_kind(entries[source]) for source in origin.names)
        yield MappedName(name, _kind(value), origin.names, kinds, origin.rules, known.get(name))


def _kind(value: Any) -> str:
    """Return the dtype and the shape of a value, as a table shows them."""
    if isinstance(value, UnsupportedEntry):
        return "unsupported"
    return kind_text(TensorSpec(name_of(value.dtype, ""), value.shape)) if is_tensor(value) else "no tensor"


def _shape(kind: str) -> str:
    """Return the shape in a kind."""
    return kind.partition(" ")[2] or kind


def _missing(extra: list[MappedName], given: set[str], known: Mapping[str, str]) -> Iterator[MissingName]:
    missing = [name for name in known if name not in given]
    can_compare = len(missing) * len(extra) <= _MOST_COMPARED
    for name in missing:
        near = [row for row in extra if _axes(row.kind) == _axes(known[name])] if can_compare else []
        near.sort(key=lambda row: -SequenceMatcher(None, name, row.name).ratio())
        shown = tuple(_near_text(row, known[name]) for row in near[:_MOST_NEAR])
        yield MissingName(name, known[name], shown)


def _axes(kind: str) -> list[str]:
    return sorted(_shape(kind).strip("[]").split(", "))


def _near_text(row: MappedName, kind: str) -> str:
    return row.name if _shape(row.kind) == _shape(kind) else f"{row.name} transposed"


def _row(row: MappedName) -> tuple[str, ...]:
    sources, kinds = (" + ".join(map(printable, texts)) for texts in (row.sources, row.source_kinds))
    return sources, kinds, printable(", ".join(row.rules)), printable(row.name), row.kind


def _missing_row(missing: MissingName) -> tuple[str, ...]:
    near = f"near: {printable(' or '.join(missing.near))}" if missing.near else ""
    return printable(missing.name), missing.kind, near


def _section(title: str, rows: list[tuple[str, ...]]) -> list[str]:
    return [f"{title}:", *rows_of(rows)] if rows else []
