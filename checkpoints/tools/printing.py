"""Formatting text for people. Names in it may come from a foreign file."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import on_one_line
from ..state.manifest import TensorSpec

_MOST_CHARACTERS = 200


def printable(text: str) -> str:
    """Return text that fits a table: on one line, cut to some length, in quotes if anything had to be escaped."""
    return text if on_one_line(text) == text and len(text) <= _MOST_CHARACTERS else ascii(text[:_MOST_CHARACTERS])


def rows_of(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return an indented line for each row, its cells in aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def kind_text(tensor: TensorSpec) -> str:
    """Return the dtype and the shape of a tensor."""
    return f"{tensor.dtype} {list(tensor.shape)}"


def counted(count: int, what: str) -> str:
    """Return a number with the noun that it counts, in the plural unless the number is 1."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"
