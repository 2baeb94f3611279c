"""Writing what is in one file to another, of another format or in other shards."""

from __future__ import annotations

import os
from typing import Any

from ...errors import ArgumentError, FormatError
from ...files import open_header, save_file
from ...reading.progress import Progress, silent
from ...reading.reader import Reader
from .copying import Copied
from .npz import save_npz

# What people have and ask for, and what to do with it.
_FOREIGN = {
    (".pt", ".pth", ".ckpt", ".bin"): (
        "a Python pickle, as torch.save writes it; it can run any code when it is loaded, and is never loaded here. If "
        "you trust it, load it with torch.load(path, weights_only=True) and pass the tensors to save_file"
    ),
    (".pkl", ".pickle", ".joblib"): (
        "a Python pickle; it can run any code when it is loaded, and is never loaded here. If you trust it, load it "
        "with pickle and pass the arrays to save_file"
    ),
    (".npz", ".npy"): "a file of NumPy. Load it with numpy.load and pass the arrays to save_file",
}


def convert(
    source: Any,
    target: str | os.PathLike[str],
    *,
    max_shard_size: int | str | None = None,
    progress: Progress | None = None,
) -> None:
    """Write the state and metadata of one file to another, a tensor at a time, checked as it is read.

    source: a file as for load_file. target: a path ending in .safetensors, .h5, .hdf5, or .npz (see npz.py for what is
    lost there), which may be the source itself. Ties, views, extra state and metadata are kept, and so is the
    fingerprint. max_shard_size: as for save_file; a sharded source becomes one file without it. progress: called with
    how many bytes were copied since it was called last.
    Raises CorruptError if the source is damaged, FormatError for other suffixes, StateError for what the format of the
    target cannot hold, WriteError; what was at the target is there still.
    """
    _refuse_foreign(source)
    path = os.fsdecode(target)
    to_npz = path.lower().endswith(".npz")
    if to_npz and max_shard_size is not None:
        raise ArgumentError("an .npz file has no shards. Leave out max_shard_size, or convert to .safetensors.")
    reader = Reader(open_header(source), verify=True)
    try:
        checkpoint = Copied(reader, progress or silent)
        if to_npz:
            save_npz(checkpoint, path, progress or silent)
        else:
            save_file(checkpoint, path, checkpoint.metadata, max_shard_size=max_shard_size)
    finally:
        reader.close()


def _refuse_foreign(source: Any) -> None:
    """Raise FormatError, with what to do, for a file that other libraries read, going by its suffix."""
    if not isinstance(source, str | os.PathLike):
        return
    path = os.fsdecode(source)
    suffix = os.path.splitext(path)[1].lower()
    for suffixes, what in _FOREIGN.items():
        if suffix in suffixes:
            raise FormatError(f"{path} seems to be {what}.")
