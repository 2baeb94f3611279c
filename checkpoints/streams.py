"""The bytes of tensors, to and from a file, with a digest made as they go by.

Large tensors go one by one, in chunks, and are read on as many threads as help. Small ones go many at a time, because a
system call costs more than copying them.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from operator import itemgetter
from typing import NamedTuple, TypeVar

import numpy as np
from xxhash import xxh3_128, xxh3_128_hexdigest

from . import dtypes
from .deferred import Deferred
from .durable import write_all
from .source import Source

# Small enough to be still in the processor's cache when the second of digest and copy comes to it.
_CHUNK_BYTES = 1 << 18
_SMALL_BYTES = 1 << 16
_BLOCK_BYTES = 1 << 20
# Below this, starting a thread costs more than it saves.
_BYTES_WORTH_A_THREAD = 1 << 22
_MOST_THREADS = 4
# The codes of dtypes whose memory Python's buffers can describe; big-endian memory is another.
_NATIVE = "?bBhHiIlLqQfd" if sys.byteorder == "little" else "?bB"


class Placed(NamedTuple):
    """An array, and where in a file its bytes go."""

    offset: int
    size_bytes: int
    name: str
    array: np.ndarray | Deferred


class Wanted(NamedTuple):
    """A tensor that is to be read, and where in a file its bytes are."""

    offset: int
    size_bytes: int
    name: str
    dtype: np.dtype
    shape: tuple[int, ...]


def memory_of(array: np.ndarray | Deferred) -> memoryview:
    """Return the bytes that a file holds for array: its own memory where that is C-contiguous."""
    little = dtypes.little_endian(np.asarray(array))
    # What is not contiguous is copied here: a file holds raw memory, and a transposed one would be scrambled.
    return np.ascontiguousarray(little).reshape(-1).view(np.uint8).data


def _buffer_of(array: np.ndarray | Deferred) -> memoryview:
    """Return the same as memory_of, its elements not always bytes, in a fraction of the time for most arrays."""
    if (
        isinstance(array, np.ndarray)
        and array.dtype.isnative
        and array.dtype.char in _NATIVE
        and array.flags.c_contiguous
    ):
        return array.data
    return memory_of(array)


def chunks_of(memory: memoryview) -> Iterator[memoryview]:
    """Give the bytes of memory in order, some at a time."""
    for start in range(0, len(memory), _CHUNK_BYTES):
        yield memory[start : start + _CHUNK_BYTES]


def digest_of(array: np.ndarray | Deferred) -> str:
    """Return the xxh3-128 of the bytes that a file holds for array."""
    return xxh3_128_hexdigest(memory_of(array))


def write_tensors(descriptor: int, placed: list[Placed]) -> dict[str, str]:
    """Return the digest of each array by name, having written its bytes to their place."""
    digests: dict[str, str] = {}

    def small(run: list[Placed]) -> None:
        memories = [_buffer_of(item.array) for item in run]
        for item, memory in zip(run, memories, strict=True):
            digests[item.name] = xxh3_128_hexdigest(memory)
        write_all(descriptor, b"".join(memories), run[0].offset)

    def large(item: Placed) -> None:
        memory = memory_of(item.array)

        def write() -> None:
            write_all(descriptor, memory, item.offset)

        def digest() -> None:
            digests[item.name] = xxh3_128_hexdigest(memory)

        # One thread writes, for the system lets one at a time write to a file, and another makes the digest meanwhile.
        _run_on_threads([write, digest], _MOST_THREADS if len(memory) >= _BYTES_WORTH_A_THREAD else 1)

    _run(placed, small, large, 1)
    return digests


def read_tensors(
    source: Source, wanted: list[Wanted], with_digests: bool
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return fresh arrays by name, in no certain order, and the digest of each, or none.

    Raises EOFError if the source ends before.
    """
    arrays: dict[str, np.ndarray] = {}
    digests: dict[str, str] = {}

    def small(run: list[Wanted]) -> None:
        made = [np.empty(shape, dtype) for _, _, _, dtype, shape in run]
        buffers = list(map(_buffer_of, made))
        source.read_into(run[0].offset, *buffers)
        arrays.update(zip((item[2] for item in run), made, strict=True))
        if with_digests:
            digests.update((item[2], xxh3_128_hexdigest(buffer)) for item, buffer in zip(run, buffers, strict=True))

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

    _run(wanted, small, large, _MOST_THREADS)
    return arrays, digests


def map_tensors(memory: memoryview, wanted: list[Wanted]) -> dict[str, np.ndarray]:
    """Return arrays by name that lie in memory, which is that of the whole file."""
    return {name: np.ndarray(shape, dtype, memory, offset) for offset, _, name, dtype, shape in wanted}


def digests_of(memory: memoryview, wanted: list[Wanted]) -> dict[str, str]:
    """Return the digests of tensors that lie in memory, which is that of the whole file."""
    digests: dict[str, str] = {}

    def small(run: list[Wanted]) -> None:
        for item in run:
            large(item)

    def large(item: Wanted) -> None:
        digests[item.name] = xxh3_128_hexdigest(memory[item.offset : item.offset + item.size_bytes])

    _run(wanted, small, large, _MOST_THREADS)
    return digests


Item = TypeVar("Item", Placed, Wanted)


def _run(
    items: list[Item], small: Callable[[list[Item]], None], large: Callable[[Item], None], most_threads: int
) -> None:
    """Do all items: large ones one by one, small ones that follow each other as runs; on threads where that helps."""
    tasks: list[Callable[[], None]] = []
    for run in _runs(sorted(items, key=itemgetter(0))):
        is_large = run[0].size_bytes >= _SMALL_BYTES
        tasks.append(partial(large, run[0]) if is_large else partial(small, run))
    if sum(map(itemgetter(1), items)) < _BYTES_WORTH_A_THREAD or most_threads == 1:
        for task in tasks:
            task()
    else:
        _run_on_threads(tasks, most_threads)


def _runs(items: list[Item]) -> Iterator[list[Item]]:
    """Give small items together where one begins as the other ends, up to a block; each large one alone."""
    run: list[Item] = []
    start = end = 0
    for item in items:
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


def _run_on_threads(tasks: list[Callable[[], None]], most_threads: int) -> None:
    """Run tasks, each on the next thread that is free. Raises what the first that failed raised; the rest is left."""
    remaining = iter(tasks)
    lock, ends = threading.Lock(), threading.Semaphore(0)
    errors: list[BaseException] = []
    ended: list[None] = []

    def work() -> None:
        while not errors:
            with lock:
                task = next(remaining, None)
            if task is None:
                return
            try:
                task()
            except BaseException as error:
                errors.append(error)

    def work_and_say_so() -> None:
        work()
        ended.append(None)
        ends.release()

    count = min(len(tasks), os.cpu_count() or 1, most_threads)
    threads = [threading.Thread(target=work_and_say_so, name="statezoo", daemon=True) for _ in range(count - 1)]
    try:
        for thread in threads:
            thread.start()
        work()
    except BaseException as error:  # an interrupt
        errors.append(error)
    # No thread may outlive this: memory and files are given back, and it would write into the next file that is opened.
    # After an interrupted join, Python takes a thread for ended that runs on.
    while len(ended) < sum(thread.ident is not None for thread in threads):
        try:
            ends.acquire(timeout=1)
        except BaseException as error:
            errors.append(error)
    if errors:
        raise errors[0]
