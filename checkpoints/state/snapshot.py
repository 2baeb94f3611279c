"""A copy of a state, made at one moment.

The arrays are copied by one call of C code that keeps the interpreter's lock, so no other Python thread runs meanwhile.
Code that runs without that lock can still write: a NumPy operation that another thread has already begun, threads of
other libraries, and other processes. NumPy gives up the lock, too, while it copies an array with large gaps between its
elements (such as a column of a matrix).
"""

from __future__ import annotations

import operator
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from itertools import accumulate, starmap
from typing import Any, NamedTuple

import numpy as np

from . import dtypes
from .sharing import Packed, Union, member_of, memory_between

_ALIGNMENT_BYTES = 64
# An array whose memory is larger than its elements by more than this factor is copied by its elements.
_MOST_GAPS = 4
_put: Callable[[Any, Any, Any], None] = operator.setitem


class _Part(NamedTuple):
    """The bytes to copy for an array, and where the array starts in them."""

    content: np.ndarray
    start: int = 0


def copied_at_once(packed: Packed, memory: np.ndarray | None = None) -> tuple[Packed, np.ndarray]:
    """Return a copy of a state, and the memory (uint8) that its arrays are in.

    memory: that of an earlier copy, used again if it is large enough and not more than twice as large as needed.
    Deferred arrays are computed just before the copy.
    """
    # A Deferred may return the same memory each time.
    stored = {
        name: value if isinstance(value, np.ndarray) else np.asarray(value).copy()
        for name, value in packed.stored.items()
    }
    parts = {name: _part_of(array, packed.unions.get(name)) for name, array in stored.items()}
    sizes = (stored[name].nbytes if part is None else part.content.nbytes for name, part in parts.items())
    *offsets, total_bytes = accumulate((-(-size // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES for size in sizes), initial=0)
    if memory is None or not total_bytes <= memory.nbytes <= 2 * total_bytes:
        memory = np.empty(total_bytes, np.uint8)
    copies: dict[str, np.ndarray] = {}
    steps: list[tuple[Any, Any, np.ndarray]] = []
    for (name, part), offset in zip(parts.items(), offsets, strict=True):
        array = stored[name]
        if part is None:
            copies[name] = np.ndarray(array.shape, array.dtype, memory.data, offset)
            steps.append((copies[name], ..., array))
            continue
        there = slice(offset, offset + part.content.nbytes)
        steps.append((memory.data, there, part.content))
        if name in packed.unions:
            copies[name] = memory[there]
        else:
            copies[name] = np.ndarray(array.shape, array.dtype, memory.data, offset + part.start, array.strides)
    deque(starmap(_put, steps), maxlen=0)  # all in one call
    copies |= {name: union.moved(copies[name]).stored() for name, union in packed.unions.items()}
    little = {name: dtypes.little_endian(copy) for name, copy in copies.items()}
    return replace(packed, stored=little, unions={}, memory=None), memory


def _part_of(array: np.ndarray, union: Union | None) -> _Part | None:
    """Return the memory of an array or of a union of arrays, or None for an array with large gaps."""
    if union is not None:
        return _Part(memory_between(union.low, union.high))
    if array.flags.c_contiguous:
        return _Part(array.reshape(-1).view(np.uint8))
    member = member_of("", array)
    if member.high - member.low > _MOST_GAPS * array.nbytes:
        return None
    return _Part(memory_between(member.low, member.high), member.pointer - member.low)
