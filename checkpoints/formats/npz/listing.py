"""npz files of other programs, and ours after another program wrote them again.

Everything that numpy.savez and numpy.savez_compressed write is read, and arrays of either byte order and order of axes.
An array that is stored as it is in memory is read, or mapped, at its offset. All others are read as a whole. Compressed
ones may expand, together, to 128 times the size of the file plus 16 MiB.

Arrays of Python objects are stored as a pickle, which is never loaded. They are listed as unsupported, with the reason,
as are text, dates, records, raw bytes, and members that are not arrays. bfloat16 and
float8_e5m2 are read as NumPy writes them; the other small floats are all `<V1`, which does not say which of them it is.

Before version 1, `convert` wrote plain arrays and `__statezoo__.npy`, a 0-d array of text: the JSON object
`{"extra": {...}, "metadata": {...}}`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, NoReturn

import numpy as np

from ...errors import CorruptError
from ...state.manifest import TensorSpec
from ...storage.source import Source
from .. import Checksum, Opened, most_expanded_bytes
from ..archive import Member, content_of, members_of, start_of
from ..entries import InvalidError, checked_entries, checked_metadata, parsed
from .header import Array, parsed_header, values_of
from .index import parsed_index
from .structure import RESERVED, SUFFIX

_UNLIMITED = 1 << 63


class Found(NamedTuple):
    """A member that is an array, and what its header says. tensor: its dtype and shape, or None if it is unreadable."""

    member: Member
    array: Array
    tensor: TensorSpec | None


class Listing(NamedTuple):
    """The arrays of an archive by name, in order, and the names of the members that are not arrays."""

    arrays: dict[str, Found]
    others: list[str]


def open_listed(source: Source) -> Opened:
    """Return the content of an archive. Raises InvalidError, or CorruptError if it differs from its index."""
    listing = listing_of(source, members_of(source))
    ours = listing.arrays.get(RESERVED)
    if ours is None or ours.tensor is None or ours.tensor.dtype != "U8" or len(ours.tensor.shape) != 1:
        return _foreign(source, listing)
    index = parsed_index(values_of(content_of(source, ours.member), ours.array, ours.tensor).tobytes(), source.name)
    tensors, _, unsupported = checked_entries(index["tensors"], 0, _UNLIMITED, gaps=True)
    if unsupported:
        raise InvalidError("its index has a tensor of an unknown dtype")
    known: dict[str, Found] = {}
    for name, tensor in tensors.items():
        member_name = index["members"].get(name, name)
        found = listing.arrays.pop(member_name, None)
        if found is None or not found.array.fits(tensor) or not _fits(found.member, found.array, tensor):
            _refuse_change(source, f"has no array {member_name!r:.200} as it was written", name)
        known[name] = found._replace(tensor=tensor)
    for name in [*listing.arrays, *listing.others]:
        if name != RESERVED:
            _refuse_change(source, f"has the member {name!r:.200}", name)
    opened = opened_of(source, Listing(known, []))
    opened.manifest, opened.metadata = index["manifest"], index["metadata"]
    return opened


def _foreign(source: Source, listing: Listing) -> Opened:
    """Return the content of a listing without an index, with the checksums of its members."""
    opened = opened_of(source, listing)
    members = {name: listing.arrays[name].member for name in opened.offsets}
    opened.checksums = {name: Checksum(item.offset, item.size_bytes, item.crc32) for name, item in members.items()}
    found = listing.arrays.get(RESERVED)
    content = _content_of_convert(source, found) if found is not None else None
    if content is not None:
        del opened.unsupported[RESERVED]
        opened.metadata, opened.extra = content
    return opened


def _content_of_convert(source: Source, found: Found) -> tuple[dict[str, str], dict[str, Any]] | None:
    """Return metadata and extra state as `convert` wrote them once. Return None if the array is something else."""
    if not found.array.descr.startswith("<U") or found.array.shape:
        return None
    try:
        content = parsed(content_of(source, found.member)[found.array.start :].decode("utf-32-le").encode())
        metadata, extra = checked_metadata(content["metadata"]), content["extra"]
    except (InvalidError, LookupError, UnicodeError):
        return None
    return (metadata, extra) if isinstance(extra, dict) else None


def _refuse_change(source: Source, what: str, name: str) -> NoReturn:
    raise CorruptError(
        f"{source.name} is damaged, or was changed by another program after it was saved: it {what}, contrary to "
        f"{RESERVED}. If it was changed on purpose, save the state again with save_file, or delete {RESERVED}{SUFFIX} "
        "from the archive to load the file unchecked.",
        (name,),
    )


def listing_of(source: Source, members: Mapping[str, Member]) -> Listing:
    """Return the arrays among members. Raises InvalidError if one is not valid, or if none is an array."""
    listing = Listing({}, [])
    expanded_bytes = 0
    most_bytes = most_expanded_bytes(source.size_bytes)
    for full_name, member in members.items():
        if full_name.endswith("/") and not member.size_bytes:  # a folder
            continue
        expanded_bytes += 0 if member.is_stored else member.size_bytes
        if expanded_bytes > most_bytes:
            raise InvalidError(f"its compressed members expand to more than {most_bytes:,} bytes")
        name = full_name.removesuffix(SUFFIX)
        if name == full_name:
            listing.others.append(name)
        else:
            listing.arrays[name] = _found(source, member)
    for name in listing.others:
        if name in listing.arrays:
            raise InvalidError(f"two of its members are named {name!r:.200}")
    if members and not listing.arrays:
        raise InvalidError(f"it is an archive, but none of its members ends in {SUFFIX}")
    return listing


def _found(source: Source, member: Member) -> Found:
    try:
        array = parsed_header(lambda size_bytes: start_of(source, member, size_bytes))
    except InvalidError as error:
        raise InvalidError(f"its member {member.name!r:.200}: {error}") from error
    tensor = array.tensor
    if tensor is not None and not _fits(member, array, tensor):
        raise InvalidError(f"its member {member.name!r:.200} does not have the size that its .npy header gives")
    return Found(member, array, tensor)


def _fits(member: Member, array: Array, tensor: TensorSpec) -> bool:
    return array.start + tensor.size_bytes == member.size_bytes


def opened_of(source: Source, listing: Listing) -> Opened:
    """Return the content of a listing, in its order."""
    tensors = {name: found.tensor for name, found in listing.arrays.items() if found.tensor is not None}
    found = {name: listing.arrays[name] for name in tensors}
    unsupported = {name: item.array.reason for name, item in listing.arrays.items() if item.tensor is None}
    unsupported |= dict.fromkeys(listing.others, f"it is not an array: the name of its member does not end in {SUFFIX}")
    offsets = {
        name: item.member.offset + item.array.start
        for name, item in found.items()
        if item.member.is_stored and item.array.is_in_place
    }

    def read(name: str) -> np.ndarray:
        try:
            return values_of(content_of(source, found[name].member), found[name].array, tensors[name])
        except InvalidError as error:
            raise CorruptError(f"{source.name} is damaged: {error}. Use another copy of it.", (name,)) from error

    return Opened(tensors, offsets, unsupported=unsupported, read=read)
