"""The members of a zip archive: where the bytes of each are in the file, and their checksums.

A member that is stored, not compressed, can be read or mapped in the file at its offset. `zipfile` reads the list of
members (the central directory). What it leaves to later is checked here, so that no two readers see different archives
in one file: the headers in front of the members say the same as the list, no two members have the same name or share a
byte, and the archive starts at the first byte of the file.

Source: PKWARE's APPNOTE.TXT 6.3.10, sections 4.3.7 and 4.3.12.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from typing import NamedTuple

from ..storage.source import Source
from .entries import InvalidError

SIGNATURE = b"PK\3\4"
HEADER = struct.Struct("<4s2xHH4xIIIHH")  # signature, flags, method, CRC-32, both sizes, lengths of name and extra
_ENCRYPTED, IN_DESCRIPTOR, UTF_8 = 1 << 0, 1 << 3, 1 << 11
IN_ZIP64 = 0xFFFFFFFF
_SLACK_BYTES = 1 << 12  # by which the start of deflated content may be longer than what it expands to
_END, _END_BYTES = b"PK\5\6", 22
_METHODS = {zipfile.ZIP_STORED: "stored", zipfile.ZIP_DEFLATED: "deflated"}


class Member(NamedTuple):
    """A member of an archive. offset, stored_bytes: where it is in the file. size_bytes, crc32: those of its content.

    is_stored: whether the bytes in the file are the content, not compressed.
    """

    name: str
    offset: int
    stored_bytes: int
    size_bytes: int
    crc32: int
    is_stored: bool


def members_of(source: Source) -> dict[str, Member]:
    """Return the members of an archive by name, in the order of its list. Folders are members too.

    Takes memory in proportion to the size of the list. Raises InvalidError if the file is not a valid zip archive, or
    if a member is encrypted, or compressed by another method than deflate; EOFError if the file becomes shorter.
    """
    try:
        with zipfile.ZipFile(_Positioned(source)) as archive:
            infos, end = archive.infolist(), archive.start_dir
            _check_end(source, len(archive.comment))
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError, struct.error) as error:
        raise InvalidError(f"it is not a valid zip archive ({error})") from error
    members: dict[str, Member] = {}
    for info in infos:
        if info.filename in members:
            raise InvalidError(f"its member {info.filename!r:.200} occurs twice")
        members[info.filename] = _member_of(source, info)
    _check_places(infos, members, end)
    return members


def _check_end(source: Source, comment_bytes: int) -> None:
    """Raise InvalidError unless the archive, with its comment, ends where the file does."""
    start = source.size_bytes - comment_bytes - _END_BYTES
    end = source.read(start, _END_BYTES)
    if not end.startswith(_END) or int.from_bytes(end[-2:], "little") != comment_bytes:
        raise InvalidError("its end is missing, or there is something else after it")


def _member_of(source: Source, info: zipfile.ZipInfo) -> Member:
    what = f"its member {info.filename!r:.200}"
    if info.flag_bits & _ENCRYPTED or info.compress_type not in _METHODS:
        raise InvalidError(f"{what} is encrypted, or compressed by a method other than deflate")
    is_stored = info.compress_type == zipfile.ZIP_STORED
    if is_stored and info.compress_size != info.file_size:
        raise InvalidError(f"{what} is stored, but has two sizes")
    name = info.orig_filename.encode("utf-8" if info.flag_bits & UTF_8 else "cp437")
    size_bytes = HEADER.size + len(name)
    if not 0 <= info.header_offset <= source.size_bytes - size_bytes:
        raise InvalidError(f"{what} is beyond the end of the file")
    header = source.read(info.header_offset, size_bytes)
    extra_bytes = HEADER.unpack_from(header)[-1]
    if not _agrees(header, info, name):
        raise InvalidError(f"the header of {what} differs from what the list of members says")
    offset = info.header_offset + size_bytes + extra_bytes
    return Member(info.filename, offset, info.compress_size, info.file_size, info.CRC, is_stored)


def _agrees(header: bytes, info: zipfile.ZipInfo, name: bytes) -> bool:
    """Return True if the header of a member says the same as the list. name: in the list."""
    signature, flags, method, crc32, stored_bytes, size_bytes, name_bytes, _ = HEADER.unpack_from(header)
    if signature != SIGNATURE or name_bytes != len(name) or header[HEADER.size :] != name:
        return False
    if method != info.compress_type or (flags ^ info.flag_bits) & ~UTF_8 or info.filename != info.orig_filename:
        return False
    if flags & IN_DESCRIPTOR and not (crc32 or stored_bytes or size_bytes):  # they follow the content
        return True
    sizes = (stored_bytes, info.compress_size), (size_bytes, info.file_size)
    return crc32 == info.CRC and all(size in (listed, IN_ZIP64) for size, listed in sizes)


def _check_places(infos: list[zipfile.ZipInfo], members: dict[str, Member], end: int) -> None:
    """Raise InvalidError unless the members follow each other from the start of the file to the list, at `end`."""
    position = 0
    for info in sorted(infos, key=lambda info: info.header_offset):
        if info.header_offset < position:
            raise InvalidError(f"its member {info.filename!r:.200} shares bytes with another")
        if not position and info.header_offset:
            raise InvalidError("there is something else in front of the archive")
        member = members[info.filename]
        position = member.offset + member.stored_bytes
    if position > end:
        raise InvalidError("its members reach beyond the end")


def start_of(source: Source, member: Member, size_bytes: int) -> bytes:
    """Return the first bytes of the content of a member, at most `size_bytes`. They are not checked.

    Raises InvalidError if they cannot be decompressed.
    """
    if member.is_stored:
        return source.read(member.offset, min(size_bytes, member.stored_bytes))
    content = source.read(member.offset, min(2 * size_bytes + _SLACK_BYTES, member.stored_bytes))
    return _inflated(content, member, min(size_bytes, member.size_bytes))


def content_of(source: Source, member: Member) -> bytes:
    """Return the content of a member, decompressed. The caller limits `size_bytes`, which a file can make up.

    Raises InvalidError if it does not have this size or this checksum.
    """
    content = source.read(member.offset, member.stored_bytes)
    if not member.is_stored:
        content = _inflated(content, member, member.size_bytes + 1)  # one too many, to notice that there are more
    if len(content) != member.size_bytes or zlib.crc32(content) != member.crc32:
        raise InvalidError(f"its member {member.name!r:.200} does not match its CRC-32")
    return content


def _inflated(content: bytes, member: Member, most_bytes: int) -> bytes:
    """Return deflated content, at most that many bytes. Raises InvalidError if it cannot be decompressed."""
    inflating = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        return inflating.decompress(content, most_bytes)
    except zlib.error as error:
        raise InvalidError(f"its member {member.name!r:.200} cannot be decompressed ({error})") from error


class _Positioned(io.RawIOBase):
    """A source as a file with a position."""

    def __init__(self, source: Source) -> None:
        self._source, self._position = source, 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position, and return it. Raises what is both ValueError and OSError if it is negative."""
        position = offset + (0, self._position, self._source.size_bytes)[whence]
        if position < 0:
            raise io.UnsupportedOperation(f"negative position {position}")
        self._position = position
        return position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def read(self, size: int = -1) -> bytes:
        """Return the bytes from the position to the end, at most `size` of them."""
        rest = max(0, self._source.size_bytes - self._position)
        content = self._source.read(self._position, rest if size is None or size < 0 else min(size, rest))
        self._position += len(content)
        return content
