"""npz, version 1: a NumPy archive, a zip file with a .npy file for each tensor.

    `__statezoo__.npy`   the index, a uint8 array of JSON, padded with spaces to a multiple of 64 bytes
    `NAME.npy`           each stored tensor, in the order of the state: C-contiguous, little-endian
    the list of members  in the same order, but the index last
    the seal             the comment of the archive: "statezoo.npz " and the xxh3-128, in hexadecimal, of everything
                         else in the file but the bytes of the tensors

Members are stored, not compressed, with a fixed date, and an extra field in front of each lets its data start at a
multiple of 64 bytes, so that they can be mapped. Members and archives beyond 4 GiB have the fields of zip64. The CRC-32
of each member is right, as NumPy checks it.

The index is the object `{"manifest": text, "members": {...}, "metadata": {...}, "tensors": {...}, "version": 1}`. Its
tensors are as in a safetensors header, `name: {"dtype": ..., "shape": [...], "data_offsets": [begin, end]}`; the
offsets count from the end of the index, and other bytes may stand between the tensors. `members` has the name of the
member, without `.npy`, of each tensor that cannot have its own: names with a NUL or a backslash, names that start with
`__statezoo__` or have more than 65,531 bytes, and `a.npy` beside `a`, are `__statezoo__/N` for the N-th tensor.

`numpy.load(path)` has the stored tensors under their names, and the index last. NumPy has no bfloat16 and smaller
floats: it returns them as raw bytes, `array.view(ml_dtypes.bfloat16)`. Ties and views are only in the manifest: two
members of a zip archive cannot share their bytes. zipfile checks that each has its own name in front of its own bytes
(since Python 3.11.8, 3.12.2).

Without a seal, another program has written the archive again. Then the members are read as those of a foreign archive
(see listing.py) and compared with the index.

Source: numpy.lib.format and numpy.savez; for zip see structure.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import numpy as np
from xxhash import xxh3_128

from ...errors import CorruptError
from ...state.manifest import TensorSpec
from ...state.sharing import Alias
from ...storage.source import Source
from .. import Layout, Opened, Salvaged
from ..entries import InvalidError, encode, entries_text, strings_text
from ..recognise import not_valid
from .index import VERSION, index_at_start, opened_from, parsed_index
from .structure import (
    ALIGNMENT_BYTES,
    END,
    FIRST,
    RESERVED,
    SEAL_BYTES,
    SUFFIX,
    gaps_of,
    index_member,
    member_names,
    pieces_of,
    placed,
)

_SEALED = re.compile(rb"PK\x05\x06.{18}statezoo\.npz ([0-9a-f]{32})", re.DOTALL)
_EMPTY = b"PK\5\6"
_WINDOW_BYTES = 1 << 14


def lay_out(
    tensors: Mapping[str, TensorSpec], aliases: Mapping[str, Alias], metadata: Mapping[str, str], manifest: str
) -> Layout:
    """Return the layout. The structure depends on the manifest only through its length and the checksums."""
    names = member_names(tensors)
    members = placed(tensors, names)
    entries = entries_text(tensors, {name: member.offset for name, member in members.items()})
    strings, others = strings_text(metadata), encode(names)

    def index(manifest: str) -> bytes:
        fields = f'"manifest":{encode(manifest)},"members":{others},"metadata":{strings},"tensors":{{{entries}}}'
        text = f'{{{fields},"version":{VERSION}}}'.encode()
        return text + b" " * (-len(text) % ALIGNMENT_BYTES)

    start = index_member(len(index(manifest))).end
    crc32 = {name: member.checksum for name, member in members.items()}

    def seal(manifest: str) -> list[tuple[int, bytes]]:
        return pieces_of(index(manifest), members, crc32)

    return Layout({name: start + member.offset for name, member in members.items()}, seal, crc32)


def matches(source: Source) -> bool:
    """Return True if a file is an archive whose first member, after folders, is a .npy file, or an empty archive."""
    name, place = b"/", 0
    while name.endswith(b"/") and source.size_bytes >= place + 30:
        head = source.read(place, 30)
        if not head.startswith(FIRST):
            break
        name_bytes, extra_bytes = (int.from_bytes(head[start : start + 2], "little") for start in (26, 28))
        name = source.read(place + 30, min(name_bytes, source.size_bytes - place - 30))
        place += 30 + name_bytes + extra_bytes
    return name.endswith(SUFFIX.encode()) or (source.size_bytes == END.size and source.read(0, 4) == _EMPTY)


def open_source(source: Source) -> Opened:
    """Read the index of one of our files, or the list of members. Raises CorruptError."""
    try:
        opened = _open_sealed(source)
        if opened is None:
            from .listing import open_listed  # our own files do not need it

            opened = open_listed(source)
        return opened
    except (InvalidError, EOFError) as error:
        raise not_valid(source, error, ".npz file", "npz") from error


def _open_sealed(source: Source) -> Opened | None:
    """Return the content of one of our files, or None without a seal. Raises CorruptError if the seal does not fit."""
    if source.size_bytes < END.size + SEAL_BYTES:
        return None
    found = _SEALED.fullmatch(source.read(source.size_bytes - END.size - SEAL_BYTES, END.size + SEAL_BYTES))
    if found is None:
        return None
    text = index_at_start(source)
    if text is None:
        raise InvalidError("its index is not what was written")
    opened = opened_from(text, source)
    spans = sorted((offset, offset + opened.tensors[name].size_bytes) for name, offset in opened.offsets.items())
    if _digest_of_rest(source, spans, source.size_bytes - 32) != found[1].decode():
        raise CorruptError(
            f"{source.name} is damaged, or was changed by another program after it was saved: its structure is not "
            "what was written. Use another copy of it. If it was changed on purpose, save the state again with "
            "save_file, or write the archive again without its comment."
        )
    opened.is_sealed = True
    return opened


def _digest_of_rest(source: Source, spans: list[tuple[int, int]], end: int) -> str:
    """Return the digest of the bytes around the tensors. spans: the ranges of the tensors, sorted."""
    digest = xxh3_128()
    window, first = b"", 0
    for start, stop in gaps_of(spans, end):
        if stop > first + len(window):  # small tensors leave many small gaps, which are read together
            window, first = source.read(start, min(max(stop - start, _WINDOW_BYTES), end - start)), start
        digest.update(memoryview(window)[start - first : stop - first])
    return digest.hexdigest()


def salvage(source: Source) -> Iterator[Salvaged]:
    """Yield what the index says, what the list of members says, and which members are found one after the other."""
    from .damaged import salvage_npz  # only a repair needs it

    return salvage_npz(source)


def read_as_stock(path: str) -> dict[str, bytes]:
    """Return the bytes of each tensor as numpy.load reads them."""
    with np.load(path) as archive:
        text = archive[RESERVED].tobytes()
        others = {member: name for name, member in parsed_index(text, path)["members"].items()}
        return {others.get(name, name): archive[name].tobytes() for name in archive.files if name != RESERVED}
