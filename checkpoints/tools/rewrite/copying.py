"""A checkpoint that is being copied to another file."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ...reading.lazy import Checkpoint
from ...reading.progress import Progress
from ...reading.reader import Reader
from ...state.deferred import Deferred
from ...state.sharing import Packed

if TYPE_CHECKING:
    from ...mapping import Rule


class Copied(Checkpoint):
    """An open checkpoint that reports its progress and leaves out lost tensors.

    progress: called with the size of each tensor after it is read. lost: the names to leave out, including every name
    that shares memory with one of them. rules: those of a mapping to apply.
    """

    def __init__(
        self, reader: Reader, progress: Progress, lost: Container[str] = (), rules: Sequence[Rule] | None = None
    ) -> None:
        super().__init__(reader)
        self._progress, self._left_out, self._rules = progress, lost, rules
        if rules is not None:
            self._left_out = self.unsupported  # the rules may ignore them

    def packed(self) -> Packed:
        """Return the state to copy. Its arrays are read later."""
        packed, lost = super().packed(), self._left_out
        aliases = {name: alias for name, alias in packed.aliases.items() if name not in lost}
        unused = set(packed.storages) - {alias.kept for alias in aliases.values()}
        stored = {name: array for name, array in packed.stored.items() if name not in lost and name not in unused}
        copied = Packed(
            names=[name for name in packed.names if name not in lost],
            stored={name: self._watched(array) for name, array in stored.items()},
            aliases=aliases,
            layouts={name: order for name, order in packed.layouts.items() if name not in lost},
            storages=[name for name in packed.storages if name in stored],
            extra=packed.extra,
        )
        if self._rules is None:
            return copied
        from ...mapping.states import pack_mapped

        return pack_mapped(copied, self._rules, self.name, {name: self[name] for name in self.unsupported})

    def _watched(self, array: np.ndarray | Deferred) -> Deferred:
        def make() -> np.ndarray:
            values = np.asarray(array)
            self._progress(values.nbytes)
            return values

        return Deferred(array.shape, array.dtype, make)
