"""The log of a history: history.jsonl next to the checkpoints, with one line of JSON for each save.

    {"step": 1200, "file": "step-00001200.safetensors", "saved": "2026-01-31T09:20:22+00:00", "metrics": {"loss": 0.25},
     "process": "host/4242/1234567"}

`process` names the process that saved it, or that added the missing line later (see savers.py).

The log is for people and their tools: the checkpoints hold the same data, and missing lines are added from them. Lines
are only appended, in one write for each save. A line torn by a crash is skipped. If there are several lines for a file,
the last one counts. NaN and the infinities are the texts "NaN", "Infinity" and "-Infinity", see metrics.py.

Writers also lock the log, so that only one at a time changes the folder. Where there are no locks (Windows, some
network file systems), only one writer may save.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from ...errors import ReadError, WriteError
from ...storage.forks import OwnFile
from ...storage.locks import locked
from .metrics import numbers_from_json, numbers_to_json
from .savers import this_process

NAME = "history.jsonl"
# Enough for several million saves. To read a damaged file of any size would take all memory.
_MOST_BYTES = 1 << 30
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)


class Record(NamedTuple):
    """A line of the log. file: the name of the checkpoint in the folder. saved: the time, UTC, in ISO 8601."""

    step: int
    file: str
    saved: str
    metrics: dict[str, float]


class Log:
    """The log of the history in a folder."""

    def __init__(self, folder: str) -> None:
        self.path = os.path.join(folder, NAME)

    def records(self) -> list[Record]:
        """Return every line that can be parsed, in the order written. Raises ReadError if the file cannot be read."""
        return [record for line in self._lines() if (record := _parsed(line)) is not None]

    def savers(self) -> dict[str, str]:
        """Return the process that saved each file, or "" if it is not known. Raises ReadError."""
        return {file: saver for line in self._lines() for file, saver in _saver(line)}

    def _lines(self) -> list[bytes]:
        try:
            file = _opened(self.path, os.O_RDONLY)
            try:
                if os.fstat(file.number).st_size > _MOST_BYTES:
                    raise OSError(errno.EFBIG, "It is far too large for a log")
                with open(file.number, "rb", closefd=False) as content:
                    return content.read().split(b"\n")
            finally:
                file.close()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise ReadError(f"{self.path} could not be read: {_reason(error)}. Check the file.", error) from error

    @contextmanager
    def locked(self) -> Iterator[OpenLog]:
        """Lock the log and yield it. Raises WriteError if it cannot be opened, LockedError if it stays locked."""
        with locked(self.path, create=True):
            try:
                file = _opened(self.path, _FLAGS)
            except OSError as error:
                raise WriteError(
                    f"{self.path} could not be opened, and nothing was saved: {_reason(error)}.\n"
                    "Check the folder and its permissions.",
                    error,
                ) from error
            try:
                yield OpenLog(self.path, file.number)
            finally:
                with suppress(OSError):
                    file.close()


class OpenLog(NamedTuple):
    """A locked log, open to append to."""

    path: str
    descriptor: int

    def append(self, records: Iterable[Record]) -> None:
        """Append a line for each record. Raises WriteError if the system refuses."""
        text = b"".join(map(_line, records))
        try:
            size = os.fstat(self.descriptor).st_size
            if size and text:
                os.lseek(self.descriptor, size - 1, os.SEEK_SET)
                if os.read(self.descriptor, 1) != b"\n":  # a writer was killed in the middle of a line
                    text = b"\n" + text
            if os.write(self.descriptor, text) < len(text):
                raise OSError(None, "the disk is full")
        except OSError as error:
            raise WriteError(
                f"{self.path} could not be written: {_reason(error)}. The checkpoint itself was saved, and no older "
                "one was removed.\nFree some space. The next save adds the missing lines.",
                error,
            ) from error


def _opened(path: str, flags: int) -> OwnFile:
    """Open a regular file. Raises OSError for anything else, at once: opening a named pipe could wait forever."""
    file = OwnFile()
    try:
        file.open(path, flags | getattr(os, "O_NONBLOCK", 0))
        if not stat.S_ISREG(os.fstat(file.number).st_mode):
            raise OSError(errno.EINVAL, "It is not a regular file", path)
        return file
    except BaseException:
        file.close()
        raise


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _line(record: Record) -> bytes:
    content = record._asdict() | {"metrics": numbers_to_json(record.metrics), "process": this_process()}
    return json.dumps(content).encode() + b"\n"


def _saver(line: bytes) -> list[tuple[str, str]]:
    """Return the file of a line with its saver, or nothing if the line cannot be parsed."""
    try:
        content = json.loads(line)
        return [(str(content["file"]), str(content.get("process", "")))]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return []


def _parsed(line: bytes) -> Record | None:
    try:
        content = json.loads(line)
        step, file, saved = content["step"], str(content["file"]), str(content["saved"])
        return Record(step, file, saved, numbers_from_json(content["metrics"])) if type(step) is int else None
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
