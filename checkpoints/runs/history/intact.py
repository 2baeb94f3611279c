"""Finding the first intact checkpoint, while other processes may save and remove checkpoints."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TypeVar

from ...errors import CheckpointError, CorruptError, FormatError, ReadError, VersionError
from ...storage.identity import MOST_LOOKS
from ...tools.verification import verify
from . import files
from .retention import Saved

T = TypeVar("T")


class DamagedWarning(UserWarning):
    """A warning that a damaged checkpoint was skipped and another one is used."""


def first_intact(
    folder: str,
    candidates: Callable[[], list[files.Entry]],
    described: Callable[[files.Entry], Saved],
    read: Callable[[str], T],
) -> tuple[Saved, T] | None:
    """Return the first candidate that can be read, and what `read` returns for its path. None if there is none.

    A damaged candidate is skipped with a DamagedWarning for the caller of the caller. If one is removed or replaced
    while it is read, the search starts again. Raises CorruptError if all are damaged.
    """
    problems: dict[files.Entry, str] = {}
    for _ in range(MOST_LOOKS):
        is_changed = False
        for entry in candidates():
            if entry in problems:
                continue
            try:
                found = described(entry), read(entry.path)
                if files.entry_at(entry.step, entry.path) in (entry, None):  # it may be removed, but not replaced
                    return found
            except (FormatError, OSError) as error:
                if files.entry_at(entry.step, entry.path) == entry:
                    if isinstance(error, VersionError) or not isinstance(error, CheckpointError):
                        raise
                    problems[entry] = str(error)
                    warnings.warn(DamagedWarning(f"skipped a damaged checkpoint. {error}"), stacklevel=3)
                    continue
            is_changed = True
            break
        if not is_changed:
            break
    else:
        raise ReadError(f"the checkpoints in {folder} were replaced each time while they were read. Try again.")
    if problems:
        lines = "\n".join(f"{entry.path}: {problem}" for entry, problem in problems.items())
        raise CorruptError(f"none of the {len(problems):,} checkpoints in {folder} is intact.\n{lines}")
    return None


def check(path: str) -> None:
    """Raise CorruptError or another CheckpointError unless every byte of a file is what was written."""
    found = verify(path)
    if not found.intact:
        raise CorruptError(str(found), found.damaged)
