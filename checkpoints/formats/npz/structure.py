"""The structure of an .npz file that we write: what stands around the bytes of the tensors.

Source: PKWARE's APPNOTE.TXT 6.3.10, sections 4.3.7, 4.3.12 to 4.3.16 and 4.5.3; the extra field for alignment is that
of Android's zipalign.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from struct import Struct
from typing import NamedTuple

from xxhash import xxh3_128

from ...state.manifest import TensorSpec
from .header import header_of

RESERVED = "__statezoo__"
SUFFIX = ".npy"
ALIGNMENT_BYTES = 64
FIRST = b"PK\3\4"  # as the header of a member starts
SEAL = b"statezoo.npz "
SEAL_BYTES = len(SEAL) + 32
END = Struct("<4sHHHHIIH")
_LOCAL, _LISTED = Struct("<4sHHHHHIIIHH"), Struct("<4sHHHHHHIIIHHHHHII")
_ALIGNING, _LARGE = Struct("<HHH"), Struct("<HH")
_LARGE_END, _LARGE_PLACE = Struct("<4sQHHIIQQQQ"), Struct("<4sIQI")
_ALIGNING_ID, _LARGE_ID = 0xD935, 1
_MOST_NAME_BYTES = 65_535 - len(SUFFIX)
_MOST, _MOST_MEMBERS = 0xFFFFFFFF, 0xFFFF  # these values say: see the fields for large archives
_VERSION, _VERSION_LARGE = 20, 45
_UTF_8 = 1 << 11
_TIME, _DATE = 0, 1 << 5 | 1  # 1980-01-01, the earliest
_UNIX, _MODE = 3 << 8, 0o600 << 16  # as zipfile writes them


class Member(NamedTuple):
    """A member that holds an array.

    header: of the .npy file. start: where the header of the member starts. offset: where the data start, at a multiple
    of 64. large: the extra field for the sizes of a large member, or nothing.
    """

    name: bytes
    header: bytes
    data_bytes: int
    start: int
    offset: int
    large: bytes

    @classmethod
    def at(cls, start: int, name: str, header: bytes, data_bytes: int) -> Member:
        """Return the member that starts at an offset. name: without its suffix."""
        encoded, size_bytes = f"{name}{SUFFIX}".encode(), len(header) + data_bytes
        large = b"" if size_bytes < _MOST else _LARGE.pack(_LARGE_ID, 16) + 2 * size_bytes.to_bytes(8, "little")
        taken = start + _LOCAL.size + len(encoded) + len(large) + _ALIGNING.size + len(header)
        return cls(encoded, header, data_bytes, start, taken + -taken % ALIGNMENT_BYTES, large)

    @property
    def end(self) -> int:
        """Where the data end."""
        return self.offset + self.data_bytes

    @property
    def checksum(self) -> int:
        """The CRC-32 of what comes before the data in the content."""
        return zlib.crc32(self.header)

    def local(self, crc32: int) -> bytes:
        """Return everything before the data."""
        padding = self.offset - self.start - _LOCAL.size - len(self.name) - len(self.large) - len(self.header)
        extra = self.large + _ALIGNING.pack(_ALIGNING_ID, padding - 4, ALIGNMENT_BYTES).ljust(padding, b"\0")
        return b"".join((_LOCAL.pack(FIRST, *self._common(crc32), len(extra)), self.name, extra, self.header))

    def listed(self, crc32: int, moved: int = 0) -> bytes:
        """Return the entry in the list of members. moved: by how much the member starts later."""
        start, extra = self.start + moved, self.large[_LARGE.size :]
        if start >= _MOST:
            extra += start.to_bytes(8, "little")
        if extra:
            extra = _LARGE.pack(_LARGE_ID, len(extra)) + extra
        version, *common = self._common(crc32)
        version = _VERSION_LARGE if extra else version
        fixed = (_UNIX | version, version, *common, len(extra), 0, 0, 0, _MODE, min(start, _MOST))
        return b"".join((_LISTED.pack(b"PK\1\2", *fixed), self.name, extra))

    def _common(self, crc32: int) -> tuple[int, ...]:
        """Return what both headers have: from the version to the length of the name."""
        size_bytes = min(len(self.header) + self.data_bytes, _MOST)
        version, flags = _VERSION_LARGE if self.large else _VERSION, 0 if self.name.isascii() else _UTF_8
        return version, flags, 0, _TIME, _DATE, crc32, size_bytes, size_bytes, len(self.name)


def member_names(tensors: Mapping[str, TensorSpec]) -> dict[str, str]:
    """Return the name of a member, without its suffix, for each tensor that cannot have its own.

    These are names that zip cannot hold, that NumPy would confuse with others, or that are ours.
    """
    return {
        name: f"{RESERVED}/{number}"
        for number, name in enumerate(tensors)
        if "\0" in name
        or "\\" in name  # zipfile on Windows reads a slash
        or name.startswith(RESERVED)
        or len(name.encode()) > _MOST_NAME_BYTES
        or (name.endswith(SUFFIX) and name.removesuffix(SUFFIX) in tensors)
    }


def placed(tensors: Mapping[str, TensorSpec], others: Mapping[str, str]) -> dict[str, Member]:
    """Return a member for each tensor, one after the other. They may be moved together by a multiple of 64.

    others: the names of members that are not those of their tensors (see member_names).
    """
    headers = {tensor: header_of(tensor) for tensor in set(tensors.values())}
    sizes = {tensor: tensor.size_bytes for tensor in headers}
    members, end = {}, 0
    for name, tensor in tensors.items():
        members[name] = member = Member.at(end, others.get(name, name), headers[tensor], sizes[tensor])
        end = member.end
    return members


def index_member(text_bytes: int) -> Member:
    """Return the member at the start of the file, which holds the index."""
    return Member.at(0, RESERVED, header_of(TensorSpec("U8", (text_bytes,))), text_bytes)


def index_checksum(text: bytes) -> int:
    """Return the CRC-32 of the content of the member that holds an index."""
    return zlib.crc32(text, index_member(len(text)).checksum)


def pieces_of(index: bytes, members: Mapping[str, Member], crc32: Mapping[str, int]) -> list[tuple[int, bytes]]:
    """Return everything but the tensors, as pairs of an offset and bytes. crc32: of the content of each member."""
    first = index_member(len(index))
    start = end = first.end
    head = index_checksum(index)
    pieces = [(0, first.local(head) + index)]
    listed = []
    for name, member in members.items():
        pieces.append((start + member.start, member.local(crc32[name])))
        listed.append(member.listed(crc32[name], start))
        end = start + member.end
    listed.append(first.listed(head))
    table = b"".join(listed)
    pieces.append((end, table + _end(len(listed), len(table), end)))
    digest = xxh3_128()
    for _, piece in pieces:
        digest.update(piece)
    return [*pieces, (end + len(pieces[-1][1]), digest.hexdigest().encode())]


def _end(count: int, table_bytes: int, table: int) -> bytes:
    """Return what follows the list of members, up to the digest in the seal. table: where the list starts."""
    large = b""
    if count >= _MOST_MEMBERS or table_bytes >= _MOST or table >= _MOST:
        version = _UNIX | _VERSION_LARGE
        sizes = _LARGE_END.size - 12, version, _VERSION_LARGE, 0, 0, count, count, table_bytes, table
        large = _LARGE_END.pack(b"PK\6\6", *sizes) + _LARGE_PLACE.pack(b"PK\6\7", 0, table + table_bytes, 1)
    count = min(count, _MOST_MEMBERS)
    end = END.pack(b"PK\5\6", 0, 0, count, count, min(table_bytes, _MOST), min(table, _MOST), SEAL_BYTES)
    return large + end + SEAL


def gaps_of(spans: list[tuple[int, int]], end: int) -> Iterator[tuple[int, int]]:
    """Yield the ranges around sorted spans, up to an end."""
    position = 0
    for start, stop in spans:
        yield position, start
        position = stop
    yield position, end
