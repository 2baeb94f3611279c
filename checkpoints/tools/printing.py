"""Text for people, of names that may come from anybody's file."""

from __future__ import annotations

from collections.abc import Sequence

_MOST_CHARACTERS = 200


def printable(text: str) -> str:
    """Return text on one line and without control characters, which a file may hold to mislead a terminal."""
    return text if text.isprintable() and len(text) <= _MOST_CHARACTERS else ascii(text[:_MOST_CHARACTERS])


def rows_of(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a line for each row, its cells in aligned columns, indented."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def counted(count: int, what: str) -> str:
    """Return a number and what it counts, in the plural unless it is one."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"
