"""The log of a history: a JSON text a line for each save, in history.jsonl beside the checkpoints.

    {"step": 1200, "file": "step-00001200.safetensors", "saved": "2026-01-31T09:20:22+00:00", "metrics": {"loss": 0.25}}

It is for people and their tools: the checkpoints hold the same, and what is missing in the log is added from them.
Lines are only appended, in one write a save; one that a crash tore is passed over, and of several lines for a file the
last one counts. NaN and the infinities, which JSON lacks, are the texts "NaN", "Infinity" and "-Infinity".

The log is also what writers lock, so that one of them at a time changes the folder. The system takes a lock back when
its process dies. Where there are no locks (Windows, some file systems across a network) one writer may be at work.
"""

from __future__ import annotations

import errno
import json
import math
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from numbers import Real
from typing import Any, NamedTuple

from ...errors import ReadError, WriteError
from ...storage.locks import locked

NAME = "history.jsonl"
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


class Record(NamedTuple):
    """A line of the log. file: the name of the checkpoint in the folder. saved: when, in UTC, as ISO 8601 writes it."""

    step: int
    file: str
    saved: str
    metrics: dict[str, float]


class Log:
    """The log of the history in a folder."""

    def __init__(self, folder: str) -> None:
        self.path = os.path.join(folder, NAME)

    def records(self) -> list[Record]:
        """Return all lines that can be read, in the order in which they were written; none if there is no log."""
        try:
            with open(self.path, "rb", opener=_opened) as file:
                lines = file.read().split(b"\n")
        except FileNotFoundError:
            return []
        except OSError as error:
            raise ReadError(
                f"{self.path} could not be read: {(error.strerror or str(error)).lower()}.", error
            ) from error
        return [record for line in lines if (record := _parsed(line)) is not None]

    @contextmanager
    def locked(self) -> Iterator[OpenLog]:
        """Yield the log to append to, while no other process changes the folder. Raises WriteError, LockedError."""
        with locked(self.path, create=True):
            try:
                descriptor = _opened(self.path, _FLAGS)
            except OSError as error:
                raise WriteError(
                    f"{self.path} could not be opened, and nothing was saved: "
                    f"{(error.strerror or str(error)).lower()}.\nCheck the folder and its permissions.",
                    error,
                ) from error
            try:
                yield OpenLog(self.path, descriptor)
            finally:
                os.close(descriptor)


class OpenLog(NamedTuple):
    """A log that is locked."""

    path: str
    descriptor: int

    def append(self, records: Iterable[Record]) -> None:
        """Write a line for each record. Raises WriteError."""
        text = b"".join(map(_line, records))
        try:
            size = os.fstat(self.descriptor).st_size
            if size and text:
                os.lseek(self.descriptor, size - 1, os.SEEK_SET)
                if os.read(self.descriptor, 1) != b"\n":  # a writer died in the midst of a line
                    text = b"\n" + text
            if os.write(self.descriptor, text) < len(text):
                raise OSError(None, "the disk is full")
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise WriteError(
                f"{self.path} could not be written: {reason}. The checkpoint itself was saved, and no older one "
                "removed.\nFree some space; the next save adds what the log lacks.",
                error,
            ) from error


def is_number(value: Any) -> bool:
    """Whether it is a number that a float can hold."""
    try:
        float(value)
    except (OverflowError, TypeError, ValueError):
        return False
    return isinstance(value, Real)


def numbers_to_json(metrics: Mapping[str, float]) -> dict[str, float | str]:
    """Return metrics as JSON can hold them."""
    return {name: value if math.isfinite(value) else _TEXTS[str(value)] for name, value in metrics.items()}


def numbers_from_json(content: Any) -> dict[str, float]:
    """Return what numbers_to_json was given. Raises AttributeError, TypeError or ValueError for anything else."""
    try:
        return {name: float(value) for name, value in content.items()}
    except OverflowError as error:  # JSON has integers of any size
        raise ValueError("a metric is larger than a float can be") from error


def _opened(path: str, flags: int) -> int:
    """Open a regular file. Raises OSError at once for a named pipe, which would be waited for."""
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0), 0o666)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, "It is not a regular file", path)


_TEXTS = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


def _line(record: Record) -> bytes:
    return json.dumps(record._asdict() | {"metrics": numbers_to_json(record.metrics)}).encode() + b"\n"


def _parsed(line: bytes) -> Record | None:
    try:
        content = json.loads(line)
        step, file, saved = content["step"], str(content["file"]), str(content["saved"])
        return Record(step, file, saved, numbers_from_json(content["metrics"])) if type(step) is int else None
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
