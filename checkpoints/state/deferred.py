"""Arrays that are made when their turn to be written comes, so that a state need not fit into memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..errors import CheckpointError, ReadError, StateError


class Deferred:
    """An array that is made when it is needed, and not kept: save_file holds one of them at a time.

    shape: its shape. dtype: its dtype. make: returns it.

        save_file({"big": Deferred(dataset.shape, dataset.dtype, lambda: dataset[()])}, "big.safetensors")

    The same object under two names is one tensor with two names.
    """

    def __init__(self, shape: Sequence[int], dtype: Any, make: Callable[[], np.ndarray]) -> None:
        self.shape, self.dtype = tuple(int(length) for length in shape), np.dtype(dtype)
        self._make = make

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Return the array, made anew. Raises StateError if it is not as was said, ReadError if a file fails."""
        try:
            array = self._make()
        except OSError as error:
            if isinstance(error, CheckpointError):
                raise
            # Else a save would take it for a failure of the file that it writes.
            raise ReadError(f"a deferred array could not be made: {error}.", error) from error
        if not isinstance(array, np.ndarray) or array.shape != self.shape or array.dtype != self.dtype:
            found = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
            raise StateError(
                f"a deferred array was to be {self.dtype} {self.shape}, and what was made is {found}. "
                "Give Deferred the shape and dtype of what its function returns."
            )
        return array if dtype is None else array.astype(dtype, copy=False)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(shape={self.shape}, dtype={self.dtype})"
