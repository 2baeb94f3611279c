"""The index of our .npz files."""

from __future__ import annotations

from typing import Any

from ...errors import VersionError
from ...storage.source import Source
from .. import Opened
from ..entries import InvalidError, checked_entries, checked_metadata, parsed
from .structure import index_checksum, index_member

VERSION = 1


def index_at_start(source: Source, check: bool = True) -> bytes | None:
    """Return the text of the index at the start of a file, or None if there is none.

    check: return None if it does not match its CRC-32, too.
    """
    head = index_member(0)
    prefix = head.local(0)[:14]  # up to the checksum
    if source.size_bytes < head.end or source.read(0, len(prefix)) != prefix:
        return None
    size_bytes = int.from_bytes(source.read(18, 4), "little") - len(head.header)
    if not 0 <= size_bytes <= source.size_bytes - head.end or index_member(size_bytes).end != head.end + size_bytes:
        return None
    text = source.read(head.end, size_bytes)
    expected = int.from_bytes(source.read(14, 4), "little")
    return text if not check or index_checksum(text) == expected else None


def opened_from(text: bytes, source: Source, size_bytes: int | None = None) -> Opened:
    """Return what an index at the start of a file says. size_bytes: of the file when it was written.

    Raises InvalidError if it is not a valid index, VersionError if a newer version wrote it.
    """
    index = parsed_index(text, source.name)
    start = index_member(len(text)).end
    end = source.size_bytes if size_bytes is None else size_bytes
    tensors, offsets, unsupported = checked_entries(index["tensors"], start, end - start, gaps=True)
    if unsupported:
        raise InvalidError("its index has a tensor of an unknown dtype")
    return Opened(tensors, offsets, index["metadata"], index["manifest"])


def parsed_index(text: bytes, path: str) -> dict[str, Any]:
    """Parse the JSON of an index, and check its parts but the tensors. Raises InvalidError or VersionError."""
    index = parsed(text)
    version, members = index.get("version"), index.get("members")
    if type(version) is not int or version < 1:
        raise InvalidError("its index has no version")
    if version > VERSION:
        raise VersionError(
            f"{path} was written by a newer statezoo (its version of the file is {version!s:.20}, and this statezoo "
            f"reads up to {VERSION}). Upgrade statezoo to load it."
        )
    if not isinstance(index.get("manifest"), str) or not isinstance(index.get("tensors"), dict):
        raise InvalidError("its index has no manifest or no tensors")
    if not isinstance(members, dict) or not all(isinstance(name, str) for name in members.values()):
        raise InvalidError("its index has no names of members")
    index["metadata"] = checked_metadata(index.get("metadata"))
    return index
