"""Replacing a file so that a crash at any moment leaves the old one or the new one, complete.

The new content goes to a temporary file in the same folder and is flushed to the disk. One rename then replaces the old
file, and the folder is flushed too. A process that has the old file open or mapped keeps the old content.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections import deque
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING

from ..errors import ADVICE_AT_LIMITS, CheckpointError, WriteError
from . import locks
from .forks import OwnFile
from .identity import note_replaced
from .temporary import Temporary

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

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

    A symbolic link is followed. The permissions are those of the file replaced, those of the status that like(target)
    returns if none is replaced, or what the umask allows; the owner is kept where the process may do that. target: the
    absolute path of the file to replace, known in the block.
    durable=False skips fsync: the file is still replaced atomically, but a power cut may lose it.
    Raises WriteError if the system refuses. After any exception the old file is unchanged.
    """

    def __init__(
        self, path: str, durable: bool = True, like: Callable[[str], os.stat_result | None] | None = None
    ) -> None:
        self._path, self._durable, self._like = path, durable, like
        self.target, self._temporary = path, Temporary()

    def __enter__(self) -> int:
        try:
            self.target, replaced = _target_of(self._path)
            if replaced is None and self._like is not None:
                replaced = self._like(self.target)
            self._temporary.create_in(os.path.dirname(self.target), replaced)
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
            flush_folder(self._path, os.path.dirname(self.target))

    def _put(self) -> None:
        descriptor = self._temporary.descriptor
        if self._durable:
            os.fsync(descriptor)
        else:  # a network file system reports a full disk only when a descriptor is closed
            deque(map(os.close, map(os.dup, (descriptor,))), maxlen=0)  # no interrupt in between
        note_replaced(descriptor)
        _put(self._temporary, self.target, self._path)
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


def flush(path: str) -> None:
    """Write what the system still holds of a file or folder to the disk. Raises OSError."""
    opened = OwnFile()
    try:
        opened.open(path, os.O_RDONLY)
        os.fsync(opened.number)
    finally:
        opened.close()


def flush_folder(path: str, folder: str) -> None:
    """Make a rename survive a power cut. Where folders cannot be opened (Windows), the system does it by itself."""
    if os.name != "posix":
        return
    try:
        flush(folder)
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
