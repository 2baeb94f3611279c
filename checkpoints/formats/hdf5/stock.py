"""Our HDF5 files as h5py reads them, for `assert_roundtrip`."""

from __future__ import annotations

from collections.abc import Iterator

import h5py
import numpy as np

from .structure.names import RESERVED, name_of


def read_with_h5py(path: str) -> dict[str, bytes]:
    """Return the bytes of each dataset by the name of its tensor."""
    with h5py.File(path, "r") as file:
        return {name_of(place): data for place, data in _datasets(file, ()) if place != (RESERVED,)}


def _datasets(group: h5py.Group, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], bytes]]:
    for leaf, thing in group.items():
        if isinstance(thing, h5py.Group):
            yield from _datasets(thing, (*path, leaf))
        else:
            yield (*path, leaf), np.asarray(thing[()]).tobytes()
