"""The removal of checkpoints, and the proof that they belong to the history.

- A checkpoint belongs to it if the metadata contains the step and the manifest is ours. A link is never removed, nor is
  its target.
- The remains of a killed process belong to it if a mark in the folder of the history names the file or folder that the
  process was writing or removing; for a folder, its inode too. A checkpoint being copied into the history has no mark.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from ...errors import CheckpointError
from ...files import open_header
from ...sharding import writer
from ...sharding.index import INDEX_SUFFIX, parse_index, read_index
from ...storage import durable, marks
from . import files
from .log import NAME as LOG_NAME


@contextmanager
def in_progress(history: str, path: str) -> Iterator[None]:
    """Mark the checkpoint at `path` as being written or removed. Remove what is unfinished if the block fails.

    If the process dies, the mark lets the next writer remove it.
    """
    target = files.name_of(path)
    content = {"target": target, "inode": _inode_of_folder(os.path.join(history, target))}
    with marks.marked(os.path.join(history, LOG_NAME), content):
        try:
            yield
        except BaseException:
            _clear(history, content)
            raise


def clear_unfinished(history: str) -> None:
    """Remove what killed processes left unfinished in the folder of a history."""
    for mark, content in marks.dead_marks(os.path.join(history, LOG_NAME)):
        _clear(history, content)
        durable.remove_dead(mark)


def remove(history: str, entry: files.Entry) -> None:
    """Remove a checkpoint if it belongs to the history. If the system refuses, the next save tries again."""
    if not _is_own(entry):
        return
    with suppress(OSError):
        if entry.is_folder:
            with in_progress(history, entry.path):
                writer.remove_set(entry.path)
                os.rmdir(os.path.dirname(entry.path))
        else:
            os.unlink(entry.path)


def _is_own(entry: files.Entry) -> bool:
    if os.path.islink(os.path.dirname(entry.path) if entry.is_folder else entry.path):
        return False
    try:
        if entry.is_folder:  # the index is enough: a shard may be missing
            header = parse_index(read_index(entry.path + INDEX_SUFFIX), entry.path)
        else:
            with open_header(entry.path) as header:
                pass
        step = json.loads(header.metadata[files.KEY])["step"]
        return header.manifest is not None and type(step) is int and step == entry.step
    except (CheckpointError, ValueError, LookupError, TypeError, RecursionError):
        return False


def _clear(history: str, content: Any) -> None:
    """Remove the unfinished files of the checkpoint that a mark names."""
    name = content.get("target") if isinstance(content, dict) else None
    parsed = files.parsed_name(name) if isinstance(name, str) else None
    if parsed is None:
        return
    path = files.path_of(history, *parsed)
    with suppress(OSError):
        if not files.is_in_folder(path):
            durable.remove_leftovers(path)
            return
        folder = os.path.dirname(path)
        if content.get("inode") is not None and content["inode"] == _inode_of_folder(folder):
            writer.remove_leftovers(path)
        os.rmdir(folder)  # only if it is empty


def _inode_of_folder(path: str) -> int | None:
    """Return the inode of a folder, or None if `path` is missing, a link or anything else."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_ino if stat.S_ISDIR(status.st_mode) else None
