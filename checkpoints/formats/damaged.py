"""What the readers of damaged files share.

The readers of the formats stay strict. They are given a source in which the damaged part is corrected, or which has the
size that its header states.
"""

from __future__ import annotations

from ..storage.source import Source, bytes_of


def notes_on_size(source: Source, size_bytes: int) -> list[str]:
    """Return a note if a file is shorter or longer than when it was written."""
    if source.size_bytes < size_bytes:
        return [f"it was cut off: {size_bytes:,} bytes were written, and {source.size_bytes:,} are there"]
    if source.size_bytes > size_bytes:
        return [f"{source.size_bytes - size_bytes:,} bytes after its end were left out"]
    return []


class Spliced:
    """A source cut or extended to a given size, followed by other bytes. The extension cannot be read."""

    def __init__(self, source: Source, head_bytes: int, tail: bytes = b"") -> None:
        self._source, self._head_bytes, self._tail = source, head_bytes, tail
        self.name, self.size_bytes = source.name, head_bytes + len(tail)

    def read_into(self, offset: int, *buffers: memoryview) -> None:
        """Fill contiguous buffers, one after the other, from an offset. Raises EOFError if there are too few bytes."""
        for buffer in filter(None, map(bytes_of, buffers)):
            self._fill(offset, buffer)
            offset += len(buffer)

    def _fill(self, offset: int, buffer: memoryview) -> None:
        count = max(0, min(len(buffer), self._head_bytes - offset))
        self._source.read_into(offset, buffer[:count])
        rest = self._tail[max(0, offset - self._head_bytes) :][: len(buffer) - count]
        if len(rest) < len(buffer) - count:
            raise EOFError
        buffer[count:] = rest

    def read(self, offset: int, size_bytes: int) -> bytes:
        """Return `size_bytes` bytes from an offset. Raises EOFError if there are fewer."""
        if size_bytes > self._source.size_bytes + len(self._tail):
            raise EOFError
        buffer = bytearray(size_bytes)
        self.read_into(offset, memoryview(buffer))
        return bytes(buffer)

    def memory(self, copy_on_write: bool) -> memoryview:
        """Return all bytes, in new memory."""
        content = self.read(0, self.size_bytes)
        return memoryview(bytearray(content) if copy_on_write else content)

    def close(self) -> None:
        """Close the source."""
        self._source.close()
