"""A checkpoint that is being copied to another file."""

from __future__ import annotations

from collections.abc import Container

import numpy as np

from ...reading.lazy import Checkpoint
from ...reading.progress import Progress
from ...reading.reader import Reader
from ...state.deferred import Deferred
from ...state.sharing import Packed


class Copied(Checkpoint):
    """An open checkpoint that reports its progress and leaves out lost tensors.

    progress: called with the size of each tensor after it is read. lost: the names to leave out, including every name
    that shares memory with one of them.
    """

    def __init__(self, reader: Reader, progress: Progress, lost: Container[str] = ()) -> None:
        super().__init__(reader)
        self._progress, self._left_out = progress, lost

    def packed(self) -> Packed:
        """Return the state to copy. Its arrays are read later."""
        packed, lost = super().packed(), self._left_out
        aliases = {name: alias for name, alias in packed.aliases.items() if name not in lost}
        needed = {alias.kept for alias in aliases.values()}
        storages = [name for name in packed.storages if name in needed and name not in lost]
        gone = set(packed.storages) - set(storages)
        return Packed(
            names=[name for name in packed.names if name not in lost],
            stored={
                name: self._watched(array)
                for name, array in packed.stored.items()
                if name not in lost and name not in gone
            },
            aliases=aliases,
            layouts={name: order for name, order in packed.layouts.items() if name not in lost},
            storages=storages,
            extra=packed.extra,
        )

    def _watched(self, array: np.ndarray | Deferred) -> Deferred:
        def make() -> np.ndarray:
            values = np.asarray(array)
            self._progress(values.nbytes)
            return values

        return Deferred(array.shape, array.dtype, make)
