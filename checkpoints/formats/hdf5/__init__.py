"""HDF5, version 3: a dataset for each tensor, in groups that follow the module tree.

    structure          as in structure/, padded so that the data start at a multiple of 64
    the tensors        little-endian, C-contiguous, without gaps; tensors with larger elements come first, so that each
                       is aligned, and tensors with elements of the same size keep the order of the state
    `/__statezoo__`    a contiguous uint8 dataset up to the end of the file: the index, then the footer

`fc1.weight` is the dataset `/fc1/weight`, contiguous, so that it can be mapped. A tie is a hard link to the dataset of
the stored tensor. A view exists only in the manifest. bfloat16 and smaller floats are opaque elements of their size in
NumPy, with NumPy's name for the dtype in the attribute `dtype`, a text of fixed length. Complex numbers and booleans
are stored as h5py stores them.

The index is the JSON object `{"manifest": text, "metadata": {...}, "tensors": {...}, "version": 3}`. Its metadata has
sorted keys. Its tensors are as in a safetensors header, in the order of the state: `name: {"dtype": ..., "shape":
[...], "data_offsets": [begin, end]}`. The offsets count from the start of the data. The footer is a line of 115 bytes:

    "\\nstatezoo.hdf5 " digest-of-structure " " bytes-of-structure " " digest-of-index " " bytes-of-index "\\n"

The digests are xxh3-128. All numbers are lower-case hexadecimal, the sizes with 16 digits. Every byte outside the
tensors is therefore covered by a digest, and our files are read without libhdf5 and without h5py. Version 2 had a
manifest of version 1, and groups whose links have no cached symbol tables.

Names become paths at their dots. Within a part of a name, `%`, `/` and NUL are written `%25`, `%2F` and `%00`; an empty
part is `%`; a dot after a prefix that is itself the name of a tensor (`a` beside `a.b`) is `%2E`; the first character
of a first part `__statezoo__` is `%5F`.

Limitations. A name has at most 200 parts and 60,000 bytes; an array has at most 32 axes.

A file without the footer is foreign, or one of ours that was damaged or changed: see foreign.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, NoReturn

from xxhash import xxh3_128, xxh3_128_hexdigest

from ...errors import CorruptError, StateError, VersionError
from ...state.manifest import TensorSpec
from ...state.sharing import Alias
from ...storage.source import Source
from .. import Layout, Opened, Salvaged
from ..entries import (
    InvalidError,
    checked_entries,
    checked_metadata,
    data_offsets,
    encode,
    entries_text,
    parsed,
    strings_text,
)
from .structure import Dataset, structure_of
from .structure.names import RESERVED, paths_of

SIGNATURE = b"\x89HDF\r\n\x1a\n"
_VERSION, _FIRST_VERSION = 3, 2
_MOST_AXES = 32
_FOOTER = re.compile(rb"\nstatezoo\.hdf5 ([0-9a-f]{32}) ([0-9a-f]{16}) ([0-9a-f]{32}) ([0-9a-f]{16})\n")
FOOTER_BYTES = 115
_CHUNK_BYTES = 1 << 20


def lay_out(
    tensors: Mapping[str, TensorSpec], aliases: Mapping[str, Alias], metadata: Mapping[str, str], manifest: str
) -> Layout:
    """Return the layout. The structure depends on the manifest only through its length."""
    return lay_out_groups(tensors, aliases, metadata, manifest, None)


def lay_out_groups(
    tensors: Mapping[str, TensorSpec],
    aliases: Mapping[str, Alias],
    metadata: Mapping[str, str],
    manifest: str,
    names: Mapping[tuple[bytes, ...], bytes] | None,
) -> Layout:
    """Return the layout of a file in which groups may have names, as Keras gives them (see structure_of)."""
    for name, tensor in tensors.items():
        if len(tensor.shape) > _MOST_AXES:
            raise StateError(f"tensor {name!r} has {len(tensor.shape)} axes, and HDF5 allows {_MOST_AXES}. Reshape it.")
    offsets = data_offsets(tensors)
    data_bytes = sum(tensor.size_bytes for tensor in tensors.values())
    strings = strings_text(metadata)
    entries = entries_text(tensors, offsets)

    def index(manifest: str) -> bytes:
        members = f'"manifest":{encode(manifest)},"metadata":{strings},"tensors":{{{entries}}},"version":{_VERSION}'
        return f"{{{members}}}".encode()

    tail = TensorSpec("U8", (len(index(manifest)) + FOOTER_BYTES,))
    datasets = [*_datasets(tensors, aliases, offsets), Dataset(tail, data_bytes, [(RESERVED.encode(),)])]
    structure = structure_of(datasets, data_bytes + tail.size_bytes, names)
    start, digest = len(structure), xxh3_128_hexdigest(structure)

    def seal(manifest: str) -> list[tuple[int, bytes]]:
        text = index(manifest)
        return [(0, structure), (start + data_bytes, text + footer_text(digest, start, text))]

    return Layout({name: start + offset for name, offset in offsets.items()}, seal)


def footer_text(structure_digest: str, structure_bytes: int, index: bytes) -> bytes:
    """Return the footer for a structure and an index."""
    text = f"\nstatezoo.hdf5 {structure_digest} {structure_bytes:016x} {xxh3_128_hexdigest(index)} {len(index):016x}\n"
    return text.encode()


def _datasets(
    tensors: Mapping[str, TensorSpec], aliases: Mapping[str, Alias], offsets: Mapping[str, int]
) -> list[Dataset]:
    """Return a dataset for each tensor, with the paths of its name and of the names tied to it."""
    ties = {name: alias.kept for name, alias in aliases.items() if alias.view is None}
    paths = paths_of([*tensors, *ties])
    datasets = {name: Dataset(tensor, offsets[name], [paths[name]]) for name, tensor in tensors.items()}
    for name, kept in ties.items():
        datasets[kept].paths.append(paths[name])
    return list(datasets.values())


def matches(source: Source) -> bool:
    """Return True if an HDF5 file starts at byte 0, or after a user block."""
    return start_of(source) is not None


def start_of(source: Source) -> int | None:
    """Return where an HDF5 file starts: at byte 0, or after a user block of 512, 1024, 2048, ... bytes."""
    places = [0, *(512 << n for n in range(source.size_bytes.bit_length()))]
    within = (place for place in places if place + len(SIGNATURE) <= source.size_bytes)
    return next((place for place in within if source.read(place, len(SIGNATURE)) == SIGNATURE), None)


def salvage(source: Source) -> Iterator[Salvaged]:
    """Yield the ways to read a damaged file whose index or structure is intact."""
    from .damaged import salvage_hdf5  # only a repair needs it

    return salvage_hdf5(source)


def read_as_stock(path: str) -> dict[str, bytes]:
    """Return the bytes of each dataset as h5py reads them."""
    from .stock import read_with_h5py

    return read_with_h5py(path)


def open_source(source: Source) -> Opened:
    """Check the index and the structure against their digests, and return the content of the index."""
    try:
        footer = footer_of(source)
        if footer is None:
            from .foreign import open_foreign

            return open_foreign(source)
        return _read_index(source, footer)
    except (InvalidError, EOFError) as error:
        reason = str(error) or "it was cut off while it was read"
        raise CorruptError(f"{source.name} is damaged: {reason}. Use another copy of it.") from error


class _Footer(NamedTuple):
    """The footer, and the start of the index that follows from it."""

    structure_digest: str
    start: int
    index_digest: str
    index_bytes: int
    index_start: int


def footer_of(source: Source) -> _Footer | None:
    """Return the footer, or None. Raises InvalidError if it needs more bytes than the file has."""
    if source.size_bytes < FOOTER_BYTES:
        return None
    match = _FOOTER.fullmatch(source.read(source.size_bytes - FOOTER_BYTES, FOOTER_BYTES))
    if match is None:
        return None
    structure_digest, start, index_digest, index_bytes = (field.decode() for field in match.groups())
    index_start = source.size_bytes - FOOTER_BYTES - int(index_bytes, 16)
    if index_start < int(start, 16):
        raise InvalidError("its footer does not fit its size")
    return _Footer(structure_digest, int(start, 16), index_digest, int(index_bytes, 16), index_start)


def _read_index(source: Source, footer: _Footer) -> Opened:
    text = source.read(footer.index_start, footer.index_bytes)
    if xxh3_128_hexdigest(text) != footer.index_digest:
        raise InvalidError("its index is not what was written")
    if digest_of_start(source, footer.start) != footer.structure_digest:
        _refuse_structure(source.name)
    index = parsed(text)
    _refuse_newer(index.get("version"), source.name)
    manifest, entries = index.get("manifest"), index.get("tensors")
    if not isinstance(manifest, str) or not isinstance(entries, dict):
        raise InvalidError("its index has no manifest or no tensors")
    metadata = checked_metadata(index.get("metadata"))
    data_bytes = footer.index_start - footer.start
    tensors, offsets, unsupported = checked_entries(entries, footer.start, data_bytes)
    if unsupported:
        raise InvalidError("its index has a tensor of an unknown dtype")
    return Opened(tensors, offsets, metadata, manifest, is_sealed=True)


def digest_of_start(source: Source, size_bytes: int) -> str:
    """Return the digest of the first `size_bytes` bytes, read in chunks."""
    digest = xxh3_128()
    for offset in range(0, size_bytes, _CHUNK_BYTES):
        digest.update(source.read(offset, min(_CHUNK_BYTES, size_bytes - offset)))
    return digest.hexdigest()


def _refuse_structure(path: str) -> NoReturn:
    raise CorruptError(
        f"{path} is damaged, or was changed by another program after it was saved: its HDF5 structure is not what was "
        "written. Use another copy of it. If it was changed on purpose, save the state again with save_file, or delete "
        f"{RESERVED} to load the file unchecked."
    )


def _refuse_newer(version: Any, path: str) -> None:
    if type(version) is not int or version < _FIRST_VERSION:
        raise InvalidError("its index has no version")
    if version > _VERSION:
        raise VersionError(
            f"{path} was written by a newer statezoo (its version of the file is {version!s:.20}, and this statezoo "
            f"reads up to {_VERSION}). Upgrade statezoo to load it."
        )
