"""Opening a file that is damaged outside of its tensors, so that these can be saved.

The readers of formats are strict, and stay so: they are given a source in which what is damaged is put right, or has
the size that its header promises. Nothing is believed that they would not believe of another file, but that

- a safetensors file whose header is whole may be shorter or longer than that says;
- an HDF5 file of ours may have any structure, if its index is found; or lack the index, if its structure is whole;
- where the manifest is damaged, the names, dtypes and shapes of the header stand, and no tensor can be checked.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any, NamedTuple

from ...errors import CorruptError
from ...files import open_header
from ...formats import Format, Opened, format_of, format_of_content, hdf5
from ...formats.hdf5.structure_reader import read_structure
from ...formats.safetensors_ import InvalidError, parsed
from ...reading.header import Header, Part, header_of
from ...storage.source import Source, bytes_of, source_of
from ..printing import printable

_NO_MANIFEST = "its header is damaged: nothing can be checked, not even names and shapes, and extra state is lost"
_NO_INDEX = "its index is damaged or missing: nothing can be checked, and metadata, views and extra state are lost"
_NO_STRUCTURE = "its HDF5 structure is damaged, or was changed by another program"


class Damaged(NamedTuple):
    """An open file, as far as it can be told what is in it.

    size_bytes: those that are there. notes: what is wrong with it outside of the tensors. lost: names that are known
    but not what they stand for, and why.
    """

    header: Header
    size_bytes: int
    notes: list[str]
    lost: dict[str, str]


def open_damaged(file: Any) -> Damaged:
    """Return the header of a file, as far as it can be told, and what is wrong with it. file: as for load_file.

    Raises MissingFileError, CorruptError if too much is damaged, or another CheckpointError.
    """
    content = file.read() if hasattr(file, "read") else file
    try:
        header = open_header(content)
        return Damaged(header, sum(part.source.size_bytes for part in header.parts), [], {})
    except CorruptError as error:
        form = _format_of_file(content)
        if form is None:
            raise
        return _salvaged(content, form, error)


def _format_of_file(content: Any) -> Format | None:
    """Return the format that a file should have, None for the index or the folder of a sharded checkpoint."""
    if not isinstance(content, str | os.PathLike):
        return format_of_content(source_of(content))
    path = os.fsdecode(content)
    return None if path.endswith(".index.json") or not os.path.isfile(path) else format_of(path)


def _salvaged(content: Any, form: Format, error: CorruptError) -> Damaged:
    source = source_of(content)
    notes: list[str] = []
    lost: dict[str, str] = {}
    try:
        if form.NAME == "safetensors":
            header = _salvaged_safetensors(source, form, notes, lost)
        else:
            header = _salvaged_hdf5(source, form, notes)
        return Damaged(header, source.size_bytes, notes, lost)
    except (InvalidError, CorruptError, EOFError) as reason:
        source.close()
        raise CorruptError(f"{error}\nToo much of it is damaged to be repaired.", error.tensors) from reason
    except BaseException:
        source.close()
        raise


def _salvaged_safetensors(source: Source, form: Format, notes: list[str], lost: dict[str, str]) -> Header:
    length = int.from_bytes(source.read(0, 8), "little")
    header = parsed(source.read(8, length))
    header.pop("__metadata__", None)
    try:
        size_bytes = 8 + length + max((entry["data_offsets"][1] for entry in header.values()), default=0)
    except (LookupError, TypeError) as error:
        raise InvalidError("its entries are damaged") from error
    _note_size(source, size_bytes, notes)
    spliced = _Spliced(source, size_bytes)
    try:
        return header_of(spliced, form)
    except CorruptError:
        opened = form.open_source(spliced)
    notes.append(_NO_MANIFEST)
    lost |= {name: f"whether it is a tie or a view of {printable(kept)} is lost" for name, kept in opened.ties.items()}
    opened.metadata = {key: value for key, value in opened.metadata.items() if key not in lost}
    opened.ties = {}
    return _unchecked(spliced, form, opened)


def _salvaged_hdf5(source: Source, form: Format, notes: list[str]) -> Header:
    footer = hdf5.footer_of(source)
    if footer is not None:
        with suppress(CorruptError, EOFError):
            header = _hdf5_by_index(source, form, footer.start, footer.index_start, footer.index_bytes)
            notes.append(_NO_STRUCTURE)
            return header
    structure = read_structure(source)
    _note_size(source, structure.size_bytes, notes)
    index_start = structure.tail.offset
    index_bytes = max(0, structure.tail.tensor.size_bytes - len(hdf5.footer_text("0" * 32, 0, b"")))
    start = min((found.offset for found in structure.datasets if found.tensor.size_bytes), default=index_start)
    with suppress(CorruptError, EOFError):
        return _hdf5_by_index(source, form, start, index_start, index_bytes)
    notes.append(_NO_INDEX)
    opened = Opened({}, {})
    for tensor, offset, (kept, *names) in structure.datasets:
        opened.tensors[kept], opened.offsets[kept] = tensor, offset
        opened.ties |= dict.fromkeys(names, kept)
    return _unchecked(source, form, opened)


def _hdf5_by_index(source: Source, form: Format, start: int, index_start: int, index_bytes: int) -> Header:
    """Return the header that an index gives, with a footer that fits the structure as it is."""
    index = source.read(index_start, index_bytes)
    footer = hdf5.footer_text(hdf5.digest_of_start(source, start), start, index)
    return header_of(_Spliced(source, index_start + index_bytes, footer), form)


def _unchecked(source: Source, form: Format, opened: Opened) -> Header:
    return Header(source.name, form.NAME, [Part(source, opened)], opened.tensors, None, opened.metadata, opened.ties)


def _note_size(source: Source, size_bytes: int, notes: list[str]) -> None:
    if source.size_bytes < size_bytes:
        notes.append(f"it was cut off: {size_bytes:,} bytes were written, and {source.size_bytes:,} are there")
    if source.size_bytes > size_bytes:
        notes.append(f"{source.size_bytes - size_bytes:,} bytes stand after its end, which were left out")


class _Spliced:
    """The first bytes of a source, or more than there are of it, and then others."""

    def __init__(self, source: Source, head_bytes: int, tail: bytes = b"") -> None:
        self._source, self._head_bytes, self._tail = source, head_bytes, tail
        self.name, self.size_bytes = source.name, head_bytes + len(tail)

    def read_into(self, offset: int, *buffers: memoryview) -> None:
        """Fill contiguous buffers, one after the other, from an offset. Raises EOFError if there is less."""
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
        """Return so many bytes from an offset. Raises EOFError if there are less."""
        if size_bytes > self._source.size_bytes + len(self._tail):
            raise EOFError
        buffer = bytearray(size_bytes)
        self.read_into(offset, memoryview(buffer))
        return bytes(buffer)

    def memory(self, copy_on_write: bool) -> memoryview:
        """Return all the bytes, in memory of their own."""
        content = self.read(0, self.size_bytes)
        return memoryview(bytearray(content) if copy_on_write else content)

    def close(self) -> None:
        """Close the source."""
        self._source.close()
