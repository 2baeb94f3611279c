"""Saving the intact tensors of a damaged file."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import Any

from ...errors import CheckpointError, CorruptError
from ...files import save_file
from ...formats import Opened
from ...reading.progress import Progress, silent
from ...reading.reader import Reader
from ...state.digests import BYTES, digest_of_blocks
from ..printing import counted, printable, rows_of
from .copying import Copied
from .salvage import open_damaged

_MOST_PLACES = 3


@dataclass(frozen=True)
class Repair:
    """The result of a repair.

    saved: the names of the tensors and extra state in the new file. lost: the names that are not in it, each with the
    reason. notes: what was wrong with the file outside its tensors. checked: whether the saved tensors match their
    digests; False if the file has no digests or lost them. complete: whether nothing is known or likely to be lost.
    """

    path: str
    out: str
    saved: tuple[str, ...]
    lost: dict[str, str]
    notes: tuple[str, ...]
    checked: bool
    complete: bool

    def as_dict(self) -> dict[str, Any]:
        """Return the same content as dicts, lists and strings, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        total = len(self.saved) + len(self.lost)
        count = f"{len(self.saved):,} of {counted(total, 'name')} saved"
        checked = "checked" if self.checked else "unchecked: there are no digests to compare them with"
        lines = [f"{printable(self.path)} -> {printable(self.out)}: {count}, {checked}"]
        lines += [f"  {note}" for note in self.notes]
        rows = [("lost", printable(name), why) for name, why in self.lost.items()]
        return "\n".join([*lines, *rows_of(rows)])


def repair(file: Any, out: str | os.PathLike[str], *, progress: Progress | None = None) -> Repair:
    """Save every intact tensor of a damaged or truncated file to `out`. Return what was saved and what was lost.

    file: as for load_file. out: a path, whose suffix picks the format; it may be the file itself, which is then
    replaced. progress: called with the number of bytes checked, then copied, since the last call.
    A tensor is intact if it matches its digest. If the file has no digests or lost them, every readable tensor is saved
    unchecked. A name that shares memory with a lost tensor is lost too. Extra state and metadata are kept.
    Raises CorruptError, and writes nothing, if too much is damaged to tell what is in the file, or if nothing is
    intact; MissingFileError, WriteError or another CheckpointError.
    """
    damaged = open_damaged(file)
    header, progress = damaged.header, progress or silent
    reader = Reader(header, verify=True)
    try:
        lost = _lost(reader, damaged.size_bytes, progress)
        saved = tuple(name for name in header.names if name not in lost)
        if lost and not saved:
            raise CorruptError(f"no tensor in {header.name} is intact, and nothing was saved.", tuple(lost))
        save_file(Copied(reader, progress, lost), out, header.metadata)
        known = {*header.names, *header.unsupported}
        lost = {name: why for name, why in lost.items() if name in known}
        return Repair(
            path=header.name,
            out=os.fsdecode(out),
            saved=saved,
            lost=lost,
            notes=tuple(damaged.notes),
            checked=header.is_checked,
            complete=damaged.whole and not lost,
        )
    finally:
        reader.close()


def _lost(reader: Reader, size_bytes: int, progress: Progress) -> dict[str, str]:
    """Return the lost names with reasons: damaged tensors, names that share their memory, and unreadable entries."""
    header = reader.header
    lost: dict[str, str] = {}
    for part in header.parts:
        for name in list(part.opened.tensors):
            why = _missing(part.opened, name, size_bytes) or _damage(reader, name, progress)
            if why and name in header.tensors and not _restored(reader, name, progress):
                lost[name] = why
    for name in header.lengths:
        if why := _damage(reader, name, progress):
            lost[name] = why
    of_state = set(header.names)
    for name, alias in header.aliases.items():
        if alias.kept in lost:
            shared = f"it shares the memory of {printable(alias.kept)}: " if alias.kept in of_state else ""
            lost[name] = shared + lost[alias.kept]
    return lost | {name: f"it cannot be read: {printable(why)}" for name, why in header.unsupported.items()}


def _restored(reader: Reader, name: str, progress: Progress) -> bool:
    """Return True if another name has an intact copy of the tensor, which is read instead from now on."""
    for copy in reader.header.copies:
        if reader.header.aliases[copy] == (name, None) and _damage(reader, copy, progress) is None:
            reader.take_copy(name, copy)
            return True
    return False


def _missing(opened: Opened, name: str, size_bytes: int) -> str | None:
    """Return by how much a stored tensor reaches beyond the end of its file, as text, or None if it does not."""
    own_bytes = opened.tensors[name].size_bytes
    missing = opened.offsets.get(name, 0) + own_bytes - size_bytes
    if name not in opened.offsets or not own_bytes or missing <= 0:
        return None
    return f"the file ends {counted(missing, 'byte')} before it does"


def _damage(reader: Reader, name: str, progress: Progress) -> str | None:
    """Return what is wrong with a stored tensor, or None if it is intact."""
    try:
        hashed = reader.hashed(name, progress)
    except CheckpointError as error:
        return f"it cannot be read: {printable(str(error))}"
    if name not in reader.digests:
        return None if reader.is_intact(name) else "its bytes do not match their CRC-32"
    if digest_of_blocks(hashed) == reader.digests[name]:
        return None
    places = reader.differing(name, hashed)
    return f"its bytes are not those that were written{_where(places, len(hashed) // BYTES)}"


def _where(places: list[range], blocks: int) -> str:
    """Return the place of the damage in a tensor of several blocks, as text. Return nothing if it is unknown."""
    if blocks < 2 or not places:
        return ""
    bytes_text = ", ".join(f"{place.start:,} to {place.stop - 1:,}" for place in places[:_MOST_PLACES])
    more = ", ..." if len(places) > _MOST_PLACES else ""
    return f": {len(places):,} of its {blocks:,} blocks differ (bytes {bytes_text}{more})"
