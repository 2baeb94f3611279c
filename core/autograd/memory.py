"""Which arrays share memory, and new memory that is shared in the same way.

Arrays overlap when their byte ranges do. Everything here rests on one function, `zeros_sharing`: for each group of
overlapping arrays it lays out one region in which every array gets its old offset and strides. A copy that keeps
ties is that plus the values; the gradient of a view, the count of distinct elements and the test whether tied values
agree are written through one of the arrays and read through another.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..errors import ArgumentError

if TYPE_CHECKING:
    import numpy.typing as npt


def byte_bounds(array: np.ndarray) -> tuple[int, int]:
    """Return the addresses of the first byte of array and of the byte after its last."""
    low = high = array.__array_interface__["data"][0]
    if array.size == 0:
        return low, low
    for size, stride in zip(array.shape, array.strides, strict=True):
        low += min(0, (size - 1) * stride)
        high += max(0, (size - 1) * stride)
    return low, high + array.itemsize


def is_dense(array: np.ndarray) -> bool:
    """Whether the elements of array fill the memory from its first byte to its last, in whatever order."""
    low, high = byte_bounds(array)
    return high - low == array.nbytes and not repeats_elements(array)


def repeats_elements(array: np.ndarray) -> bool:
    """Whether two elements of array are the same memory, as those of a broadcast array are."""
    span = array.itemsize
    for step, size in sorted((abs(step), size) for step, size in zip(array.strides, array.shape, strict=True)):
        if size > 1 and step < span:
            # The axes interlock, which says nothing yet: count.
            return count_elements([array]) != array.size
        span += step * (size - 1)
    return False


def overlapping(arrays: Sequence[np.ndarray]) -> list[list[int]]:
    """Return the positions of the arrays in groups whose byte ranges overlap, each in ascending order.

    An array that overlaps no other is a group of one; an empty one, which has no memory, is in no group.
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
    """Return an array of zeros for each of arrays; two share memory element by element where the originals do.

    dtype: of all new arrays; without it each keeps its own. Memory that no array touches is not read.
    Raises ArgumentError if overlapping arrays cannot be laid out in dtype, as they see the memory in different ones.
    """
    new = {at: np.zeros(a.shape, dtype or a.dtype) for at, a in enumerate(arrays) if a.size == 0}
    for group in overlapping(arrays):
        members = [arrays[position] for position in group]
        new.update(zip(group, _region(members, None if dtype is None else np.dtype(dtype)), strict=True))
    return [new[position] for position in range(len(arrays))]


def _region(members: list[np.ndarray], dtype: np.dtype | None) -> list[np.ndarray]:
    """Return views of one new region of memory, with the geometry of members."""
    bounds = [byte_bounds(array) for array in members]
    start, end = min(low for low, _ in bounds), max(high for _, high in bounds)
    # Bytes stay bytes; for another dtype, whole elements of one size become elements of another.
    old, new = (1, 1) if dtype is None else (members[0].itemsize, dtype.itemsize)
    memory = np.zeros((end - start) // old * new, np.uint8)
    views = []
    for array in members:
        offset = array.__array_interface__["data"][0] - start
        strides = [stride if size > 1 else 0 for size, stride in zip(array.shape, array.strides, strict=True)]
        if old not in (1, array.itemsize) or any(step % old for step in (offset, *strides)):
            kinds = ", ".join(sorted({str(member.dtype) for member in members}))
            raise ArgumentError(f"arrays that see the same memory as {kinds} cannot all be laid out as {dtype}.")
        scaled = [stride // old * new for stride in strides]
        views.append(np.ndarray(array.shape, dtype or array.dtype, memory, offset // old * new, scaled))
    return views


def copy_sharing(arrays: Sequence[np.ndarray], dtype: npt.DTypeLike | None = None) -> list[np.ndarray]:
    """Return writable copies of arrays, in dtype if given, among which what shared memory still does.

    The same array twice, a transpose, a slice, a reshape, reversed axes: each keeps its layout over the new memory.
    Raises ArgumentError as `zeros_sharing` does.
    """
    copies = zeros_sharing(arrays, dtype)
    for copy, array in zip(copies, arrays, strict=True):
        copy[...] = array
    return copies


def count_elements(arrays: Sequence[np.ndarray]) -> int:
    """Return how many elements arrays have in memory, each counted once however many arrays see it."""
    marks = zeros_sharing(arrays, np.bool_)
    for mark in marks:
        mark[...] = True
    # One array may not cover what its group touches; the memory behind them all does.
    regions = {id(mark.base): mark.base for mark in marks if mark.base is not None}
    return sum(int(np.count_nonzero(region)) for region in regions.values())
