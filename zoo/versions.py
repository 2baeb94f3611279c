"""One whole version of an entry, for readers that read while others publish over it.

A publisher replaces the folder of an entry by another folder (publishing/placing.py). A reader that has opened the old
manifest may then find the new weights, or no file at all. Such a read is discarded and repeated.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from ..checkpoints.errors import LockedError
from ..checkpoints.storage.forks import OwnFile
from ..checkpoints.storage.locks import locked
from .entry import MANIFEST, Entry, open_entry
from .errors import EntryError

# While a publisher runs, it owns the folder .NAME.publishing beside the entry, with a mark in it. Where two folders
# cannot be exchanged, the entry itself is in `old` there for a moment, or until the next publish if this one is killed.
SUFFIX = ".publishing"
MARK = "written-by-statezoo"
OLD = "old"

_MOST_ATTEMPTS = 20
_WAIT_S = 30.0

Result = TypeVar("Result")


def work_folder(entry: Path) -> Path:
    """Return the folder that a publisher of an entry owns while it runs."""
    return entry.parent / f".{entry.name}{SUFFIX}"


def whole(folder: Path, act: Callable[[Entry], Result]) -> Result:
    """Open the entry in a folder and return what `act` returns for it. Repeat both if it was replaced meanwhile.

    So `act` reads one version of the entry, however often others publish over it. After several attempts, the last one
    holds the publishers' lock. Raises EntryError if there is no valid entry, and any error of `act`.
    """
    for _ in range(_MOST_ATTEMPTS):
        held = OwnFile()
        try:
            place = place_of(folder)
            with suppress(OSError, ValueError):  # an open folder keeps its number, by which it is recognised
                held.open(str(place), os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
            before = _identity(place, held.number)
            try:
                result = act(open_entry(place))
            except Exception:
                if _identity(place_of(folder)) == before:
                    raise
            else:
                if _identity(place_of(folder)) == before:
                    return result
        finally:
            with suppress(OSError):
                held.close()
    try:
        with locked(folder.parent, _WAIT_S):
            return act(open_entry(place_of(folder)))
    except LockedError as error:
        raise EntryError(f"{folder} is replaced again and again. Load it when that has ended.\n{error}") from error


def entries_in(parent: Path) -> list[Path]:
    """Return the folders of the entries in a folder, also of those that are being replaced."""
    with os.scandir(parent) as found:  # one look at the folder: an entry or its publisher is in it
        names = {found.name for found in found if found.is_dir()}
    being_replaced = {name[1 : -len(SUFFIX)] for name in names if name.startswith(".") and name.endswith(SUFFIX)}
    folders = [parent / name for name in sorted(names | being_replaced) if not name.startswith(".")]
    return [folder for folder in folders if _is_published(folder)]


def _is_published(folder: Path) -> bool:
    aside = work_folder(folder) / OLD
    # It may move while we look at the one place and then at the other.
    return any(os.path.isfile(place / MANIFEST) for place in (folder, aside) * 3)


def place_of(folder: Path) -> Path:
    """Return where an entry is now: its folder, or `old` of a publisher that is replacing it."""
    try:
        if os.path.exists(folder):
            return folder
        aside = work_folder(Path(os.path.realpath(folder)))
    except ValueError:  # a name that no file can have
        return folder
    return aside / OLD if os.path.isfile(aside / MARK) and os.path.isdir(aside / OLD) else folder


def _identity(place: Path, descriptor: int = -1) -> tuple[int, int, int] | None:
    """Return an id of a folder, which changes if it is moved away and back. Return None if there is no folder."""
    try:
        status = os.stat(place) if descriptor < 0 else os.fstat(descriptor)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino, status.st_ctime_ns
