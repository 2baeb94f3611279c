"""Opening a damaged file as far as possible, so that its intact tensors can be saved."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any, NamedTuple

from ...errors import CorruptError, FormatError, RulesError
from ...files import open_header
from ...files.sharding.index import INDEX_SUFFIX
from ...formats import Format, format_of, format_of_content
from ...reading.header import Header, header_of
from ...storage.source import source_of


class Damaged(NamedTuple):
    """An open file, and what is known about its damage.

    size_bytes: the actual size of the file. notes, whole: as in `Salvaged`.
    """

    header: Header
    size_bytes: int
    notes: list[str]
    whole: bool = True


def open_damaged(file: Any) -> Damaged:
    """Open a file as far as possible. file: as for load_file.

    Raises MissingFileError, CorruptError if too much is damaged, or another CheckpointError.
    """
    content = file.read() if hasattr(file, "read") else file
    try:
        header = open_header(content)
        return Damaged(header, sum(part.source.size_bytes for part in header.parts), [])
    except (CorruptError, RulesError) as error:
        form = _format_of_file(content)
        if form is None or not form.writes:
            raise
        return _salvaged(content, form, error)


def _format_of_file(content: Any) -> Format | None:
    """Return the format that a file should have, or None for the index or the folder of a sharded checkpoint."""
    if not isinstance(content, str | os.PathLike):
        return format_of_content(source_of(content))
    path = os.fsdecode(content)
    return None if path.endswith(INDEX_SUFFIX) or not os.path.isfile(path) else format_of(path)


def _salvaged(content: Any, form: Format, error: FormatError) -> Damaged:
    """Open the file in the first way whose manifest is valid. error: what opening it as usual raised."""
    source = source_of(content)
    try:
        for found in form.writing_codec.salvage(source):
            with suppress(CorruptError):
                header = header_of(found.source, form, found.opened)
                return Damaged(header, source.size_bytes, found.notes, found.whole)
        raise CorruptError("no reading of it has a valid manifest.")
    except (CorruptError, EOFError) as reason:
        source.close()
        raise CorruptError(
            f"{error}\nToo much of it is damaged to be repaired.", getattr(error, "tensors", ())
        ) from reason
    except BaseException:
        source.close()
        raise
