"""The bytes of tensors, written to a file or read from it, with their digests made in the same pass.

Large tensors go one by one, in chunks, on several threads. Small ones go many at a time, because a system call costs
more than copying them.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from operator import attrgetter, itemgetter
from typing import NamedTuple, TypeVar

import numpy as np
from xxhash import xxh3_128, xxh3_128_hexdigest

from ..state import dtypes
from ..state.deferred import Deferred
from .durable import write_all
from .source import Source
from .threads import Task, run_lanes, run_on_threads

# Small enough to be still in the processor's cache when the second of digest and copy comes to it.
_CHUNK_BYTES = 1 << 19
_SMALL_BYTES = 1 << 16
_BLOCK_BYTES = 1 << 20
# Below this, starting a thread costs more than it saves.
_BYTES_WORTH_A_THREAD = 1 << 22
# The codes of dtypes whose memory Python's buffers can describe; big-endian memory is another.
_MEMORY = attrgetter("data")
_NATIVE = "?bBhHiIlLqQfd" if sys.byteorder == "little" else "?bB"


class Placed(NamedTuple):
    """An array and the place of its bytes in a file."""

    offset: int
    size_bytes: int
    name: str
    array: np.ndarray | Deferred


class Wanted(NamedTuple):
    """A tensor to read and the place of its bytes in a file."""

    offset: int
    size_bytes: int
    name: str
    dtype: np.dtype
    shape: tuple[int, ...]


def memory_of(array: np.ndarray | Deferred) -> memoryview:
    """Return the bytes of an array as a file holds them: its own memory if it is C-contiguous."""
    little = dtypes.little_endian(np.asarray(array))
    # A non-contiguous array is copied here: a file holds raw memory, in which a transpose would be scrambled.
    return np.ascontiguousarray(little).reshape(-1).view(np.uint8).data


def _buffer_of(array: np.ndarray | Deferred) -> memoryview:
    """Return the same as memory_of, in a fraction of the time for most arrays. Its elements need not be bytes."""
    if isinstance(array, np.ndarray) and _has_buffer(array.dtype) and array.flags.c_contiguous:
        return array.data
    return memory_of(array)


def _has_buffer(dtype: np.dtype) -> bool:
    """Return True if the memory of such an array is a buffer that equals the bytes in a file."""
    return dtype.isnative and dtype.char in _NATIVE


def _is_in_place(array: np.ndarray | Deferred) -> bool:
    """Return True if memory_of returns the memory of the array itself, not a copy."""
    return isinstance(array, np.ndarray) and array.flags.c_contiguous and dtypes.little_endian(array) is array


def chunks_of(memory: memoryview) -> Iterator[memoryview]:
    """Yield the bytes of memory in order, one chunk at a time."""
    for start in range(0, len(memory), _CHUNK_BYTES):
        yield memory[start : start + _CHUNK_BYTES]


def digest_of(array: np.ndarray | Deferred) -> str:
    """Return the xxh3-128 of the bytes that a file holds for array."""
    return xxh3_128_hexdigest(memory_of(array))


def write_tensors(descriptor: int, placed: list[Placed]) -> dict[str, str]:
    """Write the bytes of each array to its place. Return the digests by name."""
    digests: dict[str, str] = {}
    writing: deque[Task] = deque()
    digesting: deque[Task] = deque()

    def digest(name: str, memory: memoryview) -> None:
        digests[name] = xxh3_128_hexdigest(memory)

    def small(run: list[Placed]) -> None:
        # A Deferred may return the same buffer each time: its bytes are copied before the next one is made.
        memories = [
            _buffer_of(item.array) if isinstance(item.array, np.ndarray) else memoryview(bytes(memory_of(item.array)))
            for item in run
        ]
        for item, memory in zip(run, memories, strict=True):
            digest(item.name, memory)
        write_all(descriptor, b"".join(memories), run[0].offset)

    def large(item: Placed) -> tuple[Task, Task]:
        memory = memory_of(item.array)
        return partial(write_all, descriptor, memory, item.offset), partial(digest, item.name, memory)

    def copied(item: Placed) -> None:  # at its turn, so that no two copies are in memory at once
        _run(large(item), item.size_bytes)

    for run in _runs(placed):
        if run[0].size_bytes < _SMALL_BYTES:
            writing.append(partial(small, run))
        elif _is_in_place(run[0].array):
            write, make_digest = large(run[0])
            writing.append(write)
            digesting.append(make_digest)
        else:
            writing.append(partial(copied, run[0]))
    # One thread writes, as the system lets only one at a time write to a file, and another computes the digests.
    if sum(item.size_bytes for item in placed) >= _BYTES_WORTH_A_THREAD:
        run_lanes([writing, digesting])
    else:
        run_lanes([writing + digesting])
    return digests


def read_tensors(
    source: Source, wanted: list[Wanted], with_digests: bool
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return new arrays by name, in any order, and their digests if `with_digests`.

    Raises EOFError if the source is too short.
    """
    arrays: dict[str, np.ndarray] = {}
    digests: dict[str, str] = {}

    def small(run: list[Wanted]) -> None:
        _, _, names, kinds, shapes = zip(*run, strict=True)
        made = list(map(np.empty, shapes, kinds))
        buffers = list(map(_MEMORY if all(map(_has_buffer, set(kinds))) else memory_of, made))
        source.read_into(run[0].offset, *buffers)
        arrays.update(zip(names, made, strict=True))
        if with_digests:
            digests.update(zip(names, map(xxh3_128_hexdigest, buffers), strict=True))

    def large(item: Wanted) -> None:
        arrays[item.name] = array = np.empty(item.shape, item.dtype)
        memory, digest, offset = array.reshape(-1).view(np.uint8).data, xxh3_128(), item.offset
        if not with_digests:
            source.read_into(offset, memory)
            return
        for chunk in chunks_of(memory):
            source.read_into(offset, chunk)
            digest.update(chunk)
            offset += len(chunk)
        digests[item.name] = digest.hexdigest()

    _run_by_place(wanted, small, large)
    return arrays, digests


def map_tensors(memory: memoryview, wanted: list[Wanted]) -> dict[str, np.ndarray]:
    """Return the arrays by name, backed by `memory`, which is the mapped file."""
    return {name: np.ndarray(shape, dtype, memory, offset) for offset, _, name, dtype, shape in wanted}


def digests_of(memory: memoryview, wanted: list[Wanted]) -> dict[str, str]:
    """Return the digests of tensors in `memory`, which is the mapped file."""
    digests: dict[str, str] = {}

    def small(run: list[Wanted]) -> None:
        for item in run:
            large(item)

    def large(item: Wanted) -> None:
        digests[item.name] = xxh3_128_hexdigest(memory[item.offset : item.offset + item.size_bytes])

    _run_by_place(wanted, small, large)
    return digests


def _run_by_place(wanted: list[Wanted], small: Callable[[list[Wanted]], None], large: Callable[[Wanted], None]) -> None:
    """Process large tensors one by one, and runs of adjacent small ones together."""
    tasks = [
        partial(large, run[0]) if run[0].size_bytes >= _SMALL_BYTES else partial(small, run) for run in _runs(wanted)
    ]
    # Small tensors spend most of their time in Python, where threads only wait for each other.
    _run(tasks, sum(size for size in map(itemgetter(1), wanted) if size >= _SMALL_BYTES))


Item = TypeVar("Item", Placed, Wanted)


def _run(tasks: Sequence[Task], size_bytes: int) -> None:
    """Run tasks that process `size_bytes` in total, on threads where that helps."""
    if size_bytes < _BYTES_WORTH_A_THREAD:
        run_lanes([deque(tasks)])
    else:
        run_on_threads(tasks)


def _runs(items: list[Item]) -> Iterator[list[Item]]:
    """Yield items by place: adjacent small ones together, up to one block, and large ones alone."""
    run: list[Item] = []
    start = end = 0
    for item in sorted(items, key=itemgetter(0)):
        offset, size_bytes = item[0], item[1]
        if run and (size_bytes >= _SMALL_BYTES or offset != end or end - start >= _BLOCK_BYTES):
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
