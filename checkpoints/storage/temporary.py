"""Temporary files. If the process is killed, the system removes those without a name, and the next save the others.

Those with a name are `.statezoo-<k>.tmp`, k = 0, 1, ..., whatever the names of their targets. A writer holds a lock on
the one it writes, which the system releases when the process dies. A temporary file without a lock was therefore left
by a dead writer, and the next save in the folder removes it.
"""

from __future__ import annotations

import errno
import itertools
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from . import locks
from .forks import OwnFile

_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
# Anything may be at the name of a leftover: opening it must neither wait nor follow a link.
_LEFT = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
# Writers that have finished leave gaps in the numbers below those of others that are killed.
_MOST_GAPS = 16
_PREFIX = ".statezoo-"
# Up to about a hundred names, which are listed faster than 16 are looked up.
_SMALL_FOLDER_BYTES = 4096
_READ_BYTES = 1 << 20
_NAMELESS = getattr(os, "O_TMPFILE", 0)  # Linux
_REMOVED_ON_CLOSE = getattr(os, "O_TEMPORARY", 0)  # Windows
# What file systems and kernels that do not know O_TMPFILE answer.
_UNKNOWN = (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL)


class Temporary:
    """A temporary file, removed at the latest when the object is freed. Its path is known once it is created."""

    __slots__ = ("file", "path", "process")

    def __init__(self) -> None:
        self.path, self.file, self.process = "", OwnFile(), os.getpid()

    @property
    def descriptor(self) -> int:
        return self.file.number

    def create_in(self, folder: str, replaced: os.stat_result | None) -> None:
        """Create the file in a folder, and remove what dead writers left there. Otherwise as `create`."""
        paths = _temporary_paths(folder)
        for path in paths:
            if self.create(path, replaced) or (remove_dead(path) and self.create(path, replaced)):
                break
        others = [] if _is_alone(self.path, folder) else list(itertools.islice(paths, _MOST_GAPS))
        if any(map(os.access, others, itertools.repeat(os.F_OK))):  # a loop takes as long as the rest of a small save
            for other in others:
                remove_dead(other)

    def create(self, path: str, replaced: os.stat_result | None = None) -> bool:
        """Create the file at `path` and lock it. Return False if one exists.

        It gets the permissions of the file that it replaces, and its owner if this process may set it.
        """
        mode = None if replaced is None else stat.S_IMODE(replaced.st_mode)
        self.path = path
        try:
            self.file.open(path, _NEW, 0o666 if mode is None else mode & 0o777)
        except FileExistsError:
            return False
        locked, status = locks.try_lock(self.descriptor), os.fstat(self.descriptor)
        if locked is False or not status.st_nlink:  # another writer took it for a leftover before it was locked
            self.file.close()
            return False
        if replaced is not None and (replaced.st_uid, replaced.st_gid) != (status.st_uid, status.st_gid):
            _give_to_owner(self.descriptor, replaced)
            status = os.fstat(self.descriptor)  # that may have changed the mode
        if mode is not None and stat.S_IMODE(status.st_mode) != mode:
            os.chmod(self.descriptor if os.chmod in os.supports_fd else path, mode)
        return True

    def is_there(self) -> bool:
        """Return whether the file at the path is the open one: another program may have replaced it."""
        try:
            return locks.fcntl is None or os.path.samestat(os.stat(self.path), os.fstat(self.descriptor))
        except FileNotFoundError:
            return False

    def discard(self) -> None:
        """Remove the file, unless it has been renamed: its old name may belong to another writer by now.

        A forked child leaves it to its parent.
        """
        if self.descriptor < 0:
            return
        with suppress(OSError):
            if locks.fcntl is None:  # Windows removes no open file
                self.file.close()
            if self.process == os.getpid() and self.is_there():
                os.unlink(self.path)
        with suppress(OSError):
            self.file.close()

    def __del__(self) -> None:
        if hasattr(self, "process"):  # an interrupt may have ended __init__
            self.discard()


def _is_alone(path: str, folder: str) -> bool:
    """Return True if the temporary file at `path` is the only one in its folder, and that is soon found out."""
    with suppress(OSError):  # a folder that this process may write to, but not list
        if os.stat(folder).st_size <= _SMALL_FOLDER_BYTES:
            names = os.listdir(folder)
            return os.path.basename(path) in names and "/".join(names).count(_PREFIX) == 1
    return False


def _temporary_paths(folder: str) -> Iterator[str]:
    stem = os.path.join(folder, _PREFIX)
    return (f"{stem}{number}.tmp" for number in itertools.count())


def _give_to_owner(descriptor: int, replaced: os.stat_result) -> None:
    """Keep the owner and group of a file: both if that is allowed (root), otherwise the group, otherwise neither."""
    if hasattr(os, "fchown"):
        try:
            os.fchown(descriptor, replaced.st_uid, replaced.st_gid)
        except OSError:
            with suppress(OSError):
                os.fchown(descriptor, -1, replaced.st_gid)


def remove_dead(path: str) -> bool:
    """Remove the temporary file of a dead writer at path. Return whether there was one."""
    if not os.access(path, os.F_OK):
        return False
    with suppress(OSError), _dead(path) as descriptor:
        if descriptor is not None:
            os.unlink(path)
            return True
    return False


def read_dead(path: str, size_bytes: int) -> bytes | None:
    """Return the first bytes of the temporary file of a dead writer at path. Return None if there is none."""
    with suppress(OSError), _dead(path) as descriptor:
        return None if descriptor is None else os.read(descriptor, size_bytes)
    return None


def remove_leftovers(folder: str) -> None:
    """Remove every temporary file in a folder whose writer has died."""
    gaps = 0
    for path in _temporary_paths(folder):
        gaps = 0 if os.path.lexists(path) else gaps + 1
        if gaps > _MOST_GAPS:
            return
        remove_dead(path)


@contextmanager
def _dead(path: str) -> Iterator[int | None]:
    """Yield the descriptor of a dead writer's temporary file, locked, or None if the file at path is not one."""
    left = OwnFile()
    try:
        left.open(path, _LEFT)
        is_locked = stat.S_ISREG(os.fstat(left.number).st_mode) and locks.try_lock(left.number)
        # A writer that has finished meanwhile has renamed its file, and another may use the name.
        yield left.number if is_locked and os.path.samestat(os.stat(path), os.fstat(left.number)) else None
    finally:
        left.close()


@contextmanager
def unnamed(folder: str) -> Iterator[int]:
    """Yield the descriptor of an empty file in `folder`. It is closed when the block ends. Raises OSError."""
    file = OwnFile()
    try:
        if not (_NAMELESS and _open_nameless(file, folder)):
            path = os.path.join(folder, f".statezoo-{secrets.token_hex(16)}.tmp")
            try:
                file.open(path, _NEW | _REMOVED_ON_CLOSE, 0o600)
            finally:
                with suppress(OSError):  # Windows removes it when it is closed
                    os.unlink(path)
        yield file.number
    finally:
        file.close()


def _open_nameless(file: OwnFile, folder: str) -> bool:
    try:
        file.open(folder, _NAMELESS | os.O_RDWR, 0o600)
    except OSError as error:
        if error.errno not in _UNKNOWN:
            raise
        return False
    return True


def content_of(descriptor: int) -> Iterator[bytes]:
    """Yield the bytes of an open file from its start, in pieces. Raises OSError."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    while content := os.read(descriptor, _READ_BYTES):
        yield content
