"""Checkpoints that preserve a state exactly, in safetensors and HDF5.

    save_model(model, "run.safetensors", metadata={"epoch": "7"})
    load_model(model, "run.safetensors")

    save_file({"weight": weight, "tied": weight}, "run.h5")
    state = load_file("run.h5")             # state["tied"] is state["weight"]

    verify("run.h5")                        # compare every byte with its digest
    diff("run.h5", "run.safetensors")       # what changed, in names, ties and values

    history = History("runs/digits", keep_last=3, metric="loss", mode="min", background=True)
    history.save(1200, model, {"loss": 0.25})
    load_model(model, history.best().path)

To read the code, start with files (what a save and a load do), then state, storage, formats, reading, models, runs,
tools and testing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import (
    ArgumentError,
    CheckpointError,
    ClosedError,
    CorruptError,
    FormatError,
    MappingError,
    MismatchError,
    MissingFileError,
    MissingPackageError,
    OutOfMemoryError,
    ReadError,
    RulesError,
    StateError,
    UnknownTensorError,
    UnsupportedTypeError,
    VersionError,
    WriteError,
)
from .files import load_file, open_checkpoint, read_metadata, save_file
from .models import Adapter, load_model, register_adapter, save_model
from .reading.lazy import Checkpoint, LazyTensor
from .state.deferred import Deferred

if TYPE_CHECKING:
    from . import mapping, testing
    from .runs.history import DamagedWarning, History
    from .runs.history.retention import Saved
    from .runs.training import load_training, save_training, training_state
    from .tools.compare.comparison import diff
    from .tools.explanation import explain
    from .tools.fingerprints import fingerprint
    from .tools.inspection import inspect
    from .tools.rewrite.conversion import convert
    from .tools.rewrite.editing import edit
    from .tools.rewrite.merging import merge
    from .tools.rewrite.repairing import repair
    from .tools.verification import verify
else:
    # Imported on first use: a program that only loads a model starts without them.
    _LATER = {
        "DamagedWarning": ".runs.history",
        "History": ".runs.history",
        "Saved": ".runs.history.retention",
        "convert": ".tools.rewrite.conversion",
        "diff": ".tools.compare.comparison",
        "edit": ".tools.rewrite.editing",
        "explain": ".tools.explanation",
        "fingerprint": ".tools.fingerprints",
        "inspect": ".tools.inspection",
        "load_training": ".runs.training",
        "merge": ".tools.rewrite.merging",
        "repair": ".tools.rewrite.repairing",
        "save_training": ".runs.training",
        "training_state": ".runs.training",
        "verify": ".tools.verification",
    }

    def __getattr__(name: str) -> Any:
        if name in ("mapping", "testing"):
            return import_module(f".{name}", __name__)
        if name in _LATER:
            return getattr(import_module(_LATER[name], __name__), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "Adapter",
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
    "MappingError",
    "MismatchError",
    "MissingFileError",
    "MissingPackageError",
    "OutOfMemoryError",
    "ReadError",
    "RulesError",
    "Saved",
    "StateError",
    "UnknownTensorError",
    "UnsupportedTypeError",
    "VersionError",
    "WriteError",
    "convert",
    "diff",
    "edit",
    "explain",
    "fingerprint",
    "inspect",
    "load_file",
    "load_model",
    "load_training",
    "mapping",
    "merge",
    "open_checkpoint",
    "read_metadata",
    "register_adapter",
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
