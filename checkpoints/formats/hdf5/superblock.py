"""The superblock of an HDF5 file: how large the file was when it was written, and whether a program is writing to it.

It starts with the signature, at the start of the file or after a user block. Then come, at these offsets:

    version                 0, 1    2, 3
    bytes of an address     13      9
    flags                           11, of which 1 and 4 are set while the file is open for writing (version 3)
    addresses               24, 28  12, the third of which is that of the end of the file

Source: The HDF Group, "HDF5 File Format Specification Version 3.0", section II.A.
"""

from __future__ import annotations

import errno

from ...errors import CorruptError, ReadError
from ...storage.source import FileSource, Source
from . import start_of

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_MOST_BYTES = 96
_ADDRESSES = {0: 24, 1: 28, 2: 12, 3: 12}
_OPEN_FOR_WRITING = 1 | 4


def written_size_of(source: Source) -> int:
    """Return the size that a file had when it was written, or 0 if its superblock does not say."""
    head = _superblock(source)
    version = head[8] if len(head) > 14 else -1
    if version not in _ADDRESSES:
        return 0
    address_bytes = head[13] if version < 2 else head[9]
    place = _ADDRESSES[version] + 2 * address_bytes
    return int.from_bytes(head[place : place + address_bytes], "little") if address_bytes in (2, 4, 8) else 0


def refuse_open(source: Source) -> None:
    """Raise ReadError if another program has the file open for writing, CorruptError if one ended while it had."""
    if _is_locked(source):
        raise ReadError(
            f"{source.name} is open for writing in another program, so its values can change at any moment. Wait until "
            "it is closed there."
        )
    head = _superblock(source)
    if head[8:9] == b"\3" and head[11] & _OPEN_FOR_WRITING:
        raise CorruptError(
            f"{source.name} was not closed by the program that writes it, so it can be incomplete. Close it there. If "
            "that program has ended, save what is intact with repair, or remove the mark with `h5clear --status`."
        )


def _is_locked(source: Source) -> bool:
    """Return True if a writer has locked the file, as libhdf5 does."""
    if fcntl is None or not isinstance(source, FileSource):
        return False
    try:
        fcntl.flock(source.descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        fcntl.flock(source.descriptor, fcntl.LOCK_UN)  # a reader must not make a program fail that wants to save
    except OSError as error:  # some file systems have no locks
        return error.errno in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)
    return False


def _superblock(source: Source) -> bytes:
    start = start_of(source)
    return b"" if start is None else source.read(start, min(_MOST_BYTES, source.size_bytes - start))
