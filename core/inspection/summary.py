"""Summary: a table of the modules of a model, with output shapes, sizes and multiply-adds.

A row is a module with everything below it, so the first row has the totals. Memory that several parameters or buffers
share is counted where it appears first, with a note at the later ones. The same holds for a module in several places.
The trial run that finds shapes and multiply-adds is in trial_run.py.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..arrays.memory import count_elements, overlapping
from .trial_run import NOT_RUN, Trial, shape_text, trial_run

if TYPE_CHECKING:
    from ..nn.module.module import Module

_HEADER = ("module", "output", "parameters", "buffers", "bytes", "multiply-adds", "")


class Counts(NamedTuple):
    """The size and work of a module: elements in its parameters and buffers, their bytes, and its multiply-adds."""

    parameters: int = 0
    buffers: int = 0
    size_bytes: int = 0
    multiply_adds: int = 0

    def plus(self, other: Counts) -> Counts:
        """Return the sum of both."""
        return Counts(*(a + b for a, b in zip(self, other, strict=True)))


@dataclass(frozen=True)
class Row:
    """A module: its dotted name, class, output shapes, counts including the modules below, and notes on sharing."""

    name: str
    kind: str
    output: str
    counts: Counts
    notes: tuple[str, ...]

    @property
    def depth(self) -> int:
        """The number of modules that contain it."""
        return self.name.count(".") + 1 if self.name else 0

    @property
    def label(self) -> str:
        """The last part of the name with the class."""
        return f"{self.name.rpartition('.')[2]}: {self.kind}" if self.name else self.kind


@dataclass(frozen=True, repr=False)
class Summary:
    """A table. Print it to read it; notebooks show it as HTML. rows: parents before children.

    inputs: the shapes of the inputs, or None if the model was not run.
    """

    rows: tuple[Row, ...]
    inputs: str | None

    @property
    def total(self) -> Counts:
        """The counts of the whole model."""
        return self.rows[0].counts

    def __str__(self) -> str:
        table = [_HEADER, *(("  " * row.depth + row.label, *self._cells(row)) for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = []
        for cells in table:
            # Words are aligned to the left, numbers to the right.
            padded = [
                cell.rjust(width) if 2 <= at <= 5 else cell.ljust(width)
                for at, (cell, width) in enumerate(zip(cells, widths, strict=True))
            ]
            lines.append("  ".join(padded).rstrip())
        return "\n".join([*lines, self._closing()])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """Return the table for a notebook."""
        head = "".join(f"<th>{name}</th>" for name in _HEADER)
        body = []
        for row in self.rows:
            label = (
                f'<td style="text-align: left; padding-left: {1.5 * row.depth + 0.5}em">{html.escape(row.label)}</td>'
            )
            cells = "".join(f"<td>{html.escape(cell)}</td>" for cell in self._cells(row))
            body.append(f"<tr>{label}{cells}</tr>")
        caption = f"<caption>{html.escape(self._closing())}</caption>"
        return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"

    def _cells(self, row: Row) -> list[str]:
        work = "" if self.inputs is None else f"{row.counts.multiply_adds:,}"
        return [row.output, *(f"{count:,}" for count in row.counts[:3]), work, "; ".join(row.notes)]

    def _closing(self) -> str:
        parameters, buffers, size_bytes, multiply_adds = (f"{count:,}" for count in self.total)
        held = f"{parameters} parameters and {buffers} numbers in buffers, {size_bytes} bytes"
        return held if self.inputs is None else f"{held}; {multiply_adds} multiply-adds for an input of {self.inputs}"


def summarize(model: Module, inputs: Sequence[Any]) -> Summary:
    """Return the Summary of model; see Module.summary for inputs."""
    trial = trial_run(model, inputs) if inputs else NOT_RUN
    places = list(_places(model))
    own, notes = _held({path: module for path, module, again in places if not again})
    for path, module, again in places:
        if not again:
            own[path] = own[path].plus(Counts(multiply_adds=trial.multiply_adds[id(module)]))
    counts = _totals(own)
    rows = tuple(
        _row(path, module, trial, counts.get(path, Counts()), [again] if again else notes[path])
        for path, module, again in places
    )
    return Summary(rows, ", ".join(map(shape_text, trial.inputs)) if inputs else None)


def _places(model: Module) -> Iterator[tuple[str, Module, str]]:
    """Yield each module with its path and "", or with a note if it came before. Do not repeat the modules below it."""
    first: dict[int, str] = {}
    repeated: set[str] = set()
    for path, module in model.named_modules(remove_duplicate=False):
        if path.rpartition(".")[0] in repeated:
            repeated.add(path)
        elif id(module) in first:
            repeated.add(path)
            yield path, module, f"the same as {first[id(module)]}"
        else:
            first[id(module)] = path
            yield path, module, ""


def _row(path: str, module: Module, trial: Trial, counts: Counts, notes: Sequence[str]) -> Row:
    outputs = trial.outputs.get(id(module), [])
    calls = [f"called {len(outputs)} times"] if len(outputs) > 1 else []
    return Row(path, type(module).__name__, " or ".join(dict.fromkeys(outputs)), counts, (*notes, *calls))


def _totals(own: dict[str, Counts]) -> dict[str, Counts]:
    """Return for each path the sum of its counts and those below it. own: parents before children."""
    sums = dict(own)
    for path in reversed(own):
        if path:
            parent = path.rpartition(".")[0]
            sums[parent] = sums[parent].plus(sums[path])
    return sums


class _Held(NamedTuple):
    """A tensor that a module holds itself."""

    path: str
    name: str
    is_buffer: bool
    array: np.ndarray


def _held(modules: dict[str, Module]) -> tuple[dict[str, Counts], dict[str, list[str]]]:
    """Return for each path the counts of the module itself, and notes on memory counted at an earlier name."""
    counts, notes = dict.fromkeys(modules, Counts()), {path: [] for path in modules}
    held: list[_Held] = []
    for path, module in modules.items():
        for is_buffer, tensors in ((False, module._parameters), (True, module._buffers)):
            held += [_Held(path, name, is_buffer, t._data) for name, t in tensors.items() if t is not None]
    for group in overlapping([tensor.array for tensor in held]):
        members = [held[position] for position in group]
        for at, tensor in enumerate(members):
            new = _elements(members[: at + 1]) - _elements(members[:at])
            added = Counts(0, new) if tensor.is_buffer else Counts(new)
            path = tensor.path
            counts[path] = counts[path].plus(added._replace(size_bytes=new * tensor.array.itemsize))
            other = next((other for other in members[:at] if _share(tensor, other)), None)
            if other is not None:
                notes[path].append(f"{tensor.name} tied to {f'{other.path}.' if other.path else ''}{other.name}")
    return counts, notes


def _share(a: _Held, b: _Held) -> bool:
    """Return True if the two share elements."""
    return _elements([a, b]) < _elements([a]) + _elements([b])


def _elements(tensors: list[_Held]) -> int:
    return count_elements([tensor.array for tensor in tensors])
