"""The identity of a file: the proof that the file about to be removed is the one that was written or seen.

A name proves nothing: another program may have put its own file there since.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

# How often a reader looks again at what another process replaces meanwhile.
MOST_LOOKS = 100


class Identity(NamedTuple):
    """What tells a file from any other, and from itself after a change. A rename or another hard link keeps it."""

    device: int
    inode: int
    size_bytes: int
    modified_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Identity:
        """Return the identity of the file with this status."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def identity_of(path: str) -> Identity | None:
    """Return the identity of a regular file. Return None for anything else, also for a symbolic link."""
    try:
        return seen_identity_of(path)
    except OSError:
        return None


def seen_identity_of(path: str) -> Identity | None:
    """Return what `identity_of` does, but raise OSError if the system refuses to tell."""
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return Identity.of(status) if stat.S_ISREG(status.st_mode) else None


class _Noting(threading.local):
    def __init__(self) -> None:
        self.notes: dict[int, set[tuple[int, int]]] = {}


_of_thread = _Noting()


@contextmanager
def noting_replaced() -> Iterator[set[tuple[int, int]]]:
    """Yield a set that gets the device and the inode of each file that this thread puts in place.

    All of them: a signal handler may put another file at the same path.
    """
    noted: set[tuple[int, int]] = set()
    _of_thread.notes[id(noted)] = noted
    try:
        yield noted
    finally:
        _of_thread.notes.pop(id(noted), None)


def note_replaced(descriptor: int) -> None:
    """Note the open file that is about to be renamed to its place."""
    for noted in list(_of_thread.notes.values()):
        status = os.fstat(descriptor)
        noted.add((status.st_dev, status.st_ino))


def identities_in(folder: str) -> dict[str, Identity]:
    """Return the identities of the regular files in a folder, by name. Empty if it cannot be read."""
    found: dict[str, Identity] = {}
    with suppress(OSError), os.scandir(folder) as entries:
        for name in [entry.name for entry in entries]:
            identity = identity_of(os.path.join(folder, name))
            if identity is not None:
                found[name] = identity
    return found


def remove(path: str, identity: Identity, aside: str) -> bool:
    """Remove the file at `path` if it has this identity. Return True if it is removed. Raises OSError.

    aside: an unused path in the same folder. The file is renamed to it first, so that no other file can take its place
    between the comparison and the removal.
    """
    if seen_identity_of(path) != identity:
        return False
    os.rename(path, aside)
    try:
        if seen_identity_of(aside) == identity:
            os.unlink(aside)
            return True
    except OSError:
        _put_back(aside, path)
        raise
    _put_back(aside, path)
    return False


def _put_back(aside: str, path: str) -> None:
    """Undo a rename, unless another program has put something at `path` meanwhile: that replaces what was there."""
    try:
        os.link(aside, path, follow_symlinks=False)
    except FileExistsError:
        pass
    except OSError:  # a folder, or a file system without hard links
        if not os.path.lexists(path):
            os.rename(aside, path)
        return
    os.unlink(aside)
