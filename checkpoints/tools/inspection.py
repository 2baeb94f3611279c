"""Inspecting a file: its content, read from the header alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ..files import open_header
from ..reading.header import Header
from ..state.manifest import TensorSpec
from .printing import counted, printable, rows_of

NO_DIGESTS = "no digests: written by another library"
_CHECKSUMS = "no fingerprint: written by another library. verify() compares every byte with a CRC-32"


@dataclass(frozen=True)
class TensorInfo:
    """A tensor of a file: its dtype as in docs/format.md, its shape, and the number of bytes of its values.

    shares_with: the name whose memory it shares, or None if it has its own. view: whether it has another shape, dtype
    or part of that memory, rather than being the same array. digest: its xxh3-128 in the file; None in a foreign file,
    and for a tensor that shares memory, whose bytes are stored under the other name. note: what its dtype does not say,
    such as the names of an HDF5 enumeration.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    size_bytes: int
    shares_with: str | None = None
    view: bool = False
    digest: str | None = None
    note: str = ""


@dataclass(frozen=True)
class Inspection:
    """The content of a file's header.

    tensors: in the order of the state. extra: the values of `_extra_state` names. stored_bytes: the size of all
    tensors, counting shared memory once. fingerprint: equal for equal states in every format; None in foreign files,
    which have no digests either. unsupported: the entries that cannot be read, with the reason. has_checksums: whether
    a foreign file has a CRC-32 of the bytes of every tensor. expanded: whether shared memory is stored under each of
    its names. The tensors themselves are not checked: see verify().
    """

    path: str
    format: str
    tensors: tuple[TensorInfo, ...]
    extra: dict[str, Any]
    stored_bytes: int
    file_bytes: int
    metadata: dict[str, str]
    fingerprint: str | None
    unsupported: dict[str, str] = field(default_factory=dict)
    has_checksums: bool = False
    expanded: bool = False

    @property
    def names(self) -> list[str]:
        """The names of the tensors, in the order of the state."""
        return [tensor.name for tensor in self.tensors]

    def as_dict(self) -> dict[str, Any]:
        """Return the same content as dicts, lists, strings and numbers, for JSON."""
        return asdict(self)

    def _check(self) -> str:
        if self.fingerprint:
            return f"fingerprint {self.fingerprint}"
        return _CHECKSUMS if self.has_checksums else f"verified: no ({NO_DIGESTS})"

    def __str__(self) -> str:
        note = ", which is expanded" if self.expanded else ""
        lines = [
            f"{printable(self.path)}: {self.format}, {counted(len(self.tensors), 'tensor')}, "
            f"{self.stored_bytes:,} bytes ({self.file_bytes:,} in the file{note})",
            self._check(),
        ]
        lines += rows_of(
            [(printable(t.name), t.dtype, str(list(t.shape)), f"{t.size_bytes:,}", _origin(t)) for t in self.tensors]
        )
        lines += unsupported_rows(self.unsupported)
        lines += [f"  {printable(name)}  {value!r}" for name, value in self.extra.items()]
        lines += [f"metadata {printable(key)}: {printable(value)}" for key, value in self.metadata.items()]
        return "\n".join(lines)


def inspect(file: Any) -> Inspection:
    """Return the content of a file's header. No tensor is read. file: as for load_file.

    Raises MissingFileError, CorruptError or another CheckpointError.
    """
    with open_header(file) as header:
        extra, digests = dict(header.extra), header.digests
        return Inspection(
            path=header.name,
            format=header.format,
            tensors=tuple(_info(header, digests, name) for name in header.names if name not in extra),
            extra=extra,
            stored_bytes=sum(tensor.size_bytes for tensor in header.tensors.values()),
            file_bytes=sum(part.source.size_bytes for part in header.parts),
            metadata=header.metadata,
            fingerprint=header.fingerprint,
            unsupported=dict(header.unsupported),
            has_checksums=header.fingerprint is None and header.is_checked,
            expanded=bool(header.copies),
        )


def _info(header: Header, digests: Mapping[str, str], name: str) -> TensorInfo:
    alias = header.aliases.get(name)
    if alias is None:
        tensor, kept, view = header.tensors[name], None, False
    elif alias.view is None:
        tensor, kept, view = header.tensors[alias.kept], alias.kept, False
    else:
        tensor, kept, view = TensorSpec(alias.view.dtype, alias.view.shape), alias.kept, True
    return TensorInfo(
        name, tensor.dtype, tensor.shape, tensor.size_bytes, kept, view, digests.get(name), header.notes.get(name, "")
    )


def unsupported_rows(unsupported: Mapping[str, str]) -> list[str]:
    """Return a line for each entry that cannot be read."""
    return rows_of([(printable(name), "unsupported", printable(why)) for name, why in unsupported.items()])


def _origin(tensor: TensorInfo) -> str:
    if tensor.shares_with is None:
        return tensor.digest or printable(tensor.note)
    return f"{'view of' if tensor.view else 'tied to'} {printable(tensor.shares_with)}"
