"""The removal of checkpoints, and the proof that they belong to the history.

- A checkpoint belongs to it if it saved it, or if the metadata contains the step and the manifest is ours. Each of its
  files must be the one that was there when the checkpoint was saved or first seen, complete: of a folder, whatever else
  is in it stays. A link is never removed, nor is its target.
- The remains of a killed process belong to it if a mark names them: in the folder of the history, the file or folder
  that the process was writing or removing; in the folder, each file of it. A checkpoint being copied into the history
  has no mark.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from ...errors import CheckpointError
from ...files import open_header
from ...files.sharding import writer
from ...files.sharding.index import INDEX_SUFFIX, load_index
from ...storage import marks, temporary
from ...storage.identity import Identity, identities_in, identity_of
from . import files
from .log import NAME as LOG_NAME


def files_of(entry: files.Entry) -> dict[str, Identity]:
    """Return the identities of the files that a checkpoint has now, by name: all in its folder, or the file itself."""
    if entry.is_folder:
        return identities_in(os.path.dirname(entry.path))
    identity = identity_of(entry.path)
    return {} if identity is None else {entry.name: identity}


def is_complete(entry: files.Entry) -> bool:
    """Return False if shards are missing or cut off: the checkpoint may be being copied into the history."""
    if not entry.is_folder:  # a file that grows is another one later
        return True
    try:
        with open_header(entry.path):
            return True
    except CheckpointError:
        return False


@contextmanager
def in_progress(history: str, path: str, is_new: bool = True) -> Iterator[None]:
    """Mark the checkpoint at `path` as being written or removed. Remove what is unfinished if the block fails.

    If the process dies, the mark lets the next writer remove it. is_new: the folder of the checkpoint is ours to
    remove, or it does not exist yet.
    """
    target = files.name_of(path)
    content: dict[str, Any] = {"target": target}
    if is_new:
        content["inode"] = _inode_of_folder(os.path.join(history, target))
    with marks.marked(os.path.join(history, LOG_NAME), content) as mark:
        try:
            yield
        except BaseException:
            if mark.is_own:
                mark.is_settled = _clear(history, content)
            raise


def clear_unfinished(history: str) -> None:
    """Remove what killed processes left unfinished in the folder of a history."""
    for mark, lines in marks.dead_marks(os.path.join(history, LOG_NAME)):
        if all(_clear(history, content) for content in lines):
            temporary.remove_dead(mark)


def remove(history: str, entry: files.Entry, seen: Mapping[str, Identity], is_own: bool, durable: bool) -> None:
    """Remove a checkpoint if it belongs to the history. If the system refuses, the next save tries again.

    seen: its files when it was saved or first seen. is_own: whether it was saved by this history, not only seen.
    durable: a power cut does not bring back a part of it.
    """
    if os.path.islink(os.path.join(history, entry.name)) or not (is_own or _proves_own(entry)):
        return
    with suppress(OSError):
        if entry.is_folder:
            with in_progress(history, entry.path):
                writer.remove_set(entry.path, seen, durable)
                os.rmdir(os.path.dirname(entry.path))
        elif entry.name in seen:
            marks.remove_marked(os.path.join(history, LOG_NAME), entry.path, seen[entry.name])


def _proves_own(entry: files.Entry) -> bool:
    """Return True if the header of a checkpoint says that a history saved it under this step."""
    try:
        if entry.is_folder:  # the index is enough: a shard may be missing
            header = load_index(entry.path + INDEX_SUFFIX)
        else:
            with open_header(entry.path) as header:
                pass
        step = json.loads(header.metadata[files.KEY])["step"]
        return header.manifest is not None and type(step) is int and step == entry.step
    except (CheckpointError, ValueError, LookupError, TypeError, RecursionError):
        return False


def _clear(history: str, content: Mapping[str, Any]) -> bool:
    """Remove the unfinished files of the checkpoint that a mark names. Return False if some stay for now."""
    name = content.get("target")
    parsed = files.parsed_name(name) if isinstance(name, str) else None
    if parsed is None:
        return True
    path = files.path_of(history, *parsed)
    if not files.is_in_folder(path):
        temporary.remove_leftovers(history)
        return True
    folder = os.path.dirname(path)
    inode = _inode_of_folder(folder)
    if inode is None:
        return True
    is_done = writer.clear_leftovers(path)
    # None: the folder did not exist, and the process may have died before it could note that it made one.
    if content.get("inode", 0) in (None, inode):
        with suppress(OSError):
            os.rmdir(folder)  # only if it is empty
    return is_done


def _inode_of_folder(path: str) -> int | None:
    """Return the inode of a folder, or None if `path` is missing, a link or anything else."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_ino if stat.S_ISDIR(status.st_mode) else None
