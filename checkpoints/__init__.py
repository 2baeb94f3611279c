"""Checkpoints that hold exactly what the state was, in safetensors and HDF5.

    save_model(model, "run.safetensors", metadata={"epoch": "7"})
    load_model(model, "run.safetensors")

    save_file({"weight": weight, "tied": weight}, "run.h5")
    state = load_file("run.h5")             # state["tied"] is state["weight"]

    verify("run.h5")                        # are all bytes what was written?
    diff("run.h5", "run.safetensors")       # what changed, in names, ties and values

    history = History("runs/digits", keep_last=3, metric="loss", mode="min", background=True)
    history.save(1200, model, {"loss": 0.25})
    load_model(model, history.best().path)

Read in this order: files (what a save and a load do), sharing, manifest, formats, source, streams, durable; header,
reading, lazy (what an open checkpoint is); shards, shard_set, sharded; models; training, training_parts; history, and
what it is made of: retention, history_files, history_log, background, linked; tools; testing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

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
from .lazy import Checkpoint, LazyTensor, open_checkpoint
from .models import load_model, save_model

if TYPE_CHECKING:
    from . import testing
    from .history import DamagedWarning, History
    from .retention import Saved
    from .tools.comparison import diff
    from .tools.conversion import convert
    from .tools.fingerprints import fingerprint
    from .tools.inspection import inspect
    from .tools.repairing import repair
    from .tools.verification import verify
    from .training import load_training, save_training, training_state
else:
    # Imported when they are used: a program that only loads a model starts without them.
    _LATER = {
        "DamagedWarning": ".history",
        "History": ".history",
        "Saved": ".retention",
        "convert": ".tools.conversion",
        "diff": ".tools.comparison",
        "fingerprint": ".tools.fingerprints",
        "inspect": ".tools.inspection",
        "load_training": ".training",
        "repair": ".tools.repairing",
        "save_training": ".training",
        "training_state": ".training",
        "verify": ".tools.verification",
    }

    def __getattr__(name: str) -> Any:
        if name == "testing":
            return import_module(".testing", __name__)
        if name in _LATER:
            return getattr(import_module(_LATER[name], __name__), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "ArgumentError",
    "Checkpoint",
    "CheckpointError",
    "ClosedError",
    "CorruptError",
    "DamagedWarning",
    "Deferred",
    "FormatError",
    "History",
    "LazyTensor",
    "MismatchError",
    "MissingFileError",
    "ReadError",
    "Saved",
    "StateError",
    "UnknownTensorError",
    "UnsupportedTypeError",
    "VersionError",
    "WriteError",
    "convert",
    "diff",
    "fingerprint",
    "inspect",
    "load_file",
    "load_model",
    "load_training",
    "open_checkpoint",
    "read_metadata",
    "repair",
    "save_file",
    "save_model",
    "save_training",
    "testing",
    "training_state",
    "verify",
]


def __dir__() -> list[str]:
    return __all__
