"""Saving what is intact of a damaged or truncated file."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import Any

from ...errors import CheckpointError, CorruptError
from ...files import save_file
from ...formats import Opened
from ...reading.progress import Progress, silent
from ...reading.reader import Reader
from ..printing import counted, printable, rows_of
from .copying import Copied
from .salvage import open_damaged


@dataclass(frozen=True)
class Repair:
    """What a repair came to.

    saved: the names in the new file, of tensors and extra state. lost: those that are not in it, and why. notes: what
    was wrong with the file outside of its tensors. checked: whether what was saved is what was written; if not, the
    file has no digests, or they are lost.
    """

    path: str
    out: str
    saved: tuple[str, ...]
    lost: dict[str, str]
    notes: tuple[str, ...]
    checked: bool

    @property
    def complete(self) -> bool:
        """Whether all that the file is known to have held was saved."""
        return not self.lost and (self.checked or not self.notes)

    def as_dict(self) -> dict[str, Any]:
        """Return the same as dicts, lists and strings, for JSON."""
        return {"complete": self.complete, **asdict(self)}

    def __str__(self) -> str:
        total = len(self.saved) + len(self.lost)
        count = f"{len(self.saved):,} of {counted(total, 'name')} saved"
        checked = "checked" if self.checked else "unchecked: there are no digests to compare them with"
        lines = [f"{printable(self.path)} -> {printable(self.out)}: {count}, {checked}"]
        lines += [f"  {note}" for note in self.notes]
        rows = [("lost", printable(name), why) for name, why in self.lost.items()]
        return "\n".join([*lines, *rows_of(rows)])


def repair(file: Any, out: str | os.PathLike[str], *, progress: Progress | None = None) -> Repair:
    """Save every intact tensor of a damaged or truncated file to out, an ordinary checkpoint, and say what is lost.

    file: as for load_file. out: a path, whose suffix picks the format; it may be the file itself, which is then
    replaced. A tensor is intact if it fits its digest; of files without digests, and those whose digests are lost, all
    that can be read is saved, unchecked. What shares memory with a lost tensor is lost too. Extra state and metadata
    are kept. progress: called with how many bytes were checked, and again copied, since it was called last.
    Raises CorruptError, and writes nothing, if too much is damaged to tell what is in the file, or nothing is intact;
    MissingFileError, WriteError or another CheckpointError.
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
        names = {*header.names, *header.unsupported}
        return Repair(
            path=header.name,
            out=os.fsdecode(out),
            saved=saved,
            lost={name: why for name, why in lost.items() if name in names} | damaged.lost,
            notes=tuple(damaged.notes),
            checked=header.manifest is not None,
        )
    finally:
        reader.close()


def _lost(reader: Reader, size_bytes: int, progress: Progress) -> dict[str, str]:
    """Return the tensors that are damaged, stored ones first, and why; those that share memory with one are, too."""
    header = reader.header
    lost: dict[str, str] = {}
    for part in header.parts:
        for name in part.opened.tensors:
            why = _missing(part.opened, name, size_bytes) or _damage(reader, name, progress)
            if why:
                lost[name] = why
    of_state = set(header.names)
    for name, alias in header.aliases.items():
        if alias.kept in lost:
            shared = f"it shares the memory of {printable(alias.kept)}: " if alias.kept in of_state else ""
            lost[name] = shared + lost[alias.kept]
    return lost | {name: f"it cannot be read: {printable(why)}" for name, why in header.unsupported.items()}


def _missing(opened: Opened, name: str, size_bytes: int) -> str | None:
    """Return what of a stored tensor is beyond the end of its file, None if all of it is there."""
    own_bytes = opened.tensors[name].size_bytes
    missing = opened.offsets.get(name, 0) + own_bytes - size_bytes
    if name not in opened.offsets or not own_bytes or missing <= 0:
        return None
    return f"the file ends {counted(missing, 'byte')} before it does"


def _damage(reader: Reader, name: str, progress: Progress) -> str | None:
    """Return what is wrong with a stored tensor, None if nothing is."""
    try:
        digest = reader.digest_of(name, progress)
    except CheckpointError as error:
        return f"it cannot be read: {printable(str(error))}"
    return None if digest == reader.digests.get(name, digest) else "its bytes are not those that were written"
