"""Reading damaged safetensors files.

A file with an intact header may be shorter or longer than the header says. If the manifest is damaged, names, dtypes
and shapes come from the header, and no tensor can be checked.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ...errors import CorruptError
from ...state.manifest import FORMAT
from ...storage.source import Source
from .. import Salvaged
from ..damaged import Spliced, notes_on_size
from ..entries import InvalidError, parsed
from . import PYTORCH, read_header

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
    metadata = {key: value for key, value in opened.metadata.items() if key not in opened.aliases}
    if metadata.get(FORMAT) == PYTORCH:  # what a save adds
        del metadata[FORMAT]
    bare = replace(opened, metadata=metadata, manifest=None)
    yield Salvaged(spliced, bare, [*notes, _NO_MANIFEST], whole=False)
