"""Replacing a file so that a crash at any moment leaves the old one or the new one, complete.

The new content goes to a temporary file in the same folder and is flushed to the disk. One rename then replaces the old
file, and the folder is flushed too. A process that has the old file open or mapped keeps the old content.

The temporary files in a folder are `.statezoo-<k>.tmp`, k = 0, 1, ..., whatever the names of their targets. A writer
holds a lock on the one it writes, which the system releases when the process dies. A temporary file without a lock was
therefore left by a dead writer, and the next save in the folder removes it.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import stat
from collections import deque
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING

from ..errors import ADVICE_AT_LIMITS, CheckpointError, WriteError
from . import locks
from .forks import OwnFile
from .identity import note_replaced

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
# Anything may be at the name of a leftover: opening it must neither wait nor follow a link.
_LEFT = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
# Writers that have finished leave gaps in the numbers below those of others that are killed.
_MOST_GAPS = 16
# Some systems refuse to write 2 GiB at a time.
_MOST_BYTES = 1 << 30

_ADVICE = {
    errno.ENOSPC: "The disk is full: free some space, or save to another one.",
    errno.EDQUOT: "Your quota on this disk is used up: free some space, or save to another one.",
    errno.EFBIG: "The file would be larger than this system or its limits (ulimit -f) allow.",
    errno.EROFS: "The file system is read-only: save to another folder.",
    errno.EACCES: "You may not write in this folder: save to another one, or change its permissions.",
    errno.EPERM: "You may not write in this folder: save to another one, or change its permissions.",
    errno.ENOENT: "The folder does not exist: create it first.",
    errno.ENOTDIR: "A part of the path is a file, not a folder: check the path.",
    errno.EISDIR: "The path is a folder: give the name of a file.",
    errno.ENAMETOOLONG: "The name is too long for this file system: choose a shorter one.",
    errno.ELOOP: "The path is a symbolic link that leads back to itself: remove it.",
    errno.EINTR: "A signal came in between: save again.",
    **ADVICE_AT_LIMITS,
}
_MOUNTED = "Something is mounted at this very path, so no file can take its place: save to another path in the folder."
# Why the rename alone was refused, after all else went well.
_RENAME_ADVICE = {
    errno.EBUSY: _MOUNTED,
    errno.EXDEV: _MOUNTED,
    errno.EPERM: "The file is protected, or another user's in a folder where only owners replace files (such as /tmp): "
    "save under another name.",
}


class NotFlushedError(WriteError):
    """A file that was written, but a power cut may undo it. reason: why its folder could not be flushed."""

    @property
    def reason(self) -> str:
        return os.strerror(self.errno or errno.EIO).lower()


class replace:  # used as a function
    """Yield the descriptor of an empty file that replaces `path` if the `with` block succeeds.

    A symbolic link is followed. The permissions are those of the file replaced, of the file with the status `like` if
    none is replaced, or what the umask allows; the owner is kept where the process may do that.
    durable=False skips fsync: the file is still replaced atomically, but a power cut may lose it.
    Raises WriteError if the system refuses. After any exception the old file is unchanged.
    """

    def __init__(self, path: str, durable: bool = True, like: os.stat_result | None = None) -> None:
        self._path, self._durable, self._like = path, durable, like
        self._target, self._temporary = path, Temporary()

    def __enter__(self) -> int:
        try:
            self._target, replaced = _target_of(self._path)
            self._temporary.create_in(os.path.dirname(self._target), replaced or self._like)
            return self._temporary.descriptor
        except BaseException as error:
            self._temporary.discard()
            self._explain(error)
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._put()
            else:
                self._explain(error)
        except BaseException as refusal:
            self._explain(refusal)
            raise
        finally:
            try:
                self._temporary.discard()
            finally:  # an interrupt may have ended the first attempt
                self._temporary.discard()
        if error is None and self._durable:
            flush_folder(self._path, os.path.dirname(self._target))

    def _put(self) -> None:
        descriptor = self._temporary.descriptor
        if self._durable:
            os.fsync(descriptor)
        else:  # a network file system reports a full disk only when a descriptor is closed
            deque(map(os.close, map(os.dup, (descriptor,))), maxlen=0)  # no interrupt in between
        note_replaced(descriptor)
        _put(self._temporary, self._target, self._path)
        with contextlib.suppress(OSError):
            self._temporary.file.close()

    def _explain(self, error: BaseException) -> None:
        """Raise a WriteError for an error of the system. A forked child meets some, as its copy is no file."""
        if isinstance(error, OSError) and not isinstance(error, CheckpointError):
            refuse_forked(self._path, self._temporary.process)
            raise _explained(self._path, error, _ADVICE) from error


def write_all(descriptor: int, buffer: ReadableBuffer, offset: int) -> None:
    """Write the bytes of a C-contiguous buffer at an offset of a file, in as many calls as the system needs.

    Raises OSError, which `replace` turns into a WriteError.
    """
    view = memoryview(buffer)
    if not view.nbytes:
        return
    view = view.cast("B")
    while view:
        count = _write_at(descriptor, view[:_MOST_BYTES], offset)
        if not count:
            raise OSError(errno.EIO, "The system takes no more bytes")
        view, offset = view[count:], offset + count


def _seek_and_write(descriptor: int, view: memoryview, offset: int) -> int:
    os.lseek(descriptor, offset, os.SEEK_SET)
    return os.write(descriptor, view)


_write_at = getattr(os, "pwrite", _seek_and_write)  # Windows has no pwrite


def _target_of(path: str) -> tuple[str, os.stat_result | None]:
    """Return the absolute path of the file to replace, and its status, or None if there is no such file."""
    target = path if os.path.isabs(path) else os.path.join(os.getcwd(), path)
    try:
        status = os.lstat(target)
        if stat.S_ISLNK(status.st_mode):
            target = os.path.realpath(target)
            status = os.stat(target)
    except FileNotFoundError:
        return target, None
    if not stat.S_ISREG(status.st_mode):
        what = "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file"
        raise WriteError(f"{target} is {what}, and nothing was written. Give the name of a file.")
    return target, status


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
        for path in itertools.islice(paths, _MOST_GAPS):
            remove_dead(path)

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
        if mode is not None and stat.S_IMODE(os.fstat(self.descriptor).st_mode) != mode:
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
        with contextlib.suppress(OSError):
            if locks.fcntl is None:  # Windows removes no open file
                self.file.close()
            if self.process == os.getpid() and self.is_there():
                os.unlink(self.path)
        with contextlib.suppress(OSError):
            self.file.close()

    def __del__(self) -> None:
        if hasattr(self, "process"):  # an interrupt may have ended __init__
            self.discard()


def _temporary_paths(folder: str) -> Iterator[str]:
    stem = os.path.join(folder, ".statezoo-")
    return (f"{stem}{number}.tmp" for number in itertools.count())


def _give_to_owner(descriptor: int, replaced: os.stat_result) -> None:
    """Keep the owner and group of a file: both if that is allowed (root), otherwise the group, otherwise neither."""
    if hasattr(os, "fchown"):
        try:
            os.fchown(descriptor, replaced.st_uid, replaced.st_gid)
        except OSError:
            with contextlib.suppress(OSError):
                os.fchown(descriptor, -1, replaced.st_gid)


def remove_dead(path: str) -> bool:
    """Remove the temporary file of a dead writer at path. Return whether there was one."""
    if not os.access(path, os.F_OK):
        return False
    with contextlib.suppress(OSError), _dead(path) as descriptor:
        if descriptor is not None:
            os.unlink(path)
            return True
    return False


def read_dead(path: str, size_bytes: int) -> bytes | None:
    """Return the first bytes of the temporary file of a dead writer at path. Return None if there is none."""
    with contextlib.suppress(OSError), _dead(path) as descriptor:
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


@contextlib.contextmanager
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


def _put(temporary: Temporary, target: str, path: str) -> None:
    """Rename a finished temporary file to target; path is for messages."""
    refuse_forked(path, temporary.process)
    if not temporary.is_there():
        raise WriteError(
            f"{path} could not be written: its temporary file {temporary.path} was removed meanwhile, by a program "
            "that clears such files or by a writer on another machine. What was there before is unchanged.\nSave again."
        )
    if locks.fcntl is None:  # Windows renames no open file
        temporary.file.close()
    try:
        os.replace(temporary.path, target)
    except OSError as error:
        raise _explained(path, error, _ADVICE | _RENAME_ADVICE) from error


def refuse_forked(path: str, process: int) -> None:
    """Raise WriteError unless this is the process that began to write `path`."""
    if process != os.getpid():
        raise WriteError(
            f"{path} was not written: this process was forked from the one that is saving it, which goes on.\n"
            "Save again in this process if you need to."
        )


def flush_folder(path: str, folder: str) -> None:
    """Make a rename survive a power cut. Where folders cannot be opened (Windows), the system does it by itself."""
    if os.name != "posix":
        return
    try:
        opened = OwnFile()
        try:
            opened.open(folder, os.O_RDONLY)
            os.fsync(opened.number)
        finally:
            opened.close()
    except OSError as error:
        raise NotFlushedError(
            f"{path} was written, but its folder could not be flushed ({(error.strerror or str(error)).lower()}): "
            "after a power cut the old file may be back. Save again, or to another disk.",
            error,
        ) from error


def _explained(path: str, error: OSError, table: Mapping[int, str]) -> WriteError:
    reason = (error.strerror or str(error)).lower()
    advice = table.get(error.errno or 0, "Check the path and the disk.")
    return WriteError(f"{path} could not be written: {reason}. What was there before is unchanged.\n{advice}", error)
