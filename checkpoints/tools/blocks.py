"""The values of an array, some at a time, so that what goes through a large one takes little memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..reading.lazy import LazyTensor
from ..state.deferred import Deferred

LENGTH = 1 << 16


def blocks_of(array: np.ndarray | Deferred) -> Iterator[np.ndarray]:
    """Give all values in order, in flat arrays of LENGTH of them; of a tensor in a file no more are read at once.

    Raises CorruptError, when the last of a tensor in a file have been given, if they are not what was written.
    """
    if isinstance(array, LazyTensor):
        return array.blocks(LENGTH)
    values = np.asarray(array).reshape(-1)
    return (values[start : start + LENGTH] for start in range(0, values.size, LENGTH))
