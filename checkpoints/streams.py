"""The bytes of tensors, to and from a file, with a digest made as they go by."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from xxhash import xxh3_128

from . import dtypes

# Small enough to be still in the processor's cache when the second of digest and copy comes to it.
_CHUNK_BYTES = 1 << 18


def memory_of(array: np.ndarray) -> np.ndarray:
    """Return the bytes that a file holds for array, as uint8: its own memory where that is C-contiguous."""
    array = dtypes.little_endian(array)
    # What is not contiguous is copied here: a file holds raw memory, and a transposed one would be scrambled.
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def chunks_of(memory: np.ndarray) -> Iterator[memoryview]:
    """Give the bytes of memory in order, some at a time."""
    view = memory.data
    for start in range(0, len(view), _CHUNK_BYTES):
        yield view[start : start + _CHUNK_BYTES]


def digest_of(array: np.ndarray) -> str:
    """Return the xxh3-128 of the bytes that a file holds for array."""
    digest = xxh3_128()
    for chunk in chunks_of(memory_of(array)):
        digest.update(chunk)
    return digest.hexdigest()


def write_array(file: BinaryIO, array: np.ndarray) -> str:
    """Return the digest of array, having written its bytes where file stands."""
    digest = xxh3_128()
    for chunk in chunks_of(memory_of(array)):
        digest.update(chunk)
        file.write(chunk)
    return digest.hexdigest()


def read_array(file: BinaryIO, array: np.ndarray) -> str:
    """Return the digest of the bytes read from where file, unbuffered, stands into array, which is C-contiguous.

    Raises EOFError if the file ends before.
    """
    digest = xxh3_128()
    for chunk in chunks_of(array.reshape(-1).view(np.uint8)):
        _fill(file, chunk)
        digest.update(chunk)
    return digest.hexdigest()


def _fill(file: BinaryIO, memory: memoryview) -> None:
    while memory:
        count = file.readinto(memory)  # pyright: ignore[reportAttributeAccessIssue]
        if not count:
            raise EOFError("the file ends within a tensor")
        memory = memory[count:]
