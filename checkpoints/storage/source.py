"""The source of a checkpoint: a file by its path, bytes in memory, or an open binary file.

Every read gives its offset, so several threads can read at once.
"""

from __future__ import annotations

import errno
import io
import mmap
import operator
import os
import stat
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Protocol, cast

from ..errors import ADVICE_AT_LIMITS, ArgumentError, MissingFileError, ReadError
from .identity import Identity

# A pipe that takes the place of a file is not waited for.
_FLAGS = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_MOST_BUFFERS = 1024  # in one call of preadv on Linux (IOV_MAX)
# An interrupt waits for the end of a call that copies. Each call but the first begins at a multiple of this in the new
# file: Linux copies aligned pages in large groups, which takes a third less time.
_COPIED_BYTES = 1 << 24


class Source(Protocol):
    """Bytes that can be read at any offset. name: for messages. size_bytes: the size of the whole."""

    name: str
    size_bytes: int

    def read_into(self, offset: int, *buffers: memoryview) -> None:
        """Fill contiguous buffers, one after the other, from an offset. Raises EOFError if there are too few bytes."""
        ...

    def read(self, offset: int, size_bytes: int) -> bytes:
        """Return `size_bytes` bytes from an offset. Raises EOFError if there are fewer."""
        ...

    def memory(self, copy_on_write: bool) -> memoryview:
        """Return all bytes as memory, mapped if possible, read-only unless copy_on_write."""
        ...

    def close(self) -> None:
        """Close what is open. Memory that was returned before stays valid."""
        ...


class FileLike(Source, Protocol):
    """A source whose bytes the system can copy to another file on its own. identity: that of the file when opened."""

    identity: Identity

    def copy_to(self, descriptor: int, offset: int, size_bytes: int, place: int) -> int:
        """Copy bytes from an offset to a place in another file, within the system: it may share their blocks.

        Return how many were copied: fewer if the system refuses.
        """
        ...


def source_of(file: Any) -> Source:
    """Return the source for a path (str or os.PathLike), bytes in memory, or an open file.

    Raises MissingFileError, ReadError, or ArgumentError for any other type.
    """
    if isinstance(file, str | os.PathLike):
        return FileSource(os.fsdecode(file))
    if isinstance(file, bytes | bytearray | memoryview):
        return MemorySource(memoryview(file).cast("B"), f"<{memoryview(file).nbytes:,} bytes>")
    if hasattr(file, "read"):
        return _of_open_file(file)
    raise ArgumentError(
        "a checkpoint is read from a path (str or os.PathLike), from bytes, or from a file open for reading in binary "
        f"mode, not from {type(file).__name__}."
    )


def _of_open_file(file: Any) -> Source:
    """Return a source of the bytes of an open file, from its current position to its end."""
    name = getattr(file, "name", None)
    name = name if isinstance(name, str) else f"<{type(file).__name__}>"
    if isinstance(file, io.TextIOBase):
        raise ArgumentError(f"{name} is open in text mode. Open it with mode 'rb'.")
    try:
        content = file.read()
    except OSError as error:
        raise ReadError(f"{name} could not be read: {error.strerror or error}. Check the file.", error) from error
    if not isinstance(content, bytes):
        raise ArgumentError(
            f"{name} gives {type(content).__name__} when it is read, not bytes. Open it with mode 'rb'."
        )
    return MemorySource(memoryview(content), name)


def bytes_of(buffer: memoryview) -> memoryview:
    """Return a contiguous buffer as a buffer of bytes, which an empty one cannot be cast to."""
    return buffer.cast("B") if buffer.nbytes else memoryview(b"")


class MemorySource:
    """Bytes in memory."""

    def __init__(self, content: memoryview, name: str) -> None:
        self.name, self.size_bytes, self._content = name, len(content), content

    def read_into(self, offset: int, *buffers: memoryview) -> None:
        """Fill contiguous buffers, one after the other, from an offset. Raises EOFError if there are too few bytes."""
        for buffer in filter(None, map(bytes_of, buffers)):
            buffer[:] = self._part(offset, len(buffer))
            offset += len(buffer)

    def read(self, offset: int, size_bytes: int) -> bytes:
        """Return `size_bytes` bytes from an offset. Raises EOFError if there are fewer."""
        return bytes(self._part(offset, size_bytes))

    def _part(self, offset: int, size_bytes: int) -> memoryview:
        part = self._content[offset : offset + size_bytes]
        if len(part) < size_bytes:
            raise EOFError
        return part

    def memory(self, copy_on_write: bool) -> memoryview:
        """Return the bytes themselves, or a copy that may be written to."""
        return memoryview(bytearray(self._content)) if copy_on_write else self._content.toreadonly()

    def close(self) -> None:
        """Do nothing: the memory is the caller's."""


class RangeSource:
    """A range of the bytes of another source, such as a member of an archive, as a source of its own."""

    def __init__(self, whole: Source, start: int, size_bytes: int) -> None:
        self.whole, self.start, self.size_bytes = whole, start, size_bytes
        self.name = whole.name

    def read_into(self, offset: int, *buffers: memoryview) -> None:
        """Fill contiguous buffers, one after the other, from an offset. Raises EOFError if there are too few bytes."""
        if offset + sum(buffer.nbytes for buffer in buffers) > self.size_bytes:
            raise EOFError
        self.whole.read_into(self.start + offset, *buffers)

    def read(self, offset: int, size_bytes: int) -> bytes:
        """Return `size_bytes` bytes from an offset. Raises EOFError if there are fewer."""
        if offset + size_bytes > self.size_bytes:
            raise EOFError
        return self.whole.read(self.start + offset, size_bytes)

    def memory(self, copy_on_write: bool) -> memoryview:
        """Return the bytes as memory. Raises EOFError if the source has become shorter."""
        part = self.whole.memory(copy_on_write)[self.start : self.start + self.size_bytes]
        if len(part) < self.size_bytes:
            raise EOFError
        return part

    def close(self) -> None:
        """Do nothing: the other source belongs to the caller."""


class FileSource:
    """A regular file. It stays the same file even if another file is renamed to its path."""

    def __init__(self, path: str) -> None:
        self._opened: list[int] = []
        self.name = path
        self._reading = threading.RLock()  # a signal handler may interrupt the thread that has it
        try:
            # Opening a device may have effects, such as rewinding a tape. One that appears meanwhile is refused below.
            status = os.stat(path)
            if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):
                # In one C call: an interrupt between the system call and an assignment would lose the descriptor.
                self._opened.extend(map(os.open, (path,), (_FLAGS,)))
                status = os.fstat(self.descriptor)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise MissingFileError(f"there is no file {path}. Check the path{_relative_to()}.", error) from error
        except (OSError, ValueError) as error:
            self.close()
            cause = error if isinstance(error, OSError) else None
            reason = (error.strerror or error) if isinstance(error, OSError) else error
            advice = ADVICE_AT_LIMITS.get(cause.errno or 0 if cause else 0, "Check the path and its permissions.")
            raise ReadError(f"{path!r} cannot be opened: {reason}. {advice}", cause) from error
        except BaseException:  # an interrupt, whose traceback keeps this object alive
            self.close()
            raise
        if not stat.S_ISREG(status.st_mode):
            self.close()
            what = "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file"
            raise ReadError(f"{path} is {what}. Give the path of a checkpoint file.")
        self.size_bytes, self.identity = status.st_size, Identity.of(status)
        self._written = status.st_size, status.st_mtime_ns

    def has_changed(self) -> bool:
        """Return True if bytes were written to the file, or cut off, since it was opened. It must be open."""
        status = os.fstat(self.descriptor)
        return (status.st_size, status.st_mtime_ns) != self._written

    @property
    def descriptor(self) -> int:
        """The descriptor, or -1 after close()."""
        return next(iter(self._opened), -1)

    def __del__(self) -> None:
        if getattr(self, "_opened", None):  # not if the constructor was interrupted in its first line
            self.close()

    def copy_to(self, descriptor: int, offset: int, size_bytes: int, place: int) -> int:
        """Copy bytes from an offset to a place in another file, within the system: it may share their blocks.

        Return how many were copied: fewer if the system refuses, as between two file systems, or if there are fewer.
        """
        copied = 0
        with suppress(OSError, AttributeError):  # only Linux has the call
            while copied < size_bytes:
                most = min(size_bytes - copied, _COPIED_BYTES - (place + copied) % _COPIED_BYTES)
                count = os.copy_file_range(self.descriptor, descriptor, most, offset + copied, place + copied)
                if not count:
                    break
                copied += count
        return copied

    def read_into(self, offset: int, *buffers: memoryview) -> None:
        """Fill contiguous buffers, one after the other, from an offset, in few system calls.

        Raises EOFError if there are too few bytes, ReadError if the system refuses.
        """
        for start in range(0, len(buffers), _MOST_BUFFERS):
            some = buffers[start : start + _MOST_BUFFERS]
            wanted = sum(buffer.nbytes for buffer in some)
            if self._read_some(offset, some) < wanted:
                self._read_piecemeal(offset, some)
            offset += wanted

    def _read_piecemeal(self, offset: int, buffers: Sequence[memoryview]) -> None:
        """Fill buffers from a system that returns fewer bytes per call than requested."""
        for buffer in filter(None, map(bytes_of, buffers)):
            while buffer:
                count = self._read_some(offset, [buffer])
                if not count:
                    raise EOFError
                offset, buffer = offset + count, buffer[count:]

    def _read_some(self, offset: int, buffers: Sequence[memoryview]) -> int:
        """Return how many bytes from an offset were read into the first buffers."""
        if not hasattr(os, "preadv"):
            part = self._read_piece(offset, buffers[0].nbytes)
            bytes_of(buffers[0])[: len(part)] = part
            return len(part)
        try:
            return os.preadv(self.descriptor, buffers, offset)
        except OSError as error:
            raise self._refused(error) from error

    def _read_piece(self, offset: int, size_bytes: int) -> bytes:
        """Return up to that many bytes from an offset."""
        try:
            if hasattr(os, "preadv"):
                return os.pread(self.descriptor, size_bytes, offset)
            return self._seek_and_read(offset, size_bytes)
        except OSError as error:
            raise self._refused(error) from error

    def _refused(self, error: OSError) -> ReadError:
        return ReadError(f"{self.name} could not be read: {error.strerror or error}. Check the disk.", error)

    def _seek_and_read(self, offset: int, size_bytes: int) -> bytes:
        """Return up to that many bytes from an offset, on a system without preadv (Windows).

        A signal handler of this thread may read, too, but not between the two calls: they are one call of C code.
        """
        calls = partial(os.lseek, self.descriptor, offset, os.SEEK_SET), partial(os.read, self.descriptor, size_bytes)
        with self._reading:
            return cast(bytes, list(map(operator.call, calls))[1])

    def read(self, offset: int, size_bytes: int) -> bytes:
        """Return bytes from an offset. Raises EOFError if there are fewer, ReadError if the system refuses."""
        # Checked first, since a damaged file can ask for any number.
        if offset + size_bytes > self.size_bytes:
            raise EOFError
        pieces = []
        while size_bytes:
            piece = self._read_piece(offset, size_bytes)
            if not piece:
                raise EOFError
            pieces.append(piece)
            offset, size_bytes = offset + len(piece), size_bytes - len(piece)
        return b"".join(pieces)  # without a copy if there is one piece

    def memory(self, copy_on_write: bool) -> memoryview:
        """Return the file mapped into memory; what is written to it (copy_on_write) stays in memory.

        Raises EOFError if it has become shorter, ReadError if the system refuses.
        """
        if not self.size_bytes:
            return memoryview(b"")
        access = mmap.ACCESS_COPY if copy_on_write else mmap.ACCESS_READ
        try:
            return memoryview(mmap.mmap(self.descriptor, self.size_bytes, access=access))
        except ValueError as error:
            if os.fstat(self.descriptor).st_size < self.size_bytes:
                raise EOFError from error
            raise ReadError(f"{self.name} cannot be mapped into memory: {error}. Load it without mmap.") from error
        except OSError as error:
            advice = ADVICE_AT_LIMITS[errno.EMFILE] if error.errno == errno.EMFILE else "Load it without mmap."
            raise ReadError(f"{self.name} cannot be mapped into memory: {error.strerror}. {advice}", error) from error

    def close(self) -> None:
        """Close the file. What is mapped stays mapped."""
        # In one C call, as above. IndexError: the list is empty. OSError: nothing was written that could be lost.
        with suppress(IndexError, OSError):
            deque(map(os.close, iter(self._opened.pop, None)), maxlen=0)


def _relative_to() -> str:
    try:
        return f"; it is relative to {os.getcwd()}"
    except OSError:  # the current folder has been removed
        return ""
