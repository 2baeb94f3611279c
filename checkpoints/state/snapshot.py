"""A copy of a state, made at one moment.

The arrays are copied by one call of C code that keeps the interpreter's lock, so no other Python thread runs meanwhile.
Code that runs without that lock can still write: a NumPy operation that another thread has already begun, threads of
other libraries, and other processes. NumPy gives up the lock, too, while it copies an array with gaps between its
elements (such as a column of a matrix).
"""

from __future__ import annotations

import operator
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from itertools import accumulate, starmap
from typing import Any

import numpy as np

from . import dtypes
from .sharing import Packed, axis_order

_ALIGNMENT_BYTES = 64
_put: Callable[[Any, Any, Any], None] = operator.setitem


def copied_at_once(packed: Packed, memory: np.ndarray | None = None) -> tuple[Packed, np.ndarray]:
    """Return a copy of a state, and the memory (uint8) that its arrays are in.

    memory: that of an earlier copy, used again if it is large enough and not more than twice as large as needed.
    Deferred arrays are computed just before the copy. Slices that overlap only partly were copied before.
    """
    # A Deferred may return the same memory each time.
    stored = {
        name: value if isinstance(value, np.ndarray) else np.asarray(value).copy()
        for name, value in packed.stored.items()
    }
    sizes = (-(-array.nbytes // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES for array in stored.values())
    *offsets, total_bytes = accumulate(sizes, initial=0)
    if memory is None or not total_bytes <= memory.nbytes <= 2 * total_bytes:
        memory = np.empty(total_bytes, np.uint8)
    copies: dict[str, np.ndarray] = {}
    steps: list[tuple[Any, Any, np.ndarray]] = []
    for (name, array), offset in zip(stored.items(), offsets, strict=True):
        flat = _flat(array)
        strides = None if flat is None else array.strides
        copies[name] = copy = np.ndarray(array.shape, array.dtype, memory.data, offset, strides)
        steps.append((copy, ..., array) if flat is None else (memory.data, slice(offset, offset + flat.nbytes), flat))
    deque(starmap(_put, steps), maxlen=0)  # all in one call
    little = {name: dtypes.little_endian(copy) for name, copy in copies.items()}
    return replace(packed, stored=little, memory=None), memory


def _flat(array: np.ndarray) -> np.ndarray | None:
    """Return the memory of an array as bytes, or None if it has gaps or repeats elements."""
    if array.flags.c_contiguous:
        return array.reshape(-1).view(np.uint8)
    order = axis_order(array)
    return None if order is None else array.transpose(order).reshape(-1).view(np.uint8)
