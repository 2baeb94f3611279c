"""Comparing bytes with the CRC-32 that a foreign file has of them: of a tensor, or of what a tensor is a part of."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from functools import partial

import numpy as np

from ..formats import Checksum
from ..storage import streams
from ..storage.source import Source
from ..storage.threads import run_on_threads
from .header import Part
from .progress import Progress, silent

_BUFFER_BYTES = 1 << 18
_BYTES_WORTH_A_THREAD = 1 << 22


class Checksums:
    """The checksums in a file, and whether each was found to match. Each is computed once.

    Threads may use it at once, and a signal handler between any two steps of another use: each change of it is one step
    of the interpreter.
    """

    def __init__(self, part: Part) -> None:
        self._source, self._offsets, self._expected = part.source, part.opened.offsets, part.opened.checksums
        self._found: dict[Checksum, bool] = {}

    def matches(self, name: str, array: np.ndarray | None = None, progress: Progress = silent) -> bool:
        """Return True if the bytes that a tensor comes from match their checksum, or have none.

        array: the values of the tensor, whose bytes are then not read again. progress: called with the number of bytes
        read since the last call. Raises EOFError if the file is too short.
        """
        checksum = self._expected.get(name)
        if checksum is None:
            return True
        if checksum not in self._found:
            self._compute(checksum, name, array, progress)
        return self._found[checksum]

    def mismatched(self, arrays: Mapping[str, np.ndarray]) -> list[str]:
        """Return the names of the arrays that come from bytes that do not match their checksum. Use several threads."""
        unknown = {self._expected[name]: name for name in arrays if name in self._expected}
        tasks = [
            partial(self._compute, checksum, name, arrays[name], silent)
            for checksum, name in unknown.items()
            if checksum not in self._found
        ]
        size_bytes = sum(checksum.size_bytes for checksum in unknown)
        run_on_threads(tasks, 1 if size_bytes < _BYTES_WORTH_A_THREAD else None)
        return [name for name in arrays if not self.matches(name)]

    def _compute(self, checksum: Checksum, name: str, array: np.ndarray | None, progress: Progress) -> None:
        start, end = checksum.offset, checksum.offset + checksum.size_bytes
        crc32, place = 0, self._offsets.get(name)
        if array is not None and place is not None:
            memory = streams.memory_of(array)
            crc32 = zlib.crc32(memory, _crc32_of(self._source, start, place, 0, progress))
            start = place + len(memory)
        self._found[checksum] = _crc32_of(self._source, start, end, crc32, progress) == checksum.crc32


def _crc32_of(source: Source, start: int, end: int, crc32: int, progress: Progress) -> int:
    """Continue a CRC-32 with the bytes of a source from `start` up to, but not including, `end`."""
    buffer = memoryview(bytearray(max(0, min(end - start, _BUFFER_BYTES))))
    for place in range(start, end, _BUFFER_BYTES):
        chunk = buffer[: end - place]
        source.read_into(place, chunk)
        crc32 = zlib.crc32(chunk, crc32)
        progress(len(chunk))
    return crc32
