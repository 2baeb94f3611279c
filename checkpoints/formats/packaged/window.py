"""Numbers and texts read one after the other from a source, through a window that is small where much is skipped."""

from __future__ import annotations

import struct

from ...storage.source import Source
from ..entries import InvalidError

_LEAST_BYTES, _MOST_BYTES = 1 << 12, 1 << 20


class Window:
    """A position in a range of a source. No read takes more memory than the file has bytes.

    position: in the source. end: of the range. order: "<" for little-endian numbers, ">" for big-endian ones.
    Every read raises InvalidError if it would go beyond the end.
    """

    def __init__(self, source: Source, position: int, end: int, order: str = "<") -> None:
        self.position, self.end, self.order = position, end, order
        self._source, self._start, self._content, self._size_bytes = source, position, b"", _LEAST_BYTES
        self._structs: dict[str, struct.Struct] = {}

    def number(self, kind: str) -> int | float | bool:
        """Return the next number of a kind, a letter of the module struct."""
        if kind not in self._structs:
            self._structs[kind] = struct.Struct(self.order + kind)
        unpacked = self._structs[kind]
        return unpacked.unpack(self.read(unpacked.size))[0]

    def small(self) -> int:
        """Return the next byte if it is below 128 and in the window, else -1 without moving: most numbers are small."""
        place = self.position - self._start
        if 0 <= place < len(self._content) and self._content[place] < 0x80:
            self.position += 1
            return self._content[place]
        return -1

    def read(self, size_bytes: int) -> bytes:
        """Return the next bytes."""
        place = self.position - self._start
        self.skip(size_bytes)
        if not 0 <= place <= len(self._content) - size_bytes:
            is_next = 0 <= place <= len(self._content)
            self._size_bytes = min(2 * self._size_bytes, _MOST_BYTES) if is_next else _LEAST_BYTES
            self._start, place = self.position - size_bytes, 0
            count = min(max(size_bytes, self._size_bytes), self.end - self._start)
            self._content = self._source.read(self._start, count)
        return self._content[place : place + size_bytes]

    def skip(self, size_bytes: int) -> None:
        """Move the position forward."""
        if not 0 <= size_bytes <= self.end - self.position:
            raise InvalidError(f"something at byte {self.position:,} reaches beyond the end of what holds it")
        self.position += size_bytes
