"""Reading part of a tensor, or of a view of it: the bytes that an index needs, and few others."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

# Fills a buffer with the bytes of a tensor from an offset.
Read = Callable[[int, memoryview], None]

# The number of bytes to read at a time.
_PIECE_BYTES = 1 << 22
# Fewer bytes between two elements are read with them.
_GAP_BYTES = 1 << 16


def read_slice(read: Read, memory: Any, offset: int, key: Any) -> Any:
    """Return array[key] as NumPy would: a new array, or a scalar. Raises IndexError if the index is invalid.

    memory: a stand-in for the array, with its dtype, shape and strides, which are those in the file; it is not read.
    offset: that of its first element. If the index has anything but integers and slices, such as an array, the whole
    array is read.
    """
    # With one element for all, so that a wrong index raises what NumPy raises.
    result = np.broadcast_to(np.empty((), memory.dtype), memory.shape)[key]
    if not is_basic(key):
        return _read_strided(read, memory, offset)[key].copy()
    key = key if isinstance(key, tuple) else (key,)
    # With an ellipsis, the result of integers alone is an array too, whose place shows where the element is.
    chosen = memory[key if any(entry is Ellipsis for entry in key) else (*key, Ellipsis)]
    array = _read_strided(read, chosen, offset + _address_of(chosen) - _address_of(memory))
    return array if isinstance(result, np.ndarray) else array[()]


def stand_in(dtype: np.dtype, shape: tuple[int, ...], strides: tuple[int, ...] | None = None) -> np.ndarray:
    """Return an array of one element that seems to have a shape and strides. It may be indexed, but not read."""
    if strides is None:
        strides = tuple(dtype.itemsize * math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
    # as_strided fails for ml_dtypes.float8_e5m2, which claims to be a NumPy float of one byte.
    element = np.empty((), f"V{dtype.itemsize}")
    return np.lib.stride_tricks.as_strided(element, shape, strides, writeable=False).view(dtype)


def is_basic(key: Any) -> bool:
    """Return True if an index has only integers, slices, ellipses and new axes."""
    basic = (int, np.integer, slice, type(Ellipsis), type(None))
    entries = key if isinstance(key, tuple) else (key,)
    return all(isinstance(entry, basic) and not isinstance(entry, bool) for entry in entries)


def _address_of(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def _read_strided(read: Read, wanted: np.ndarray, offset: int) -> np.ndarray:
    """Return the elements of a stand-in, whose first element is at an offset."""
    array = np.empty(wanted.shape, wanted.dtype)
    # The axes in the order in which they are in the file. An axis of one element may have any stride.
    strides = [stride if length > 1 else 0 for length, stride in zip(wanted.shape, wanted.strides, strict=True)]
    order = sorted(range(array.ndim), key=lambda axis: -abs(strides[axis]))
    if array.size:
        _fill(read, array.transpose(order), offset, [strides[axis] for axis in order])
    return array


def _fill(read: Read, array: np.ndarray, offset: int, strides: list[int]) -> None:
    """Fill an array with elements at `strides` in the file, the largest first. Bytes that are far away are not read."""
    spans = [stride * (length - 1) for length, stride in zip(array.shape, strides, strict=True)]
    low = offset + sum(min(0, span) for span in spans)
    size_bytes = sum(map(abs, spans)) + array.itemsize
    if array.ndim and (size_bytes > _PIECE_BYTES or _has_gap(array, strides)):
        rows = array.shape[0]
        row_bytes = max(1, size_bytes // rows)
        # At most half of them, as rows may overlap.
        step = 1 if _has_gap(array, strides) else max(1, min(_PIECE_BYTES // row_bytes, rows // 2))
        for start in range(0, rows, step):
            part, place = array[start : start + step], offset + start * strides[0]
            if len(part) == 1:
                _fill(read, part[0, ...], place, strides[1:])
            else:
                _fill(read, part, place, strides)
        return
    if size_bytes == array.nbytes and array.flags.c_contiguous and low == offset:
        read(low, array.reshape(-1).view(np.uint8).data)
        return
    content = np.empty(size_bytes, np.uint8)
    read(low, content.data)
    array[...] = np.ndarray(array.shape, array.dtype, content, offset - low, strides)


def _has_gap(array: np.ndarray, strides: list[int]) -> bool:
    """Return True if many bytes between two elements are not needed."""
    inner = array.itemsize
    for length, stride in zip(reversed(array.shape), reversed(strides), strict=True):
        if length > 1 and abs(stride) - inner >= _GAP_BYTES:
            return True
        inner += abs(stride) * (length - 1)
    return False
