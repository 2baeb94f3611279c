"""Reading the values of an array a block at a time, so that even a large one takes little memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..reading.lazy import LazyTensor
from ..state.deferred import Deferred

LENGTH = 1 << 16


def blocks_of(array: np.ndarray | Deferred) -> Iterator[np.ndarray]:
    """Yield the values in order, in flat arrays of `LENGTH` elements, reading one block of a file at a time.

    Raises CorruptError, after the last block, if the array is a tensor in a file and is damaged.
    """
    if isinstance(array, LazyTensor):
        return array.blocks(LENGTH)
    values = np.asarray(array).reshape(-1)
    return (values[start : start + LENGTH] for start in range(0, values.size, LENGTH))
