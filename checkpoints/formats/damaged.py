"""Reading damaged files, so that their intact tensors can be saved.

The readers of the formats stay strict. They are given a source in which the damaged part is corrected, or which has the
size that its header states. A safetensors file with an intact header may be shorter or longer than the header says. If
the manifest is damaged, names, dtypes and shapes come from the header, and no tensor can be checked.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ..errors import CorruptError
from ..state.manifest import FORMAT
from ..storage.source import Source, bytes_of
from . import Salvaged
from .entries import InvalidError, parsed
from .safetensors_ import PYTORCH, read_header

_NO_MANIFEST = (
    "its header is damaged: nothing can be checked, not even names and shapes, and views and extra state are lost"
)


def salvage_safetensors(source: Source) -> Iterator[Salvaged]:
    """Yield the content of the header with its manifest, then without. Raises CorruptError if it is not valid JSON."""
    try:
        length = int.from_bytes(source.read(0, 8), "little")
        header = parsed(source.read(8, length).rstrip(b"\0"))
        header.pop("__metadata__", None)
        size_bytes = 8 + length + max((entry["data_offsets"][1] for entry in header.values()), default=0)
    except (InvalidError, EOFError, LookupError, TypeError) as error:
        raise CorruptError(f"the header of {source.name} is damaged.") from error
    spliced = Spliced(source, size_bytes)
    opened, broken = read_header(spliced)
    notes = [*notes_on_size(source, size_bytes), *broken]
    yield Salvaged(spliced, opened, notes)
    metadata = {key: value for key, value in opened.metadata.items() if key not in opened.ties}
    if metadata.get(FORMAT) == PYTORCH:  # what a save adds
        del metadata[FORMAT]
    bare = replace(opened, metadata=metadata, manifest=None)
    yield Salvaged(spliced, bare, [*notes, _NO_MANIFEST], whole=False)


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
