"""Reading parts of stored tensors, and checking the blocks that they touch."""

from __future__ import annotations

from binascii import a2b_base64
from collections.abc import Mapping

from ..errors import CorruptError
from ..state.digests import BYTES, LEAST_BLOCK_BYTES, Hasher, block_bytes_of
from ..state.manifest import counts_of
from ..storage.source import Source
from .header import Part
from .progress import Progress, silent

_BUFFER_BYTES = 1 << 18


class BlockChecks:
    """The digests of the blocks of the tensors in a file, and which of these blocks need no second check.

    digests: those of the tensors. Threads may use it at once, and a signal handler between any two steps of another
    use: each change of it is one step of the interpreter.
    """

    def __init__(self, part: Part, digests: Mapping[str, str]) -> None:
        self._part, self._digests = part, digests
        self._expected: dict[str, bytes] = {}
        self._checked: dict[str, bytearray] = {}  # a byte for each block: 1 if it was checked
        self._places: dict[str, tuple[int, int]] | None = None

    def expected(self, name: str) -> bytes:
        """Return the digests of the blocks of a tensor from the file, or nothing if the file does not have them.

        Raises CorruptError if they are not valid.
        """
        if name not in self._expected:
            self._expected[name] = self._find(name)
        return self._expected[name]

    def _find(self, name: str) -> bytes:
        manifest, tensors = self._part.manifest, self._part.opened.tensors
        if manifest is None or name not in self._digests:
            return b""
        if tensors[name].size_bytes <= LEAST_BLOCK_BYTES:
            return bytes.fromhex(self._digests[name])
        if self._places is None:
            self._places = _places_in(counts_of(tensors) if manifest.blocks else {})
        start, end = self._places.get(name, (0, 0))
        # Three bytes are four characters: the text is decoded from a border between such groups to another.
        text = manifest.blocks[start // 3 * 4 : -(-end // 3) * 4]
        try:
            return a2b_base64(text.encode(), strict_mode=True)[start % 3 :][: end - start] if text else b""
        except ValueError as error:
            raise CorruptError(
                f"{self._part.source.name} is damaged: the digests of the blocks of tensor {name!r:.200} are not what "
                "was written. Use another copy of the file.",
                (name,),
            ) from error

    def read(self, name: str, offset: int, buffer: memoryview) -> bool:
        """Fill a buffer from an offset in a tensor. Read the rest of the blocks that it touches, and check these.

        Return False if one of them is damaged.
        """
        source, size_bytes = self._part.source, self._part.opened.tensors[name].size_bytes
        start, expected, block_bytes = self._part.opened.offsets[name], self.expected(name), block_bytes_of(size_bytes)
        first, end = offset // block_bytes, -(-(offset + len(buffer)) // block_bytes)
        checked = self._checked.setdefault(name, bytearray(len(expected) // BYTES))
        if all(checked[first:end]):
            source.read_into(start + offset, buffer)
            return True
        hasher = Hasher(block_bytes)
        hash_range(source, hasher, start + first * block_bytes, start + offset)
        source.read_into(start + offset, buffer)
        hasher.update(buffer)
        hash_range(source, hasher, start + offset + len(buffer), start + min(end * block_bytes, size_bytes))
        if hasher.blocks() != expected[BYTES * first : BYTES * end]:
            return False
        checked[first:end] = bytes([1]) * (end - first)
        return True


def _places_in(counts: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """Return where the digests of the blocks of each tensor begin and end among all of them."""
    places, end = {}, 0
    for name, count in counts.items():
        start, end = end, end + BYTES * count
        places[name] = start, end
    return places


def hash_range(source: Source, hasher: Hasher, start: int, end: int, progress: Progress = silent) -> None:
    """Hash the bytes of a source from `start` up to, but not including, `end`, through a small buffer.

    progress: called with the number of bytes read since the last call.
    """
    buffer = memoryview(bytearray(min(end - start, _BUFFER_BYTES)))
    for place in range(start, end, _BUFFER_BYTES):
        chunk = buffer[: end - place]
        source.read_into(place, chunk)
        hasher.update(chunk)
        progress(len(chunk))
