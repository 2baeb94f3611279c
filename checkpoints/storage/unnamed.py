"""A temporary file without a name: nothing is left of it, even if the process is killed."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from .forks import OwnFile

_READ_BYTES = 1 << 20
_NAMELESS = getattr(os, "O_TMPFILE", 0)  # Linux
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_TEMPORARY", 0)
# What file systems and kernels that do not know O_TMPFILE answer.
_UNKNOWN = (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL)


@contextmanager
def unnamed(folder: str) -> Iterator[int]:
    """Yield the descriptor of an empty file in `folder`. It is closed when the block ends. Raises OSError."""
    file = OwnFile()
    try:
        if not (_NAMELESS and _open_nameless(file, folder)):
            path = os.path.join(folder, f".statezoo-{secrets.token_hex(16)}.tmp")
            try:
                file.open(path, _NEW, 0o600)
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
