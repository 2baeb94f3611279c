"""The bytes of tensors, written to a file or read from it, with their digests made in the same pass.

Large tensors are written in parts and read whole, on several threads. Small ones are joined, because a system call
costs more than copying them.
"""

from __future__ import annotations

import mmap
import os
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, NamedTuple, TypeVar, cast

import numpy as np
from xxhash import xxh3_128_digest, xxh3_128_hexdigest

from ..errors import CorruptError
from ..state import digests, dtypes
from ..state.deferred import Deferred
from ..state.digests import Hasher, crc32_joined
from .durable import write_all
from .source import FileLike, Source
from .threads import Task, run_on_threads

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

# Small enough to stay in the processor's cache from the first use of its bytes to the last.
_CHUNK_BYTES = 1 << 20
_LEAST_CHUNK_BYTES = 1 << 16
_SMALL_BYTES = digests.LEAST_BLOCK_BYTES  # a small tensor is one block
_MAPPED_BYTES = 1 << 22
_RUN_BYTES = 1 << 20
# Below this, starting a thread costs more than it saves.
_BYTES_WORTH_A_THREAD = 1 << 22
# Without pwrite (Windows), two threads would move the position of the file under each other.
_MOST_WRITERS = None if hasattr(os, "pwrite") else 1
_MEMORY, _DTYPE = attrgetter("data"), attrgetter("dtype")
# The codes of dtypes whose memory Python's buffers can describe; big-endian memory is another.
_NATIVE = "?bBhHiIlLqQfd" if sys.byteorder == "little" else "?bB"


class Unchanged(Deferred):
    """An array that is copied from another file as it is, with the digests of its blocks, which are not compared.

    source, offset: where its bytes are. make: reads and checks it, if its values are needed.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: np.dtype,
        make: Callable[[], np.ndarray],
        source: FileLike,
        offset: int,
        blocks: bytes,
    ) -> None:
        super().__init__(shape, dtype, make)
        self.source, self.offset, self.blocks = source, offset, blocks


class Placed(NamedTuple):
    """An array and the place of its bytes in a file."""

    offset: int
    size_bytes: int
    name: str
    array: np.ndarray | Deferred


class Wanted(NamedTuple):
    """A tensor to read and the place of its bytes in a file. block_bytes: the size of the blocks of its digest."""

    offset: int
    size_bytes: int
    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    block_bytes: int


def memory_of(array: np.ndarray | Deferred) -> memoryview:
    """Return the bytes of an array as a file holds them: its own memory if it is C-contiguous."""
    little = dtypes.little_endian(np.asarray(array))
    # A non-contiguous array is copied here: a file holds raw memory, in which a transpose would be scrambled.
    return np.ascontiguousarray(little).reshape(-1).view(np.uint8).data


def _joined(arrays: Sequence[np.ndarray | Deferred]) -> bytes:
    """Return a copy of the bytes of small arrays, one after the other. Deferred arrays may all use the same memory."""
    if all(map(_has_buffer, set(map(_DTYPE, arrays)))):
        with suppress(TypeError, ValueError):  # one of them is a Deferred, or not C-contiguous
            return b"".join(cast("Sequence[ReadableBuffer]", arrays))
    return b"".join([memory_of(array).tobytes() for array in arrays])


def _has_buffer(dtype: np.dtype) -> bool:
    """Return True if the memory of such an array is a buffer that equals the bytes in a file."""
    return dtype.isnative and dtype.char in _NATIVE


def _is_in_place(run: list[Placed]) -> bool:
    """Return True if the arrays need not be copied or computed as a whole before their bytes are known."""
    if run[0].size_bytes < _SMALL_BYTES:
        return all(isinstance(item.array, np.ndarray) for item in run)
    array = run[0].array
    return isinstance(array, np.ndarray) and array.flags.c_contiguous and not dtypes.is_big_endian(array.dtype)


def chunks_of(memory: memoryview) -> Iterator[memoryview]:
    """Yield the bytes of memory in order, one chunk at a time."""
    for start in range(0, len(memory), _CHUNK_BYTES):
        yield memory[start : start + _CHUNK_BYTES]


def digest_of(array: np.ndarray | Deferred) -> str:
    """Return the digest of the bytes that a file holds for array."""
    return digests.digest_of(memory_of(array))


def write_tensors(descriptor: int, placed: list[Placed], crc32: dict[str, int] | None = None) -> dict[str, bytes]:
    """Write the bytes of each array to its place. Return the digests of its blocks, one after the other, by name.

    Every byte is copied into private memory once, and hashed and written from there. So the digests fit the file even
    if another thread changes the arrays meanwhile. Deferred arrays are computed on this thread, each after the bytes of
    the one before have been written. crc32: the checksums to continue over the bytes of each array, by name. For them,
    unchanged arrays are read too, and checked: a checksum of damaged bytes would hide the damage.
    """
    writer = _Writer(descriptor, crc32)
    unchanged = (
        [] if crc32 is not None else [(item, item.array) for item in placed if isinstance(item.array, Unchanged)]
    )
    if unchanged:
        placed = [item for item in placed if not isinstance(item.array, Unchanged)]
        writer.digests |= _copied(descriptor, unchanged)
    together: list[list[Placed]] = []
    one_by_one: list[list[Placed]] = []  # so that no two copies are in memory at once
    for run in _runs(placed):
        (together if _is_in_place(run) else one_by_one).append(run)
    tasks = [task for run in together for task in writer.tasks(run)]
    _run(tasks, sum(run[0].size_bytes for run in together if run[0].size_bytes >= _SMALL_BYTES), _MOST_WRITERS)
    for run in one_by_one:
        _run(writer.tasks(run), run[0].size_bytes, _MOST_WRITERS)
    if crc32 is not None:
        crc32.update(writer.checksums())
    return writer.digests | {name: b"".join(parts) for name, parts in writer.parts.items()}


def _copied(descriptor: int, unchanged: list[tuple[Placed, Unchanged]]) -> dict[str, bytes]:
    """Copy the bytes of unchanged arrays, adjacent ones together. Return the digests of their blocks, by name."""
    ranges: list[tuple[FileLike, int, int, int]] = []  # source, offset, size, place
    for (place, size_bytes, _, _), array in sorted(unchanged, key=lambda pair: pair[0].offset):
        source, offset, size, start = ranges[-1] if ranges else (None, 0, 0, 0)
        if source is array.source and (offset + size, start + size) == (array.offset, place):
            ranges[-1] = array.source, offset, size + size_bytes, start
        else:
            ranges.append((array.source, array.offset, size_bytes, place))
    for source, offset, size, place in ranges:
        copied = source.copy_to(descriptor, offset, size, place)
        buffer = memoryview(bytearray(min(size - copied, _CHUNK_BYTES)))
        for start in range(copied, size, _CHUNK_BYTES):  # what the system refuses is read and written
            chunk = buffer[: size - start]
            try:
                source.read_into(offset + start, chunk)
            except EOFError as error:
                raise CorruptError(f"{source.name} was cut off while it was read. Use another copy of it.") from error
            write_all(descriptor, chunk, place + start)
    return {item.name: array.blocks for item, array in unchanged}


class _Writer:
    """Writes the bytes of arrays to a file.

    digests: those of small arrays, by name. parts: those of the blocks of large arrays, in parts, by name. crc32: the
    checksums to continue, or None to compute none.
    """

    def __init__(self, descriptor: int, crc32: Mapping[str, int] | None = None) -> None:
        self.digests: dict[str, bytes] = {}
        self.parts: dict[str, list[bytes]] = {}
        self._descriptor, self._crc32 = descriptor, crc32
        self._checksums: dict[str, int] = {}
        self._checksum_parts: dict[str, list[tuple[int, int]]] = {}  # each with the number of bytes
        self._free: list[np.ndarray] = []  # buffers that no thread uses

    def tasks(self, run: list[Placed]) -> list[Task]:
        """Return the tasks that write a run of small arrays or a large one. A large Deferred is computed at once."""
        if run[0].size_bytes < _SMALL_BYTES:
            return [partial(self._write_small, run)]
        (item,) = run
        memory = np.frombuffer(memory_of(item.array), np.uint8)
        block_bytes = digests.block_bytes_of(item.size_bytes)
        part_bytes = block_bytes * max(1, _CHUNK_BYTES // block_bytes)
        starts = range(0, item.size_bytes, part_bytes)
        self.parts[item.name] = [b""] * len(starts)
        self._checksum_parts[item.name] = [(0, 0)] * len(starts)
        return [
            partial(
                self._write_part,
                item.name,
                number,
                memory[start : start + part_bytes],
                item.offset + start,
                block_bytes,
            )
            for number, start in enumerate(starts)
        ]

    def _write_small(self, run: list[Placed]) -> None:
        offsets, sizes, names, arrays = zip(*run, strict=True)
        content = _joined(arrays)
        view, start = memoryview(content), offsets[0]
        write_all(self._descriptor, content, start)
        slices = [view[offset - start : offset - start + size] for offset, size in zip(offsets, sizes, strict=True)]
        self.digests.update(zip(names, map(xxh3_128_digest, slices), strict=True))
        if self._crc32 is not None:
            starts = map(self._crc32.__getitem__, names)
            self._checksums.update(zip(names, map(zlib.crc32, slices, starts), strict=True))

    def _write_part(self, name: str, number: int, memory: np.ndarray, offset: int, block_bytes: int) -> None:
        """Write a part of a large array that consists of whole blocks, in chunks that stay in the cache."""
        buffer = self._buffer()
        hasher, checksum = Hasher(block_bytes), 0
        for start in range(0, len(memory), len(buffer)):
            live = memory[start : start + len(buffer)]
            chunk = buffer[: len(live)]
            chunk[...] = live
            hasher.update(chunk.data)
            if self._crc32 is not None:
                checksum = zlib.crc32(chunk.data, checksum)
            write_all(self._descriptor, chunk.data, offset + start)
        self.parts[name][number] = hasher.blocks()
        self._checksum_parts[name][number] = checksum, len(memory)
        self._free.append(buffer)

    def checksums(self) -> dict[str, int]:
        """Return the continued checksums, by name."""
        assert self._crc32 is not None
        found = self._checksums
        for name, parts in self._checksum_parts.items():
            found[name] = self._crc32[name]
            for checksum, size_bytes in parts:
                found[name] = crc32_joined(found[name], checksum, size_bytes)
        return found

    def _buffer(self) -> np.ndarray:
        try:
            return self._free.pop()
        except IndexError:
            pass
        try:
            return np.empty(_CHUNK_BYTES, np.uint8)
        except MemoryError:
            return np.empty(_LEAST_CHUNK_BYTES, np.uint8)


def read_tensors(
    source: Source, wanted: list[Wanted], with_digests: bool
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return new arrays by name, in any order, and their digests if `with_digests`.

    Raises EOFError if the source is too short.
    """
    arrays: dict[str, np.ndarray] = {}
    found: dict[str, str] = {}

    def small(run: list[Wanted]) -> None:
        _, _, names, kinds, shapes, _ = zip(*run, strict=True)
        made = list(map(np.empty, shapes, kinds))
        buffers = list(map(_MEMORY if all(map(_has_buffer, set(kinds))) else memory_of, made))
        source.read_into(run[0].offset, *buffers)
        arrays.update(zip(names, made, strict=True))
        if with_digests:
            found.update(zip(names, map(xxh3_128_hexdigest, buffers), strict=True))

    def large(item: Wanted) -> None:
        arrays[item.name] = array = np.empty(item.shape, item.dtype)
        memory, digest, offset = array.reshape(-1).view(np.uint8).data, Hasher(item.block_bytes), item.offset
        if not with_digests:
            source.read_into(offset, memory)
            return
        for chunk in chunks_of(memory):
            source.read_into(offset, chunk)
            digest.update(chunk)
            offset += len(chunk)
        found[item.name] = digest.hexdigest()

    _run_by_place(wanted, small, large)
    return arrays, found


def map_tensors(memory: memoryview, wanted: list[Wanted]) -> dict[str, np.ndarray]:
    """Return the arrays by name, backed by `memory`, which is the mapped file."""
    return {name: np.ndarray(shape, dtype, memory, offset) for offset, _, name, dtype, shape, _ in wanted}


def digests_of(memory: memoryview, wanted: list[Wanted]) -> dict[str, str]:
    """Return the digests of tensors in `memory`, which is the mapped file."""
    found: dict[str, str] = {}

    def small(run: list[Wanted]) -> None:
        for item in run:
            found[item.name] = xxh3_128_hexdigest(memory[item.offset : item.offset + item.size_bytes])

    def large(item: Wanted) -> None:
        digest, end = Hasher(item.block_bytes), item.offset + item.size_bytes
        for start in range(item.offset, end, _MAPPED_BYTES):
            part = memory[start : min(start + _MAPPED_BYTES, end)]
            # xxhash keeps the interpreter's lock for each block. NumPy lets other threads go on while pages are mapped.
            np.frombuffer(part, np.uint8)[:: mmap.PAGESIZE].max()
            digest.update(part)
        found[item.name] = digest.hexdigest()

    _run_by_place(wanted, small, large)
    return found


def read_digests(source: Source, wanted: list[Wanted]) -> dict[str, str]:
    """Return the digests of tensors, which are read through small buffers and not kept.

    Raises EOFError if the source is too short.
    """
    found: dict[str, str] = {}

    def small(run: list[Wanted]) -> None:
        start = run[0].offset
        content = memoryview(source.read(start, sum(item.size_bytes for item in run)))
        for item in run:
            place = item.offset - start
            found[item.name] = xxh3_128_hexdigest(content[place : place + item.size_bytes])

    def large(item: Wanted) -> None:
        buffer, digest = memoryview(bytearray(min(_CHUNK_BYTES, item.size_bytes))), Hasher(item.block_bytes)
        for start in range(0, item.size_bytes, len(buffer)):
            chunk = buffer[: item.size_bytes - start]
            source.read_into(item.offset + start, chunk)
            digest.update(chunk)
        found[item.name] = digest.hexdigest()

    _run_by_place(wanted, small, large)
    return found


def _run_by_place(wanted: list[Wanted], small: Callable[[list[Wanted]], None], large: Callable[[Wanted], None]) -> None:
    """Process large tensors one by one, and runs of adjacent small ones together."""
    tasks = [
        partial(large, run[0]) if run[0].size_bytes >= _SMALL_BYTES else partial(small, run) for run in _runs(wanted)
    ]
    # Small tensors spend most of their time in Python, where threads only wait for each other.
    _run(tasks, sum(size for size in map(itemgetter(1), wanted) if size >= _SMALL_BYTES))


Item = TypeVar("Item", Placed, Wanted)


def _run(tasks: Sequence[Task], size_bytes: int, most_threads: int | None = None) -> None:
    """Run tasks that process `size_bytes` in total, on several threads where that helps."""
    run_on_threads(tasks, 1 if size_bytes < _BYTES_WORTH_A_THREAD else most_threads)


def _runs(items: list[Item]) -> Iterator[list[Item]]:
    """Yield items by place: adjacent small ones together, up to about 1 MiB, and large ones alone."""
    run: list[Item] = []
    start = end = 0
    for item in sorted(items, key=itemgetter(0)):
        offset, size_bytes = item[0], item[1]
        if run and (size_bytes >= _SMALL_BYTES or offset != end or end - start >= _RUN_BYTES):
            yield run
            run = []
        if size_bytes >= _SMALL_BYTES:
            yield [item]
            continue
        if not run:
            start = offset
        end = offset + size_bytes
        run.append(item)
    if run:
        yield run
