"""Progress reports of long work: it calls a function with the number of bytes done since the last call."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int], object]


def silent(size_bytes: int) -> None:
    """Report nothing."""
