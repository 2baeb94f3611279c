"""Whether the bytes in a file are those that were written: every digest is made anew."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ..files import open_header
from ..reading.progress import Progress, silent
from ..reading.reader import Reader
from .inspection import NO_DIGESTS
from .printing import counted, printable, rows_of


@dataclass(frozen=True)
class Verification:
    """What a check of a file found.

    checked: whether there are digests; files of other writers have none, and of them only the structure was checked.
    tensors, size_bytes: of those stored, shared memory counted once. damaged: the stored tensors whose bytes are not
    those that were written. affected: further names, ties and views, and the damaged tensor whose memory each shares.
    fingerprint: that of the file, None if it has none.
    """

    path: str
    format: str
    checked: bool
    tensors: int
    size_bytes: int
    damaged: tuple[str, ...]
    affected: dict[str, str]
    fingerprint: str | None

    @property
    def intact(self) -> bool:
        """Whether nothing is known to be damaged."""
        return not self.damaged

    def as_dict(self) -> dict[str, Any]:
        """Return the same as dicts, lists, strings and numbers, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        path, tensors = printable(self.path), counted(self.tensors, "tensor")
        size = f"{tensors}, {self.size_bytes:,} bytes"
        if not self.checked:
            return f"{path}: verified: no ({NO_DIGESTS}). Its structure is valid: {size}."
        if self.intact:
            return f"{path}: verified: yes, {size}\nfingerprint {self.fingerprint}"
        lost = [(printable(name), "") for name in self.damaged]
        lost += [(printable(name), f"shares the memory of {printable(kept)}") for name, kept in self.affected.items()]
        return "\n".join(
            [
                f"{path}: damaged: the bytes of {len(self.damaged):,} of {tensors} are not those that were written",
                *rows_of(lost),
                "Use another copy of the file, or save what is intact of this one with repair.",
            ]
        )


def verify(file: Any, *, progress: Progress | None = None) -> Verification:
    """Return which tensors of a file are damaged, every byte of it having been read, in little memory.

    file: as for load_file. progress: called with how many bytes were checked since it was called last.
    Damaged tensors raise nothing. What is no checkpoint, or is damaged in what is no tensor, raises CorruptError,
    MissingFileError or another CheckpointError, as loading it would.
    """
    header = open_header(file)
    reader = Reader(header, verify=False)
    try:
        digests = header.digests
        damaged = {name: None for name in digests if reader.digest_of(name, progress or silent) != digests[name]}
        return Verification(
            path=header.name,
            format=header.format,
            checked=header.manifest is not None,
            tensors=len(header.tensors),
            size_bytes=sum(tensor.size_bytes for tensor in header.tensors.values()),
            damaged=tuple(damaged),
            affected={name: alias.kept for name, alias in header.aliases.items() if alias.kept in damaged},
            fingerprint=header.manifest.fingerprint if header.manifest else None,
        )
    finally:
        reader.close()
