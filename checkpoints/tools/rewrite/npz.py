"""Writing a state as a NumPy .npz file, for programs that read nothing else.

The file is a zip archive. Its members are not compressed, have a fixed date, and follow the order of the state. Each
tensor is `<name>.npy`, in C order and little-endian. Metadata and extra state, if any, are in `__statezoo__.npy`, a
0-d array of text that holds the JSON object `{"extra": {...}, "metadata": {...}}`:

    json.loads(str(np.load("model.npz")["__statezoo__"]))

Some things are lost. Ties and views become separate arrays. bfloat16 and float8 come back as raw bytes of their size
(`np.load(path)["w"].view(ml_dtypes.bfloat16)`). The only checksums are the CRC-32 of the zip archive.

Source: numpy.lib.format, version 1.0 of .npy; 2.0 for a header of more than 64 KiB.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterable

import numpy as np

from ...errors import StateError
from ...reading.lazy import Checkpoint
from ...reading.progress import Progress, silent
from ...reading.reader import check_shape
from ...storage import streams
from ...storage.durable import replace
from ..blocks import blocks_of

_RESERVED = "__statezoo__"
_UNIX = 3
_MOST_NAME_BYTES = 65_535 - len(".npy")
# Above this size, the archive needs 64-bit sizes; the rest is for the header of the member.
_LARGE_BYTES = (1 << 31) - (1 << 20)


def save_npz(checkpoint: Checkpoint, path: str, progress: Progress) -> None:
    """Write a checkpoint to `path` atomically, in little memory.

    progress: called with the number of bytes written since the last call.
    Raises StateError for a name that zip cannot hold and FormatError for a shape that NumPy cannot hold, before
    anything is written; WriteError; CorruptError for a damaged tensor.
    """
    extra, metadata = checkpoint.packed().extra, checkpoint.metadata
    tensors = {name: tensor for name, tensor in checkpoint.items() if name not in extra}
    _check_names(tensors)
    for name, tensor in tensors.items():
        check_shape(tensor.dtype, tensor.shape, name, checkpoint.name)
    with replace(path) as descriptor, os.fdopen(os.dup(descriptor), "w+b") as file, zipfile.ZipFile(file, "w") as zip:
        for name, tensor in tensors.items():
            _write(zip, name, tensor.dtype, tensor.shape, blocks_of(tensor), progress)
        if extra or metadata:
            text = np.array(json.dumps({"extra": extra, "metadata": metadata}))
            _write(zip, _RESERVED, text.dtype, (), blocks_of(text), silent)


def _check_names(names: Iterable[str]) -> None:
    for name in names:
        if name == _RESERVED or "\0" in name or len(name.encode()) > _MOST_NAME_BYTES:
            raise StateError(
                f"an .npz file cannot hold a tensor named {name[:200]!r}: zip allows no NUL and {_MOST_NAME_BYTES:,} "
                f"bytes, and {_RESERVED} is for metadata. Rename it, or convert to another format."
            )


def _write(
    zip: zipfile.ZipFile,
    name: str,
    dtype: np.dtype,
    shape: tuple[int, ...],
    blocks: Iterable[np.ndarray],
    progress: Progress,
) -> None:
    member = zipfile.ZipInfo(f"{name}.npy")  # with a fixed date, the earliest that zip has
    member.create_system = _UNIX  # the same bytes on every system
    size_bytes = dtype.itemsize * int(np.prod(shape, dtype=object))
    with zip.open(member, "w", force_zip64=size_bytes > _LARGE_BYTES) as file:
        header = {"descr": dtype.newbyteorder("<").str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for block in blocks:
            file.write(streams.memory_of(block))
            progress(block.nbytes)
