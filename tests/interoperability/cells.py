"""The cells of docs/interoperability.md: each is a function that runs and checks what the page says.

A cell is named by its table, row and column. It gets an empty folder, and returns what the page shows: "yes", or a text
that starts with "no" or says what is different. It raises an exception if the page must not say so.

A cell runs in one of the environments of `make build/readers`, in a process that it shares with the other cells of its
environment: see run.py.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

Run = Callable[[Path], str]


class Cell(NamedTuple):
    """A cell of a table. packages: those whose versions the page shows for the row."""

    table: str
    row: str
    column: str
    run: Run
    environment: str
    packages: tuple[str, ...]

    @property
    def key(self) -> str:
        """The name of the cell."""
        return " | ".join((self.table, self.row, self.column))


CELLS: dict[str, Cell] = {}


def add(table: str, row: str, column: str, run: Run, *packages: str, environment: str = "main") -> None:
    """Add a cell."""
    found = Cell(table, row, column, run, environment, packages)
    assert found.key not in CELLS, found.key
    CELLS[found.key] = found


def cell(table: str, row: str, column: str, *packages: str, environment: str = "main") -> Callable[[Run], Run]:
    """Add the function that follows as a cell."""

    def decorate(run: Run) -> Run:
        add(table, row, column, run, *packages, environment=environment)
        return run

    return decorate
