"""Hostile files of other frameworks: archives of Keras, GGUF and ONNX."""

from __future__ import annotations

import io
import pickle
import sys
import zipfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import h5py
import numpy as np
from corpus.hostile_file import HostileFile, bytes_of
from corpus.other_files import TouchesAMarker, marker_of

sys.path.insert(0, str(Path(__file__).parents[2] / "checkpoints" / "formats" / "packaged"))

import gguf_files  # pyright: ignore[reportMissingImports]
import onnx_files  # pyright: ignore[reportMissingImports]

_WEIGHTS = "model.weights.h5"


def _hdf5(fill: Callable[[h5py.File], object]) -> bytes:
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        fill(file)
    return content.getvalue()


def _weights(file: h5py.File) -> None:
    file["layers/dense/vars/0"] = np.arange(300.0)


GOOD = _hdf5(_weights)
LINKS = _hdf5(lambda file: file.__setitem__("x", h5py.ExternalLink("/etc/passwd", "/x")))


def _archive(*members: tuple[str, bytes], method: int = zipfile.ZIP_STORED) -> Callable[[Path], object]:
    def make(path: Path) -> None:
        with zipfile.ZipFile(path, "w", method) as archive:
            for name, content in members:
                archive.writestr(zipfile.ZipInfo(name), content, method)

    return make


def _changed(old: bytes, new: bytes, *, count: int = -1, method: int = zipfile.ZIP_STORED) -> Callable[[Path], object]:
    """Return a function that writes a good archive in which some bytes are replaced by others."""

    def make(path: Path) -> None:
        _archive((_WEIGHTS, GOOD), method=method)(path)
        path.write_bytes(path.read_bytes().replace(old, new, count))

    return make


def _pickled(path: Path) -> None:
    content = pickle.dumps(TouchesAMarker(marker_of(path.parent)))
    _archive(("model.weights.npz", content), ("config.json", content), ("metadata.json", content))(path)


def _cut(path: Path) -> None:
    _archive((_WEIGHTS, GOOD))(path)
    path.write_bytes(path.read_bytes()[:-30])


DEFLATED = zipfile.ZIP_DEFLATED
SIZE = len(GOOD).to_bytes(4, "little")
KERAS: dict[str, tuple[Callable[[Path], object], str | None]] = {
    "without weights": (_archive(("config.json", b"{}")), "it has no model.weights.h5"),
    "with weights that are empty": (_archive((_WEIGHTS, b"")), "is not a valid HDF5 file"),
    "with weights that are a pickle": (_pickled, "as a pickle"),
    "that expands": (_archive((_WEIGHTS, bytes(64 << 20)), method=DEFLATED), "far more than the file has"),
    "in an archive": (_archive((_WEIGHTS, b"PK\3\4" + bytes(90))), "is not a valid HDF5 file"),
    "with links that lead out": (_archive((_WEIGHTS, LINKS)), "soft or external link"),
    "of half a file": (_archive((_WEIGHTS, GOOD[: len(GOOD) // 2])), "It was cut off|is not a valid HDF5 file"),
    "that was cut off": (_cut, "is not a valid zip archive"),
    "of a huge size": (_changed(SIZE, b"\xff\xff\xff\x7f"), "is not a valid Keras file"),
    "of a huge size, deflated": (_changed(SIZE, b"\xff\xff\xff\x7f", method=DEFLATED), "far more than the file has"),
    "of a size that lies": (_changed(SIZE, b"\1\1\0\0", method=DEFLATED), "is not a valid Keras file"),
    "of a smaller size": (_changed(SIZE, b"\1\0\0\0"), "is not a valid HDF5 file"),
    "with other values": (_changed(np.float64(7).tobytes(), np.float64(8).tobytes()), "not those that were written"),
    "with deep metadata": (
        _archive((_WEIGHTS, GOOD), ("metadata.json", b"[" * 99_999), ("config.json", b"[" * 99_999)), None
    ),
    "with a path as a name": (_archive((_WEIGHTS, GOOD), ("../../../tmp/statezoo-escaped", b"x")), None),
}  # fmt: skip

FILES = [
    *(HostileFile(f"an archive of Keras {title}", ".keras", make, cause) for title, (make, cause) in KERAS.items()),
    *(
        HostileFile(f"{kind} with {title}", suffix, bytes_of(content), cause)
        for kind, suffix, hostile in (
            ("GGUF", ".gguf", gguf_files.HOSTILE),
            ("ONNX", ".onnx", onnx_files.HOSTILE),
        )
        for title, (content, cause) in hostile.items()
        if find_spec(suffix[1:])
    ),
]
# The headers of these are as they should be.
_ONLY_DATA = ("not those that were written", "cannot be read", "soft or external link")
FILES = [hostile._replace(only_data=any(part in (hostile.cause or "") for part in _ONLY_DATA)) for hostile in FILES]
