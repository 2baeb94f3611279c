"""Arrays that are computed only when they are written, so that a state can be larger than memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..errors import CheckpointError, ReadError, StateError


class Deferred:
    """An array that is computed when it is needed, and not kept: save_file holds one of them at a time.

    shape, dtype: those of the array. make: computes and returns it.

        save_file({"big": Deferred(dataset.shape, dataset.dtype, lambda: dataset[()])}, "big.safetensors")

    The same object with two names is one tensor with two names.
    """

    def __init__(self, shape: Sequence[int], dtype: Any, make: Callable[[], np.ndarray]) -> None:
        self.shape, self.dtype = tuple(int(length) for length in shape), np.dtype(dtype)
        self._make = make

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Compute the array. Raises StateError if its shape or dtype is wrong, ReadError if a file fails."""
        try:
            array = self._make()
        except OSError as error:
            if isinstance(error, CheckpointError):
                raise
            # An OSError would look like a failure of the file being written.
            raise ReadError(f"a deferred array could not be computed: {error}.", error) from error
        if not isinstance(array, np.ndarray) or array.shape != self.shape or array.dtype != self.dtype:
            found = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
            raise StateError(
                f"a deferred array should be {self.dtype} {self.shape}, but its function returned {found}. "
                "Give Deferred the shape and dtype of what its function returns."
            )
        return array.astype(self.dtype if dtype is None else dtype, copy=bool(copy))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(shape={self.shape}, dtype={self.dtype})"
