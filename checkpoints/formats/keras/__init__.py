"""Models saved by Keras 3, read-only: a zip archive with the weights in an HDF5 file.

    metadata.json       the version of Keras and the date; the metadata here
    config.json         the architecture, which is not read
    model.weights.h5    the weights, and the state of the optimizer
    assets/             the files of layers such as vocabularies, which are not read

The tensors have the names of a `.weights.h5` file: `layers.dense_1.vars.0`, `optimizer.vars.3`. Keras stores the
members, so that the tensors are read and mapped where they are in the archive. If another program has compressed the
weights, they are unpacked into a temporary file first. The CRC-32 of the archive covers all bytes.

Limitations. Weights in `model.weights.npz`, an experiment of Keras that pickles them, are not read.

Source: Keras 3.15, saving/saving_lib.py.
"""

from __future__ import annotations

import io
import json
import mmap
import tempfile
import zlib
from typing import BinaryIO

import numpy as np

from ...errors import FormatError, ReadError
from ...state import dtypes
from ...storage.source import MemorySource, RangeSource, Source
from .. import Checksum, Opened, archive, hdf5, most_expanded_bytes
from ..archive import Member
from ..entries import InvalidError
from ..recognise import not_valid

_WEIGHTS, _PICKLED = "model.weights.h5", "model.weights.npz"
_METADATA, _MOST_METADATA_BYTES = "metadata.json", 1 << 20
_CHUNK_BYTES, _MOST_MEMORY_BYTES = 1 << 20, 64 << 20


def matches(source: Source) -> bool:
    """Return True if a file is an archive with a member for weights."""
    try:
        return bool(archive.members_of(source).keys() & {_WEIGHTS, _PICKLED})
    except (InvalidError, EOFError):
        return False


def open_source(source: Source) -> Opened:
    """Return the content of the weights, and the metadata of the model. Raises CorruptError or another FormatError."""
    try:
        members = archive.members_of(source)
        member = members.get(_WEIGHTS)
        if member is None:
            _refuse_pickle(source, members)
            raise InvalidError(f"it has no {_WEIGHTS}")
        metadata = _metadata_of(source, members)
        opened = _opened_in(source, member)
        opened.metadata = metadata | opened.metadata
        return opened
    except (InvalidError, EOFError) as error:
        raise not_valid(source, error, "Keras file", "keras") from error


def _refuse_pickle(source: Source, members: dict[str, Member]) -> None:
    """Raise FormatError for an archive that holds its weights as a pickle."""
    if _PICKLED in members:
        raise FormatError(
            f"{source.name} holds its weights as a pickle ({_PICKLED}), which is never loaded. Load it with "
            "keras.saving.load_model, and save it with model.save."
        )


def _opened_in(source: Source, member: Member) -> Opened:
    """Return the content of the HDF5 file in a member."""
    if not member.is_stored:
        return _opened_unpacked(source, member)
    inner = RangeSource(source, member.offset, member.size_bytes)
    inner.name = f"{_WEIGHTS} in {source.name}"
    opened = hdf5.open_source(inner)
    opened.offsets = {name: member.offset + offset for name, offset in opened.offsets.items()}
    return _with_checksum(opened, member, member.crc32)


def _with_checksum(opened: Opened, member: Member, crc32: int) -> Opened:
    """Return the content of a member, whose bytes in the archive have a CRC-32. Digests of our own need none."""
    if opened.manifest is None:
        checksum = Checksum(member.offset, member.stored_bytes, crc32)
        opened.checksums = dict.fromkeys(opened.tensors, checksum)
    return opened


def _opened_unpacked(source: Source, member: Member) -> Opened:
    """Return the content of a compressed HDF5 file, whose tensors are nowhere in the archive."""
    if member.size_bytes > most_expanded_bytes(source.size_bytes):
        raise InvalidError(f"{_WEIGHTS} would take {member.size_bytes:,} bytes, far more than the file has")
    inner, crc32 = _unpacked(source, member)
    opened = hdf5.open_source(inner)
    places, tensors, read_packed = opened.offsets, opened.tensors, opened.read

    def read(name: str) -> np.ndarray:
        if name not in places:
            assert read_packed is not None
            return read_packed(name)
        array = np.empty(tensors[name].shape, dtypes.numpy_dtype(tensors[name].dtype))
        inner.read_into(places[name], array.reshape(-1).view(np.uint8).data)
        return array

    opened.offsets, opened.read = {}, read
    return _with_checksum(opened, member, crc32)


def _unpacked(source: Source, member: Member) -> tuple[Source, int]:
    """Return the content of a compressed member, in memory or in a temporary file, after comparing its CRC-32.

    Also return the CRC-32 of the compressed bytes.
    """
    name = f"{_WEIGHTS} in {source.name}"
    if member.size_bytes <= _MOST_MEMORY_BYTES:
        buffer = io.BytesIO()
        packed_crc32 = _unpack(source, member, buffer)
        return MemorySource(buffer.getbuffer(), name), packed_crc32
    try:
        with tempfile.TemporaryFile() as file:
            packed_crc32 = _unpack(source, member, file)
            file.flush()
            return MemorySource(memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)), name), packed_crc32
    except OSError as error:
        raise ReadError(
            f"{source.name} could not be unpacked to a temporary file in {tempfile.gettempdir()}: "
            f"{error.strerror or error}. Free some space there, or set the environment variable TMPDIR.",
            error,
        ) from error


def _unpack(source: Source, member: Member, file: BinaryIO) -> int:
    """Write the content of a deflated member, at most a chunk more than it should have. Return the CRC-32 of its bytes.

    Raises InvalidError if its content has another size or another CRC-32 than it should.
    """
    inflating, crc32, packed_crc32 = zlib.decompressobj(-zlib.MAX_WBITS), 0, 0
    for start in range(0, member.stored_bytes, _CHUNK_BYTES):
        packed = source.read(member.offset + start, min(_CHUNK_BYTES, member.stored_bytes - start))
        packed_crc32, content = zlib.crc32(packed, packed_crc32), packed
        while content and file.tell() <= member.size_bytes:
            try:
                content = inflating.decompress(packed, _CHUNK_BYTES)
            except zlib.error as error:
                raise InvalidError(f"{_WEIGHTS} cannot be unpacked ({error})") from error
            file.write(content)
            crc32, packed = zlib.crc32(content, crc32), inflating.unconsumed_tail
    if file.tell() != member.size_bytes or crc32 != member.crc32:
        raise InvalidError(f"{_WEIGHTS} does not match its CRC-32")
    return packed_crc32


def _metadata_of(source: Source, members: dict[str, Member]) -> dict[str, str]:
    """Return the version of Keras and the date of a save, or nothing if the archive does not say them as texts."""
    member = members.get(_METADATA)
    if member is None or member.size_bytes > _MOST_METADATA_BYTES:
        return {}
    try:
        content = json.loads(archive.content_of(source, member))
    except (ValueError, RecursionError):
        return {}
    entries = content.items() if isinstance(content, dict) else ()
    return {key: value for key, value in entries if isinstance(value, str) and value.isprintable()}
