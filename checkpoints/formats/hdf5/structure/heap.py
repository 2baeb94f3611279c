"""Texts of variable length, which HDF5 keeps in a global heap: h5py returns these as str, and fixed ones as bytes.

A collection of the heap has the signature `GCOL`, its size, and its objects (number, count of references, size,
content), all at multiples of 8 bytes. It takes at least 4096 bytes; object 0 is the free space at its end.

Source: The HDF Group, "HDF5 File Format Specification Version 3.0", sections III.E, IV.A.2.d and IV.A.2.m.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from struct import Struct, pack

HEAP_START = b"GCOL"
_COLLECTION, _OBJECT = Struct("<4sB3xQ"), Struct("<HH4xQ")
_LEAST_BYTES, _MOST_OBJECTS = 4096, 60_000  # an object has a number of two bytes
_UTF_8_TEXT = pack("<B3BI", 0x19, 1, 1, 0, 16) + pack("<B3BIHH", 0x10, 0, 0, 0, 1, 0, 8)
_SCALAR = pack("<BBB5x", 1, 0, 0)


class Heap:
    """The collections that hold texts. address: where they start. content: their bytes.

    texts: UTF-8; one that occurs several times is stored once.
    """

    def __init__(self, texts: Iterable[bytes], address: int) -> None:
        self._places: dict[bytes, tuple[int, int]] = {}
        self.content = b""
        counts = list(Counter(texts).items())
        for first in range(0, len(counts), _MOST_OBJECTS):
            self.content += self._collection(counts[first : first + _MOST_OBJECTS], address + len(self.content))

    def _collection(self, counts: list[tuple[bytes, int]], address: int) -> bytes:
        objects = bytearray()
        for number, (text, count) in enumerate(counts, 1):
            self._places[text] = address, number
            objects += _OBJECT.pack(number, min(count, 0xFFFF), len(text)) + text + bytes(-len(text) % 8)
        used = _COLLECTION.size + len(objects)
        size = max(_LEAST_BYTES, used + _OBJECT.size)
        objects += _OBJECT.pack(0, 0, size - used)
        return (_COLLECTION.pack(HEAP_START, 1, size) + objects).ljust(size, b"\0")

    def attribute(self, name: bytes, text: bytes) -> bytes:
        """Return the body of an attribute that holds one of the texts."""
        place = pack("<IQI", len(text), *self._places[text])
        head = pack("<BxHHH", 1, len(name) + 1, len(_UTF_8_TEXT), len(_SCALAR))
        return b"".join(part + bytes(-len(part) % 8) for part in (head, name + b"\0", _UTF_8_TEXT, _SCALAR)) + place
