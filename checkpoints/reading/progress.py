"""How long work says how far it has come: it calls a function with how many bytes were done since it did so last."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int], object]


def silent(size_bytes: int) -> None:
    """Say nothing."""
