"""Reading part of a tensor: the rows that an index needs, and no others."""

from __future__ import annotations

from operator import index
from typing import Any

import numpy as np

from ..storage.source import Source
from ..storage.streams import Wanted

# The number of bytes to read at a time.
_BLOCK_BYTES = 1 << 22


def read_slice(source: Source, wanted: Wanted, key: Any) -> Any:
    """Return tensor[key] as NumPy would: a new array, or a scalar. Raises IndexError if the index is invalid.

    The rows (along the first axis) from the first to the last that the index needs are read, some at a time. For an
    index of anything but integers and slices, such as an array, the whole tensor is read.
    """
    # A stand-in with one element checks the index and has the shape of the result.
    result = np.broadcast_to(np.empty((), wanted.dtype), wanted.shape)[key]
    key = key if isinstance(key, tuple) else (key,)
    if not wanted.shape or not key or not _is_basic(key):
        return _rows(source, wanted, 0, wanted.shape[0] if wanted.shape else 1).reshape(wanted.shape)[key].copy()
    first, rest = key[0], key[1:]
    if not isinstance(first, slice):
        row = range(wanted.shape[0])[index(first)]
        return _rows(source, wanted, row, row + 1)[(0, *rest)].copy()
    array = np.empty(result.shape, wanted.dtype)
    positions = range(wanted.shape[0])[first]
    row_bytes = max(1, wanted.size_bytes // max(1, wanted.shape[0]))
    step = max(1, _BLOCK_BYTES // (row_bytes * abs(positions.step)))
    for start in range(0, len(positions), step):
        block = positions[start : start + step]
        low, high = min(block[0], block[-1]), max(block[0], block[-1]) + 1
        array[start : start + step] = _rows(source, wanted, low, high)[(slice(None, None, positions.step), *rest)]
    return array


def _is_basic(key: tuple[Any, ...]) -> bool:
    """Return True if the first entry of an index is a number or a slice, and no other entry is an array."""
    basic = (int, np.integer, slice)
    if not isinstance(key[0], basic) or any(isinstance(entry, bool) for entry in key):
        return False
    return all(entry is None or entry is Ellipsis or isinstance(entry, basic) for entry in key)


def _rows(source: Source, wanted: Wanted, low: int, high: int) -> np.ndarray:
    """Return the rows from `low` up to, but not including, `high`."""
    shape = (high - low, *wanted.shape[1:])
    array = np.empty(shape, wanted.dtype)
    row_bytes = wanted.size_bytes // wanted.shape[0] if wanted.shape and wanted.shape[0] else wanted.size_bytes
    source.read_into(wanted.offset + low * row_bytes, array.reshape(-1).view(np.uint8).data)
    return array
