"""Writing a state as NumPy's .npz, for programs that read nothing else.

A zip archive, its members stored without compression, of one date, in the order of the state: `<name>.npy` for each
tensor, in C order and little-endian; and, if there are metadata or extra state, `__statezoo__.npy`, a 0-d array of
text, the JSON object `{"extra": {...}, "metadata": {...}}`:

    json.loads(str(np.load("model.npz")["__statezoo__"]))

What the format cannot say is lost: ties and views become arrays of their own; bfloat16 and float8 come back as raw
bytes of their size (`np.load(path)["w"].view(ml_dtypes.bfloat16)`). The only checks are zip's own, CRC-32.

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
# From here on zip notes sizes in 64 bits, with some bytes for the header.
_LARGE_BYTES = (1 << 31) - (1 << 20)


def save_npz(checkpoint: Checkpoint, path: str, progress: Progress) -> None:
    """Write what is in a checkpoint to path, whole or not at all, in little memory.

    progress: called with how many bytes were written since it was called last.
    Raises StateError for a name that zip cannot hold and FormatError for a shape that NumPy cannot, before anything is
    written; WriteError; CorruptError for a tensor that is damaged.
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
                f"bytes, and {_RESERVED} is for metadata. Rename it, or convert to .safetensors or .h5."
            )


def _write(
    zip: zipfile.ZipFile,
    name: str,
    dtype: np.dtype,
    shape: tuple[int, ...],
    blocks: Iterable[np.ndarray],
    progress: Progress,
) -> None:
    member = zipfile.ZipInfo(f"{name}.npy")  # whose date is that of no clock, the first that zip has
    member.create_system = _UNIX  # the same bytes on every system
    size_bytes = dtype.itemsize * int(np.prod(shape, dtype=object))
    with zip.open(member, "w", force_zip64=size_bytes > _LARGE_BYTES) as file:
        header = {"descr": dtype.newbyteorder("<").str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for block in blocks:
            file.write(streams.memory_of(block))
            progress(block.nbytes)
