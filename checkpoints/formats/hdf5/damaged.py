"""Reading damaged HDF5 files.

If the index of one of our files is found, the HDF5 structure does not matter. Otherwise the content is what libhdf5
finds, as for foreign files.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

from ...errors import CorruptError
from ...storage.source import Source
from .. import Salvaged
from ..damaged import Spliced, notes_on_size
from ..entries import InvalidError
from . import FOOTER_BYTES, digest_of_start, footer_of, footer_text, open_source
from .foreign import open_remains

_NO_INDEX = "its index is damaged or missing: nothing can be checked, and metadata, views and extra state are lost"
_NO_STRUCTURE = "its HDF5 structure is damaged, or was changed by another program"
_FOREIGN = "it is damaged: nothing can be checked, and datasets that libhdf5 does not find are lost"


def salvage_hdf5(source: Source) -> Iterator[Salvaged]:
    """Yield the content of the index, then what libhdf5 finds. Raises CorruptError if neither can be read."""
    with suppress(InvalidError):
        footer = footer_of(source)
        if footer is not None:
            yield from _by_index(source, footer.start, footer.index_start, footer.index_bytes, [_NO_STRUCTURE])
    opened, tail, written_bytes = open_remains(source)
    notes = notes_on_size(source, written_bytes)
    if tail is not None:
        offsets = [opened.offsets[name] for name, tensor in opened.tensors.items() if tensor.size_bytes]
        start, index_bytes = min(offsets, default=tail.offset), max(0, tail.size_bytes - FOOTER_BYTES)
        yield from _by_index(source, start, tail.offset, index_bytes, notes)
    yield Salvaged(source, opened, [*notes, _FOREIGN if tail is None else _NO_INDEX], whole=False)


def _by_index(source: Source, start: int, index_start: int, index_bytes: int, notes: list[str]) -> Iterator[Salvaged]:
    """Yield the content of an index, with a footer made to fit the structure. Yield nothing if the index is damaged."""
    with suppress(CorruptError, EOFError):
        index = source.read(index_start, index_bytes)
        spliced = Spliced(source, index_start + index_bytes, footer_text(digest_of_start(source, start), start, index))
        opened = replace(open_source(spliced), is_sealed=False)
        yield Salvaged(spliced, opened, notes)
