"""Checkpoints that hold exactly what the state was, in safetensors and HDF5.

    save_model(model, "run.safetensors", metadata={"epoch": "7"})
    load_model(model, "run.safetensors")

    save_file({"weight": weight, "tied": weight}, "run.h5")
    state = load_file("run.h5")             # state["tied"] is state["weight"]

Read in this order: files (what a save and a load do), sharing, manifest, formats, streams, durable, models,
inspection, testing.
"""

from . import testing
from .deferred import Deferred
from .errors import (
    ArgumentError,
    CheckpointError,
    ClosedError,
    CorruptError,
    FormatError,
    MismatchError,
    MissingFileError,
    ReadError,
    StateError,
    UnknownTensorError,
    UnsupportedTypeError,
    VersionError,
    WriteError,
)
from .files import load_file, read_metadata, save_file
from .inspection import inspect
from .lazy import Checkpoint, LazyTensor, open_checkpoint
from .models import load_model, save_model

__all__ = [
    "ArgumentError",
    "Checkpoint",
    "CheckpointError",
    "ClosedError",
    "CorruptError",
    "Deferred",
    "FormatError",
    "LazyTensor",
    "MismatchError",
    "MissingFileError",
    "ReadError",
    "StateError",
    "UnknownTensorError",
    "UnsupportedTypeError",
    "VersionError",
    "WriteError",
    "inspect",
    "load_file",
    "load_model",
    "open_checkpoint",
    "read_metadata",
    "save_file",
    "save_model",
    "testing",
]
