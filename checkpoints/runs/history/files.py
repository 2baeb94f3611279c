"""The files of a history: their names, and the metadata of a step.

    step-00001200.safetensors, step-00001200.h5     a checkpoint
    step-00001200/model.safetensors.index.json      a checkpoint in shards, in a folder of its own (see linked.py)

The step has at least eight digits, so that names sort in the order of steps. The metadata of a checkpoint has an entry
"history", a JSON text: {"metrics": {"loss": 0.25}, "step": 1200}.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from ...errors import ArgumentError, CheckpointError, ReadError, WriteError
from ...files import read_metadata
from ...files.sharding.index import INDEX_SUFFIX
from ...formats import DEFAULT, written_formats
from ...storage.identity import MOST_LOOKS, Identity
from .log import NAME as LOG_NAME
from .log import Record
from .metrics import numbers_from_json, numbers_to_json

KEY = "history"
_NAME = re.compile(r"step-([0-9]{8,})(\..+)?")
_MOST_DIGITS = 100
_IN_FOLDER = f"model{DEFAULT.suffix}"
_UNKNOWN = Identity(0, 0, 0, 0)


class Entry(NamedTuple):
    """A checkpoint in the folder. path: what `load_file` takes. identity: tells it from a later file there."""

    step: int
    path: str
    identity: Identity

    @property
    def is_folder(self) -> bool:
        """Whether the checkpoint is in shards, in a folder of its own."""
        return is_in_folder(self.path)

    @property
    def name(self) -> str:
        """The name of the file or folder in the history."""
        return name_of(self.path)

    @property
    def is_visible(self) -> bool:
        """Whether the system lets us look at the checkpoint."""
        return self.identity != _UNKNOWN

    def record(self, metrics: Mapping[str, float]) -> Record:
        """Return the checkpoint's line in the log."""
        saved = datetime.fromtimestamp(self.identity.modified_ns // 10**9, UTC).isoformat()
        return Record(self.step, self.name, saved, dict(metrics))


def make_folder(folder: str, make: Callable[[str, bool], None], durable: bool) -> None:
    """Make a folder by a function of storage/folders. Raises WriteError if it cannot be made."""
    try:
        make(folder, durable)
    except OSError as error:
        if isinstance(error, CheckpointError):
            raise
        raise WriteError(
            f"the folder {folder} could not be made: {(error.strerror or str(error)).lower()}. Choose another path, or "
            "make the folder yourself.",
            error,
        ) from error


def check_step(step: Any) -> None:
    """Raise ArgumentError unless a file can be named after the step."""
    if type(step) is not int or step < 0:
        raise ArgumentError(f"a step must be a whole number, 0 or more, not {step!r}.")
    if step >= 10**_MOST_DIGITS:  # file names have a maximum length, and so do the integers that Python prints
        raise ArgumentError(f"a step must have at most {_MOST_DIGITS} digits, and this one has more.")


def path_of(folder: str, step: int, suffix: str) -> str:
    """Return the path of the checkpoint of a step. suffix: "" for a checkpoint in shards."""
    path = os.path.join(folder, f"step-{step:08}{suffix}")
    return path if suffix else os.path.join(path, _IN_FOLDER)


def is_in_folder(path: str) -> bool:
    """Return True if the checkpoint at a path is in shards, in a folder of its own."""
    return os.path.basename(path) == _IN_FOLDER


def name_of(path: str) -> str:
    """Return the name in the history of the file or folder of a checkpoint."""
    return os.path.basename(os.path.dirname(path) if is_in_folder(path) else path)


def parsed_name(name: str) -> tuple[int, str] | None:
    """Return the step and the suffix of a name made by `path_of`, or None for any other name."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    step, suffix = int(match[1]), match[2] or ""
    known = {"", *(form.suffix for form in written_formats())}
    return (step, suffix) if suffix in known and name == f"step-{step:08}{suffix}" else None


def metadata_of(step: int, metrics: Mapping[str, float]) -> str:
    """Return the history's entry in the metadata of a checkpoint."""
    return json.dumps({"metrics": numbers_to_json(metrics), "step": step}, sort_keys=True, separators=(",", ":"))


def entry_at(step: int, path: str) -> Entry | None:
    """Return the checkpoint at a path, or None if there is none."""
    try:
        status = os.stat(path + INDEX_SUFFIX if is_in_folder(path) else path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:  # there may be one, which is not to be passed over without a word
        return Entry(step, path, _UNKNOWN)
    return Entry(step, path, Identity.of(status)) if stat.S_ISREG(status.st_mode) else None


def names(folder: str) -> list[str]:
    """Return the names of everything in a folder. Raises ReadError if it cannot be read."""
    try:
        return os.listdir(folder)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ReadError(
            f"the folder of the history, {folder}, cannot be read: {reason}. Check the path and its permissions.", error
        ) from error


def entries(folder: str) -> list[Entry]:
    """Return the checkpoints in a folder, ordered by step. Raises ReadError if the folder cannot be read.

    Another process may save and remove meanwhile. It adds a line to the log in between: if the log did not grow, no
    checkpoint was missed because it came after the look at its name while the one before it went.
    """
    log, found = os.path.join(folder, LOG_NAME), []
    for _ in range(MOST_LOOKS):
        before = _status_of(log)
        steps = filter(None, map(parsed_name, names(folder)))
        looked = [entry_at(step, path_of(folder, step, suffix)) for step, suffix in steps]
        found = sorted(entry for entry in looked if entry is not None)
        if _status_of(log) == before:
            break
    return found


def _status_of(path: str) -> Identity | None:
    try:
        return Identity.of(os.stat(path))
    except OSError:
        return None


def metrics_of(path: str) -> dict[str, float] | None:
    """Return the metrics of a checkpoint, which may be none. Return None if its metadata cannot be read."""
    try:
        return metrics_in(read_metadata(path))
    except CheckpointError:
        return None


def metrics_in(metadata: Mapping[str, str]) -> dict[str, float]:
    """Return the metrics in the metadata of a checkpoint, which may be none or invalid."""
    try:
        return numbers_from_json(json.loads(metadata[KEY])["metrics"])
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return {}
