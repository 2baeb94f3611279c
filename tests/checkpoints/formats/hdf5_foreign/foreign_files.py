"""Shared by the tests of foreign HDF5 files: files, how to read them, and a process that misbehaves."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from statezoo.checkpoints.formats import Opened
from statezoo.checkpoints.formats.hdf5 import process as hdf5_process
from statezoo.checkpoints.formats.hdf5.foreign import open_foreign
from statezoo.checkpoints.storage.source import source_of

PLAIN = {
    "bools": np.array([True, False]),
    "complex": np.array([1j, 2]),
    "int8": np.array([-1, 2], "i1"),
    "nested.deep.matrix": np.arange(6.0).reshape(2, 3),
    "scalar": np.array(2.5),
}
# Values that are not stored as they are in memory, and how they are written.
PACKED: dict[str, tuple[np.ndarray, dict[str, Any]]] = {
    "big": (np.arange(3, dtype=">i4"), {}),
    "chunked": (np.arange(60).reshape(6, 10), {"chunks": (4, 3), "maxshape": (None, 10)}),
    "gzip": (np.arange(1000), {"chunks": (100,), "compression": "gzip", "shuffle": True, "fletcher32": True}),
    "lzf": (np.ones((10, 10), "f4"), {"compression": "lzf"}),
    "offset": (np.arange(40, dtype="i2"), {"chunks": (10,), "scaleoffset": 6}),
    "packed_bools": (np.array([True, False, True]), {"chunks": (2,)}),
    "unwritten": (np.full(3, 7, "i2"), {"fillvalue": 7}),
}


@contextmanager
def opened(file: Any) -> Iterator[Opened]:
    source = source_of(file)
    try:
        found = open_foreign(source)
        try:
            yield found
        finally:
            found.close()
    finally:
        source.close()


def read(found: Opened, name: str) -> np.ndarray:
    assert found.read is not None
    return found.read(name)


def write_hanging(path: Path) -> None:
    """Write a text in a heap whose next object claims to take no bytes: libhdf5 2.0.0 loops on it forever."""
    with h5py.File(path, "w", libver="earliest") as file:
        file["x"] = np.zeros(4, "V2")
        file["x"].attrs["dtype"] = "bfloat16"
    content = bytearray(path.read_bytes())
    heap = content.index(b"GCOL")
    content[heap + 16 : heap + 32] = b"\x09\0\1\0" + bytes(12)
    path.write_bytes(content)


def run_instead(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Make the process run different code, which can call answer(letter, content)."""
    prelude = """
import json, os, signal, sys, time
def answer(letter, content, size=None):
    size = len(content) if size is None else size
    os.write(1, letter + size.to_bytes(8, "little") + content)
"""
    monkeypatch.setattr(hdf5_process, "_MAIN", prelude + code)


READY = "answer(b'R', b'');"
ENTRY: dict[str, Any] = {"dtype": "uint8", "item_bytes": 1, "shape": [4], "offset": None, "address": 96, "note": ""}
INDEX: dict[str, Any] = {"datasets": [ENTRY], "links": [[["x"], 0]], "unsupported": [], "orders": []}
GOOD = f"answer(b'=', {json.dumps(INDEX).encode()!r});"
NONSENSE = "libhdf5 returned something impossible when it read it"
