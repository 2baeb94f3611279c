"""Reading damaged HDF5 files of ours.

If the index is found, the structure may be anything. If the structure is whole, the index may be missing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from ...errors import CorruptError
from ...storage.source import Source
from .. import Opened, Salvaged
from ..damaged import Spliced, notes_on_size
from ..entries import InvalidError
from . import digest_of_start, footer_of, footer_text, open_source
from .structure_reader import read_structure

_NO_INDEX = "its index is damaged or missing: nothing can be checked, and metadata, views and extra state are lost"
_NO_STRUCTURE = "its HDF5 structure is damaged, or was changed by another program"


def salvage_hdf5(source: Source) -> Iterator[Salvaged]:
    """Yield what the index says, then what the structure says. Raises CorruptError if neither can be read."""
    try:
        footer = footer_of(source)
        if footer is not None:
            yield from _by_index(source, footer.start, footer.index_start, footer.index_bytes, [_NO_STRUCTURE])
        structure = read_structure(source)
    except InvalidError as error:
        raise CorruptError(f"{source.name} is damaged: {error}.") from error
    notes = notes_on_size(source, structure.size_bytes)
    index_start = structure.tail.offset
    index_bytes = max(0, structure.tail.tensor.size_bytes - len(footer_text("0" * 32, 0, b"")))
    start = min((found.offset for found in structure.datasets if found.tensor.size_bytes), default=index_start)
    yield from _by_index(source, start, index_start, index_bytes, notes)
    opened = Opened({}, {})
    for tensor, offset, (kept, *names) in structure.datasets:
        opened.tensors[kept], opened.offsets[kept] = tensor, offset
        opened.ties |= dict.fromkeys(names, kept)
    yield Salvaged(source, opened, [*notes, _NO_INDEX], {}, whole=False)


def _by_index(source: Source, start: int, index_start: int, index_bytes: int, notes: list[str]) -> Iterator[Salvaged]:
    """Yield what an index says, with a footer that fits the structure as it is; nothing if it is damaged."""
    with suppress(CorruptError, EOFError):
        index = source.read(index_start, index_bytes)
        spliced = Spliced(source, index_start + index_bytes, footer_text(digest_of_start(source, start), start, index))
        opened = open_source(spliced)
        yield Salvaged(spliced, opened, notes, {})
