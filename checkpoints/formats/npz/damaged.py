"""Reading damaged .npz files.

Our index comes first, so it survives if a file is cut off, and it says where everything is, whatever happened to the
structure of the archive. If the index is damaged, or the file is foreign, the arrays are those that the list of members
has, or those that are found by their headers, one after the other. Then no tensor can be checked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace

from ...errors import CorruptError
from ...storage.source import Source
from .. import Salvaged
from ..archive import HEADER, IN_DESCRIPTOR, IN_ZIP64, SIGNATURE, UTF_8, Member, members_of
from ..damaged import Spliced, notes_on_size
from ..entries import InvalidError
from .index import index_at_start, opened_from
from .listing import listing_of, opened_of
from .structure import RESERVED, index_member, member_names, pieces_of, placed

_UNLIMITED = 1 << 63
_CHUNK_BYTES = 1 << 20
_NO_MANIFEST = (
    "its index is damaged: nothing can be checked, not even names and shapes, and views and extra state are lost"
)
_NO_STRUCTURE = "the structure of the archive is damaged, or was changed by another program"
_NO_INDEX = "its index is damaged or missing: nothing can be checked, and metadata, views and extra state are lost"
_NO_LIST = "its list of members is damaged: nothing can be checked, and members that are not found are lost"


def salvage_npz(source: Source) -> Iterator[Salvaged]:
    """Yield what the index says, then what the list of members says, then the members that are found by their headers.

    Raises CorruptError if there are none.
    """
    with suppress(InvalidError, EOFError):
        yield from _by_index(source)
    with suppress(InvalidError, EOFError):
        yield _by_members(source, members_of(source), _NO_INDEX)
    members = _members_found(source)
    end = max((member.offset + member.stored_bytes for member in members.values()), default=0)
    spliced = Spliced(source, max(end, source.size_bytes))
    members = {name: member for name, member in members.items() if _is_readable(spliced, member)}
    try:
        yield _by_members(spliced, members, _NO_LIST)
    except (InvalidError, EOFError) as error:
        raise CorruptError(f"the members of {source.name} are damaged: {error}.") from error


def _by_index(source: Source) -> Iterator[Salvaged]:
    """Yield the content of the index with its manifest, then without. Yield nothing if there is no index."""
    text = index_at_start(source, check=False)
    if text is None:
        return
    opened = opened_from(text, source, _UNLIMITED)
    members = placed(opened.tensors, member_names(opened.tensors))
    start = index_member(len(text)).end
    if any(opened.offsets[name] != start + member.offset for name, member in members.items()):
        raise InvalidError("its index is not what was written")
    offset, seal = pieces_of(text, members, dict.fromkeys(members, 0))[-1]
    notes = notes_on_size(source, offset + len(seal)) or [_NO_STRUCTURE]
    spliced = Spliced(source, offset + len(seal))
    yield Salvaged(spliced, opened, notes)
    yield Salvaged(spliced, replace(opened, manifest=None), [*notes, _NO_MANIFEST], whole=False)


def _by_members(source: Source, members: Mapping[str, Member], note: str) -> Salvaged:
    listing = listing_of(source, members)
    if not listing.arrays:
        raise InvalidError("none of them is an array")
    listing.arrays.pop(RESERVED, None)
    return Salvaged(source, opened_of(source, listing), [note], whole=False)


def _is_readable(source: Source, member: Member) -> bool:
    try:
        listing_of(source, {member.name: member})
    except (InvalidError, EOFError):
        return False
    return True


def _members_found(source: Source) -> dict[str, Member]:
    """Return the members whose headers are found, one after the other, from the start of a file."""
    members: dict[str, Member] = {}
    position = _next_header(source, 0)
    while position is not None:
        member = _member_at(source, position)
        if member is None or member.name in members:
            position = _next_header(source, position + 1)
            continue
        members[member.name] = member
        position = _next_header(source, member.offset + member.stored_bytes)
    return members


def _next_header(source: Source, position: int) -> int | None:
    """Return where the next signature of a member starts, or None if there is none."""
    while position < source.size_bytes:
        chunk = source.read(position, min(_CHUNK_BYTES, source.size_bytes - position))
        if (place := chunk.find(SIGNATURE)) >= 0:
            return position + place
        position += max(1, len(chunk) - len(SIGNATURE) + 1)
    return None


def _member_at(source: Source, position: int) -> Member | None:
    """Return the member whose header is at a position, or None if the header does not say what it needs."""
    with suppress(EOFError, UnicodeDecodeError):
        head = HEADER.unpack(source.read(position, HEADER.size))
        _, flags, method, crc32, stored_bytes, size_bytes, name_bytes, extra_bytes = head
        name = source.read(position + HEADER.size, name_bytes).decode("utf-8" if flags & UTF_8 else "cp437")
        extra = source.read(position + HEADER.size + name_bytes, extra_bytes)
        if size_bytes == IN_ZIP64 and extra[:4] == b"\1\0\x10\0" and len(extra) >= 20:
            size_bytes, stored_bytes = (int.from_bytes(extra[start : start + 8], "little") for start in (4, 12))
        is_stored = method == 0
        if method in (0, 8) and not flags & IN_DESCRIPTOR and (stored_bytes == size_bytes or not is_stored):
            offset = position + HEADER.size + name_bytes + extra_bytes
            return Member(name, offset, stored_bytes, size_bytes, crc32, is_stored)
    return None
