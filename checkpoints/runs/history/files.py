"""The files of a history: how they are called, what they say of their step, and how they are removed.

    step-00001200.safetensors, step-00001200.h5     a checkpoint
    step-00001200/model.safetensors.index.json      one in shards, in a folder of its own (see linked.py)

The step has eight digits, so that names sort as steps do, and more if it needs them. The metadata of a checkpoint have
an entry "history", a JSON text: {"metrics": {"loss": 0.25}, "step": 1200}.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, NamedTuple

from ...errors import ArgumentError, CheckpointError, ReadError, WriteError
from ...files import read_metadata
from ...formats import DEFAULT, known_formats
from ...sharding.index import INDEX_SUFFIX, is_numbered
from ...storage import durable
from .log import Record, numbers_from_json, numbers_to_json

KEY = "history"
_NAME = re.compile(r"step-([0-9]{8,})(\..+)?")
_DIGITS = 100
_IN_FOLDER = f"model{DEFAULT.suffix}"
_TEMPORARY = re.compile(r"\.statezoo-[0-9a-f]{16}-[0-9]+\.tmp")


class Entry(NamedTuple):
    """A checkpoint in the folder. path: what load_file takes. The rest tells it from others that take its place."""

    step: int
    path: str
    inode: int
    modified_ns: int

    @property
    def is_folder(self) -> bool:
        """Whether it is one in shards, in a folder of its own."""
        return os.path.basename(self.path) == _IN_FOLDER

    @property
    def record(self) -> Record:
        """What the log says of it. Without metrics if it is damaged or gone."""
        name = os.path.basename(os.path.dirname(self.path) if self.is_folder else self.path)
        saved = datetime.fromtimestamp(self.modified_ns // 10**9, UTC).isoformat()
        return Record(self.step, name, saved, _metrics(self.path))


def make_folder(folder: str, flush: bool) -> None:
    """Make a folder, and those above it, unless it is there. flush: so that a power cut does not lose it.

    Raises WriteError.
    """
    if os.path.isdir(folder):
        return
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise WriteError(
            f"the folder {folder} could not be made: {(error.strerror or str(error)).lower()}. Give another path, or "
            "make it yourself.",
            error,
        ) from error
    if flush:
        durable.flush_folder(folder, os.path.dirname(folder))


def check_step(step: Any) -> None:
    """Raise ArgumentError unless a file can be named after a step."""
    if type(step) is not int or step < 0:
        raise ArgumentError(f"a step is a whole number, 0 or more, not {step!r}.")
    if step >= 10**_DIGITS:  # file names end somewhere, and so do the integers that Python writes
        raise ArgumentError(f"a step has at most {_DIGITS} digits, this one has more.")


def path_of(folder: str, step: int, suffix: str) -> str:
    """Return the path of the checkpoint of a step. suffix: "" for one in shards."""
    path = os.path.join(folder, f"step-{step:08}{suffix}")
    return path if suffix else os.path.join(path, _IN_FOLDER)


def metadata_of(step: int, metrics: Mapping[str, float]) -> str:
    """Return the entry of the metadata of a checkpoint."""
    return json.dumps({"metrics": numbers_to_json(metrics), "step": step}, sort_keys=True, separators=(",", ":"))


def entry_at(step: int, path: str) -> Entry | None:
    """Return the checkpoint at a path, None if there is none."""
    in_folder = os.path.basename(path) == _IN_FOLDER
    try:
        status = os.stat(path + INDEX_SUFFIX if in_folder else path)
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return Entry(step, path, status.st_ino, status.st_mtime_ns)


def entries(folder: str) -> list[Entry]:
    """Return the checkpoints in a folder by step."""
    found = [entry_at(step, path_of(folder, step, suffix)) for step, suffix in _steps(folder)]
    return sorted(entry for entry in found if entry is not None)


def is_readable(path: str) -> bool:
    """Whether a checkpoint tells its metadata."""
    try:
        read_metadata(path)
    except CheckpointError:
        return False
    return True


def remove(entry: Entry) -> None:
    """Remove a checkpoint, as far as the system allows it: the next save tries again."""
    with suppress(OSError):
        if entry.is_folder:
            _remove_folder(os.path.dirname(entry.path))
        else:
            os.unlink(entry.path)


def remove_unfinished(folder: str) -> None:
    """Remove what killed writers left: temporary files, and folders of shards that have no index."""
    for name in _listed(folder):
        if _TEMPORARY.fullmatch(name):
            durable.remove_dead(os.path.join(folder, name))
    for step, suffix in _steps(folder):
        path = path_of(folder, step, suffix)
        if not suffix and entry_at(step, path) is None:
            with suppress(OSError):
                _remove_folder(os.path.dirname(path))


def _steps(folder: str) -> list[tuple[int, str]]:
    """Return step and suffix of each name that path_of gives."""
    suffixes = {"", *(form.suffix for form in known_formats())}
    names = [(name, _NAME.fullmatch(name)) for name in _listed(folder)]
    found = [(name, int(match[1]), match[2] or "") for name, match in names if match]
    return [(step, end) for name, step, end in found if end in suffixes and name == f"step-{step:08}{end}"]


def _listed(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ReadError(f"the folder of the history, {folder}, cannot be read: {reason}.", error) from error


def _remove_folder(folder: str) -> None:
    """Remove the folder of a checkpoint, the index first: what is left without one is no checkpoint."""
    with suppress(FileNotFoundError):
        os.unlink(os.path.join(folder, _IN_FOLDER + INDEX_SUFFIX))
    for name in os.listdir(folder):
        if _TEMPORARY.fullmatch(name) or is_numbered(name):
            os.unlink(os.path.join(folder, name))
    os.rmdir(folder)


def _metrics(path: str) -> dict[str, float]:
    try:
        return numbers_from_json(json.loads(read_metadata(path)[KEY])["metrics"])
    except (CheckpointError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return {}
