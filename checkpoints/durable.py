"""Replacing a file so that a crash at any moment leaves the old one or the new one, whole.

The new content goes to a temporary file in the same folder, is flushed to the disk, and takes the place of the old file
in one rename, which is then flushed too. Whoever has the old file open or mapped keeps the old content.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from typing import BinaryIO

from .errors import WriteError

# `ls -a .statezoo-*` shows what a killed process left behind.
_TEMPORARY = ".statezoo-{}.tmp"

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
}


@contextlib.contextmanager
def replace(path: str) -> Iterator[BinaryIO]:
    """Give a new, empty binary file that takes the place of path when the block ends without an exception.

    A symbolic link is followed. The permissions are those of the file replaced, or what the umask allows.
    Raises WriteError, with what to do, if the system refuses; after any exception the old file is untouched.
    """
    try:
        target = os.path.realpath(path)
        mode = _mode_of(target)
        temporary = os.path.join(os.path.dirname(target), _TEMPORARY.format(os.urandom(8).hex()))
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        try:
            with open(descriptor, "w+b", buffering=1 << 18) as file:
                if mode is not None:
                    os.chmod(temporary, mode)
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
    except OSError as error:
        if isinstance(error, WriteError):
            raise
        raise _explained(path, error) from error
    _flush_folder(path, os.path.dirname(target))


def _mode_of(target: str) -> int | None:
    """Return the permissions of the file to be replaced, None if there is none."""
    try:
        status = os.stat(target)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(status.st_mode):
        what = "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file"
        raise WriteError(f"{target} is {what}, and nothing was written. Give the name of a file.")
    return stat.S_IMODE(status.st_mode)


def _flush_folder(path: str, folder: str) -> None:
    """Make the rename itself survive a power cut. Where folders cannot be opened (Windows) the system sees to it."""
    if os.name != "posix":
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise WriteError(
            f"{path} was written, but its folder could not be flushed ({(error.strerror or str(error)).lower()}): "
            "after a power cut the old file may be back. Save again, or to another disk.",
            error,
        ) from error


def _explained(path: str, error: OSError) -> WriteError:
    reason = (error.strerror or str(error)).lower()
    advice = _ADVICE.get(error.errno or 0, "Check the path and the disk.")
    return WriteError(f"{path} could not be written: {reason}. What was there before is unchanged.\n{advice}", error)
