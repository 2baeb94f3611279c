"""A file in memory, of which only the parts that were written take space."""

from __future__ import annotations

import os
from collections.abc import Iterator

_PAGE_BYTES = 1 << 12


class MemoryFile:
    """What libhdf5 is given to write to, so that only our own code ever meets a full disk."""

    def __init__(self) -> None:
        self.size_bytes = 0
        self._pages: dict[int, bytearray] = {}
        self._position = 0

    def pieces(self) -> Iterator[tuple[int, bytes]]:
        """Give what was written, as offsets and bytes, ascending."""
        for number in sorted(self._pages):
            start = number * _PAGE_BYTES
            if start < self.size_bytes:
                yield start, bytes(self._pages[number][: self.size_bytes - start])

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a position, counted as in an ordinary file, and return it."""
        self._position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size_bytes}[whence]
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def write(self, data: bytes | memoryview) -> int:
        """Write data at the position and return their number."""
        data = memoryview(data).cast("B")
        written = 0
        while written < len(data):
            number, start = divmod(self._position, _PAGE_BYTES)
            part = data[written : written + _PAGE_BYTES - start]
            self._pages.setdefault(number, bytearray(_PAGE_BYTES))[start : start + len(part)] = part
            self._position += len(part)
            written += len(part)
            self.size_bytes = max(self.size_bytes, self._position)
        return written

    def readinto(self, buffer: memoryview) -> int:
        """Fill buffer from the position, with zeros where nothing was written, and return its length."""
        buffer = memoryview(buffer).cast("B")
        filled = 0
        while filled < len(buffer):
            number, start = divmod(self._position, _PAGE_BYTES)
            length = min(len(buffer) - filled, _PAGE_BYTES - start)
            buffer[filled : filled + length] = self._pages.get(number, bytes(_PAGE_BYTES))[start : start + length]
            self._position += length
            filled += length
        return filled

    def truncate(self, size_bytes: int | None = None) -> int:
        """Make the file as long as told, or up to the position, and return that."""
        self.size_bytes = self._position if size_bytes is None else size_bytes
        last, kept_bytes = divmod(self.size_bytes, _PAGE_BYTES)
        self._pages = {number: page for number, page in self._pages.items() if number <= last}
        if last in self._pages:
            self._pages[last][kept_bytes:] = bytes(_PAGE_BYTES - kept_bytes)
        return self.size_bytes

    def flush(self) -> None:
        """Do nothing: there is no disk."""
