"""A state whose file has separate bytes for every name, for readers that know nothing of shared memory.

An expanded file holds the kept tensors, then a *copy* of each alias, in the order of the state. A storage is not in it:
its bytes follow from the copies of the slices that it is made of, and all other bytes of it are zero. The manifest
describes the sharing as in any file, so the state that is loaded, and its fingerprint, are the same.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from ..errors import StateError
from . import dtypes
from .deferred import Deferred
from .sharing import Alias, Packed, View

# The largest size of a storage, as a multiple of the bytes of its slices: a reader rebuilds the storages of a file.
_MOST_GAPS = 16


class Copy(Deferred):
    """The bytes of an alias, which are copied from those that were written for the tensor whose memory it shares."""

    def __init__(self, alias: Alias, kept: np.ndarray | Deferred) -> None:
        view = alias.view or View("", kept.shape, 0, ())
        dtype = dtypes.numpy_dtype(view.dtype) if alias.view else kept.dtype
        super().__init__(view.shape, dtype, lambda: np.empty(view.shape, dtype))
        self.kept, self.view = alias.kept, alias.view


def expanded(packed: Packed) -> Packed:
    """Return a state with a copy of each alias.

    Raises StateError naming slices with so much unused memory between them that a small file would load as a huge
    state.
    """
    for storage, slices in slices_of(packed.storages, packed.aliases).items():
        if not fits_in_storage(packed.stored[storage].shape[0], slices.values()):
            raise StateError(
                f"tensors {', '.join(map(repr, slices))} share memory, but most of that memory belongs to no tensor. "
                "Copy them before saving, or save without expand=True."
            )
    copies = {name: Copy(alias, packed.stored[alias.kept]) for name, alias in packed.aliases.items()}
    return dataclasses.replace(packed, copies=copies)


def slices_of(storages: Iterable[str], aliases: Mapping[str, Alias]) -> dict[str, dict[str, View]]:
    """Return the slices that each storage is made of, by name."""
    slices: dict[str, dict[str, View]] = {storage: {} for storage in storages}
    for name, (kept, view) in aliases.items():
        if view is not None and kept in slices:
            slices[kept][name] = view
    return slices


def fits_in_storage(length: int, slices: Iterable[View]) -> bool:
    """Return True if a storage of `length` uint64 is in proportion to the bytes of its slices."""
    sizes = [math.prod(view.shape) * dtypes.ITEM_BYTES[view.dtype] for view in slices]
    return 8 * length <= _MOST_GAPS * sum(sizes) + 8


def gathered(length: int, slices: Mapping[str, View], read: Callable[[str], np.ndarray]) -> np.ndarray:
    """Return a storage of `length` uint64. slices: those that it is made of. read: returns the copy of a slice."""
    storage = np.zeros(length, "<u8")
    for name, view in slices.items():
        copy = read(name)
        raw = np.dtype(f"V{copy.itemsize}")  # moved as bytes: not even the payload of a NaN changes
        place = np.ndarray(view.shape, raw, storage.data, view.offset, view.strides)
        place[...] = copy.view(raw)
    return storage
