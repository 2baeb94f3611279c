"""Which arrays share memory, and how to allocate new arrays that share memory in the same way.

Arrays overlap if their byte ranges do. Everything here is built on `zeros_sharing`: for each group of overlapping
arrays it allocates one region in which every array keeps its offset and strides. A copy that keeps ties adds the
values. The gradient of a view, the count of distinct elements and the comparison of tied values write through one of
the arrays and read through another.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..errors import ArgumentError

if TYPE_CHECKING:
    import numpy.typing as npt


def byte_bounds(array: np.ndarray) -> tuple[int, int]:
    """Return the address of the first byte of array and the address after its last byte."""
    low = high = array.__array_interface__["data"][0]
    if array.size == 0:
        return low, low
    for size, stride in zip(array.shape, array.strides, strict=True):
        low += min(0, (size - 1) * stride)
        high += max(0, (size - 1) * stride)
    return low, high + array.itemsize


def is_dense(array: np.ndarray) -> bool:
    """Return True if the elements of array fill the memory from its first byte to its last, in any order."""
    low, high = byte_bounds(array)
    return high - low == array.nbytes and not repeats_elements(array)


def repeats_elements(array: np.ndarray) -> bool:
    """Return True if two elements of array share memory, as in a broadcast array."""
    span = array.itemsize
    for step, size in sorted((abs(step), size) for step, size in zip(array.strides, array.shape, strict=True)):
        if size > 1 and step < span:
            # The axes interlock, with or without repeats: count the elements.
            return count_elements([array]) != array.size
        span += step * (size - 1)
    return False


def overlapping(arrays: Sequence[np.ndarray]) -> list[list[int]]:
    """Return groups of positions of arrays whose byte ranges overlap, each group in ascending order.

    An array that overlaps no other forms its own group. An empty array has no memory and is in no group.
    """
    bounds = [byte_bounds(array) for array in arrays]
    groups: list[list[int]] = []
    end = 0
    for position in sorted(range(len(arrays)), key=bounds.__getitem__):
        low, high = bounds[position]
        if low == high:
            continue
        if low < end:
            groups[-1].append(position)
        else:
            groups.append([position])
        end = max(end, high)
    return [sorted(group) for group in groups]


def zeros_sharing(arrays: Sequence[np.ndarray], dtype: npt.DTypeLike | None = None) -> list[np.ndarray]:
    """Return an array of zeros for each of arrays. The new arrays share elements exactly where the originals do.

    dtype: the dtype of all new arrays; None keeps that of each. The values of arrays are not read.
    Raises ArgumentError if dtype is given and overlapping arrays differ in the size of their elements.
    """
    new = {at: np.zeros(a.shape, dtype or a.dtype) for at, a in enumerate(arrays) if a.size == 0}
    for group in overlapping(arrays):
        members = [arrays[position] for position in group]
        new.update(zip(group, _region(members, None if dtype is None else np.dtype(dtype)), strict=True))
    return [new[position] for position in range(len(arrays))]


def _region(members: list[np.ndarray], dtype: np.dtype | None) -> list[np.ndarray]:
    """Return views of one new region of memory, with the offsets and strides of members."""
    bounds = [byte_bounds(array) for array in members]
    start, end = min(low for low, _ in bounds), max(high for _, high in bounds)
    # Without dtype, offsets are in bytes; with dtype, in elements whose size changes from old to new.
    old, new = (1, 1) if dtype is None else (members[0].itemsize, dtype.itemsize)
    memory = np.zeros((end - start) // old * new, np.uint8)
    views = []
    for array in members:
        offset = array.__array_interface__["data"][0] - start
        strides = [stride if size > 1 else 0 for size, stride in zip(array.shape, array.strides, strict=True)]
        if old not in (1, array.itemsize) or any(step % old for step in (offset, *strides)):
            kinds = ", ".join(sorted({str(member.dtype) for member in members}))
            raise ArgumentError(f"arrays that share memory as {kinds} cannot all be copied as {dtype}.")
        scaled = [stride // old * new for stride in strides]
        views.append(np.ndarray(array.shape, dtype or array.dtype, memory, offset // old * new, scaled))
    return views


def copy_sharing(arrays: Sequence[np.ndarray], dtype: npt.DTypeLike | None = None) -> list[np.ndarray]:
    """Return writable copies of arrays, in dtype if given, that share memory as the originals do.

    The same array twice, a transpose, a slice, a reshape, reversed axes: each keeps its layout in the new memory.
    Raises ArgumentError as `zeros_sharing` does.
    """
    copies = zeros_sharing(arrays, dtype)
    for copy, array in zip(copies, arrays, strict=True):
        copy[...] = array
    return copies


def count_elements(arrays: Sequence[np.ndarray]) -> int:
    """Return the number of distinct elements in memory, counting an element that several arrays share once."""
    marks = zeros_sharing(arrays, np.bool_)
    for mark in marks:
        mark[...] = True
    # The memory behind a group of arrays holds the elements of all of them.
    regions = {id(mark.base): mark.base for mark in marks if mark.base is not None}
    return sum(int(np.count_nonzero(region)) for region in regions.values())
