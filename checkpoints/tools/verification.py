"""Verifying that the bytes of a file are the ones that were written, by recomputing every digest."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from ..files import open_header
from ..reading.progress import Progress, silent
from ..reading.reader import Reader
from .inspection import NO_DIGESTS, unsupported_rows
from .printing import counted, printable, rows_of


@dataclass(frozen=True)
class Verification:
    """The result of verifying a file.

    checked: whether the file has digests, or the checksums of an archive; most foreign files have neither, and only
    their structure is checked. tensors, size_bytes: the number and size of the stored tensors, counting shared memory
    once. damaged: the stored tensors whose bytes do not match their digests or checksums. affected: the ties and views
    of damaged tensors, each with the name whose memory it shares. fingerprint: that of the header, None in a foreign
    file. unsupported: the entries that cannot be read, with the reason.
    """

    path: str
    format: str
    checked: bool
    tensors: int
    size_bytes: int
    damaged: tuple[str, ...]
    affected: dict[str, str]
    fingerprint: str | None
    unsupported: dict[str, str] = field(default_factory=dict)

    @property
    def intact(self) -> bool:
        """Whether no tensor is known to be damaged."""
        return not self.damaged

    def as_dict(self) -> dict[str, Any]:
        """Return the same content as dicts, lists, strings and numbers, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        path, tensors = printable(self.path), counted(self.tensors, "tensor")
        size = f"{tensors}, {self.size_bytes:,} bytes"
        if not self.checked and self.intact:
            lines = [f"{path}: verified: no ({NO_DIGESTS}). Its structure is valid: {size}."]
            return "\n".join([*lines, *unsupported_rows(self.unsupported)])
        if self.intact:
            return f"{path}: verified: yes, {size}" + (f"\nfingerprint {self.fingerprint}" if self.fingerprint else "")
        lost = [(printable(name), "") for name in self.damaged]
        lost += [(printable(name), f"shares the memory of {printable(kept)}") for name, kept in self.affected.items()]
        return "\n".join(
            [
                f"{path}: damaged: the bytes of {len(self.damaged):,} of {tensors} are not those that were written",
                *rows_of(lost),
                "Use another copy of the file, or save its intact tensors with checkpoints.repair().",
            ]
        )


def verify(file: Any, *, progress: Progress | None = None) -> Verification:
    """Read every byte of a file, in little memory, and return which tensors are damaged.

    file: as for load_file. progress: called with the number of bytes checked since the last call.
    Damaged tensors are in the result, not raised. Raises CorruptError if the header is damaged, as a load does;
    MissingFileError or another CheckpointError.
    """
    header = open_header(file)
    reader = Reader(header, verify=False)
    try:
        names = [name for name in (*header.tensors, *header.copies) if name not in header.lengths]
        damaged = {name: None for name in names if not reader.is_intact(name, progress or silent)}
        return Verification(
            path=header.name,
            format=header.format,
            checked=header.is_checked,
            tensors=len(header.tensors),
            size_bytes=sum(tensor.size_bytes for tensor in header.tensors.values()),
            damaged=tuple(damaged),
            affected={name: alias.kept for name, alias in header.aliases.items() if alias.kept in damaged},
            fingerprint=header.fingerprint,
            unsupported=dict(header.unsupported),
        )
    finally:
        reader.close()
