"""Replacing the state at a path by a set of shards, so that a crash at any moment leaves the complete old or new state.

No file of the old state is touched before all shards of the new one are written, under free names. Then one rename
replaces the index, and a plain file at the path, which readers prefer to an index, is removed: the last of these two
steps makes the new state visible. Then the old shards are removed. For a time, both states take up space.

A writer of shards holds a lock on the folder, which the system releases when the process dies. Under the lock, any of
our files that no index in the folder names were left by a dead writer, and the next writer removes them. Where there
are no locks (Windows, some network file systems) they are kept, and only one writer at a time may save to a path.
Writers of shards to the same folder wait for each other.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from typing import Any

from ..errors import ArgumentError, CheckpointError, LockedError, MissingFileError, WriteError
from ..formats import format_of
from ..storage import durable as files
from ..storage import marks
from ..storage.locks import locked
from ..storage.source import FileSource
from .index import (
    INDEX_SUFFIX,
    is_numbered,
    is_shard_name,
    is_shard_of,
    parse_index,
    read_index,
    shard_metadata,
    shard_names,
)

# More shards than anyone writes. A mark is a file, and may say anything.
_MOST_SHARDS = 100_000


def refuse_impossible(path: str) -> None:
    """Raise ArgumentError or WriteError, before anything is written, if no shards can be saved to a path."""
    name = os.path.basename(path)
    if not is_shard_name(name) or not name.isprintable():
        raise ArgumentError(
            f"{path!r} cannot be saved in shards: the index with their names allows no /, no \\ and no characters that "
            "cannot be printed. Choose another name, or leave out max_shard_size."
        )
    for target in (path, path + INDEX_SUFFIX):
        try:
            mode = os.stat(target).st_mode
        except OSError:  # nothing is there, or writing the first shard will say what is wrong
            continue
        if not stat.S_ISREG(mode):
            what = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
            raise WriteError(f"{target} is {what}, and nothing was written. Give the name of a file.")


class NewShards:
    """The shards to write. names, paths: in order. index: the bytes of the index, set once the shards are written."""

    def __init__(self, path: str, number: int, mark: int) -> None:
        self.mark, self.names = mark, shard_names(path, number, mark)
        self.paths = [os.path.join(os.path.dirname(path), name) for name in self.names]
        self.index = b""
        self.is_interrupted = False  # by a signal handler that saved another set


# The files that this process is writing and removing. A signal handler that saves meanwhile must not touch them.
_writing: list[NewShards] = []
_removing: list[set[str]] = []


@contextmanager
def replace_shards(path: str, count: int, durable: bool) -> Iterator[NewShards]:
    """Yield `count` shards to write, which replace the state at `path` if the block succeeds.

    The block writes each shard like any file, then sets the index. durable: as for durable.replace. If anything fails,
    the state at `path` is unchanged, and the shards written so far are removed.
    Raises WriteError, with advice, if the system refuses.
    """
    path = os.path.abspath(path)  # the program may change its working directory while it computes arrays
    folder, index_path = os.path.dirname(path), path + INDEX_SUFFIX
    with locked(folder) as is_locked:
        if is_locked:
            _remove_leftovers(path)
        new = _new_shards(path, count)
        try:
            with marks.marked(index_path, {"shards": count, "mark": new.mark}):
                yield new
            old = _named_by(index_path) or set()
            with files.replace(index_path, durable) as descriptor:
                files.write_all(descriptor, new.index, 0)
        except BaseException as error:
            named = _named_by(index_path)  # the new shards, if it failed after the rename
            if named is not None:
                _remove(new.paths, {os.path.join(folder, name) for name in named})
            if isinstance(error, WriteError):
                raise _explained(path, error, named is not None and named >= set(new.names)) from error
            raise
        finally:
            _writing.remove(new)
            for other in _writing:
                other.is_interrupted = True
        _remove_plain(path, durable)
        _remove_unneeded(folder, old)
        if is_locked and new.is_interrupted:
            _remove_leftovers(path)


def _explained(path: str, error: WriteError, is_set: bool) -> WriteError:
    """Return the error to raise instead. is_set: whether the index already names the new shards."""
    reason = str(error)
    if isinstance(error, files.NotFlushedError):  # its message is true of one file, but not of the set
        reason = f"Its folder could not be flushed: {error.reason}. Save again, or to another disk."
        if is_set and os.path.lexists(path):
            return _old_is_left(path, f"the folder could not be flushed ({error.reason})", error)
    if is_set:
        return error
    return WriteError(f"{path} could not be saved in shards. What was there before is unchanged.\n{reason}", error)


def _old_is_left(path: str, reason: str, error: OSError) -> WriteError:
    return WriteError(
        f"{path} could not be removed to make way for its shards: {reason}. It still has the old state; the new one is "
        f"in {path}{INDEX_SUFFIX}.\nRemove it, or save to another path.",
        error,
    )


def remove_shards(path: str) -> None:
    """Remove the index and the shards at a path after a plain file, which readers prefer, was saved there.

    If another process keeps the folder locked, they are kept: the state is saved, and the next save removes them.
    """
    with suppress(LockedError), locked(os.path.dirname(path) or os.curdir) as is_locked:
        if os.path.exists(path):  # otherwise a writer of shards has replaced the plain file since
            _remove_set(path, is_locked)


def remove_set(path: str) -> None:
    """Remove a checkpoint in shards, index first: shards without an index are no longer a checkpoint."""
    with locked(os.path.dirname(path)) as is_locked:
        _remove_set(path, is_locked)


def remove_leftovers(path: str) -> None:
    """Remove what dead writers of shards left at a path."""
    with locked(os.path.dirname(path)) as is_locked:
        if is_locked:
            _remove_leftovers(path)


def _remove_set(path: str, is_locked: bool) -> None:
    old = _named_by(path + INDEX_SUFFIX)
    if old is None:  # not an index
        return
    with suppress(OSError):
        os.unlink(path + INDEX_SUFFIX)
    _remove_unneeded(os.path.dirname(path), old)
    if is_locked:
        _remove_leftovers(path)


def _new_shards(path: str, number: int) -> NewShards:
    """Return new shards with free names, the usual ones or names with a mark, and add them to `_writing`."""
    for mark in count():
        new = NewShards(path, number, mark)
        taken = {path for other in _writing for path in other.paths}.union(*_removing)
        _writing.append(new)  # before checking the disk: a signal handler may write in between
        if taken.isdisjoint(new.paths) and not any(map(os.path.lexists, new.paths)):
            return new
        _writing.remove(new)
    raise AssertionError("unreachable")


def _named_by(index_path: str) -> set[str] | None:
    """Return the shards that an index names, an empty set if it is missing, or None if it cannot be read."""
    try:
        return set(parse_index(read_index(index_path), index_path).shards)
    except MissingFileError:
        return set()
    except CheckpointError:
        return None


def _named_in(folder: str) -> set[str] | None:
    """Return the shards that the indexes in a folder name, or None if one of them cannot be read."""
    named: set[str] = set()
    for name in _listed(folder):
        if name.endswith(INDEX_SUFFIX):
            shards = _named_by(os.path.join(folder, name))
            if shards is None:
                return None
            named |= shards
    return named


def _listed(folder: str) -> list[str]:
    try:
        return os.listdir(folder or os.curdir)
    except OSError:
        return []


def _remove_plain(path: str, durable: bool) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:  # if a plain file appears later, it was saved after this set and replaces it
        return
    except OSError as error:
        if not os.path.lexists(path):
            return
        raise _old_is_left(path, (error.strerror or str(error)).lower(), error) from error
    if durable:
        files.flush_folder(path, os.path.dirname(path))


def _remove_unneeded(folder: str, old: set[str]) -> None:
    """Remove numbered shards of an index that is gone, unless another index names them."""
    _remove_unnamed(folder, {name for name in old if is_numbered(name)})


def _remove_leftovers(path: str) -> None:
    """Remove what dead writers of shards left: temporary files, and shards of this path that no index names."""
    folder = os.path.dirname(path)
    for dead, content in marks.dead_marks(path + INDEX_SUFFIX):
        for name in _marked_names(path, content):
            files.remove_leftovers(os.path.join(folder, name))
        files.remove_dead(dead)
    files.remove_leftovers(path)
    suspects = {name for name in _listed(folder) if is_shard_of(path, name)}
    if suspects:
        suspects -= _named_in(folder) or set()
        _remove_unnamed(folder, {name for name in suspects if _is_ours(path, name)})


def _marked_names(path: str, content: Any) -> list[str]:
    """Return the names of the shards that a dead writer was writing, from its mark."""
    number, mark = (content.get(key) for key in ("shards", "mark")) if isinstance(content, dict) else (0, 0)
    if type(number) is not int or type(mark) is not int or not (0 < number <= _MOST_SHARDS and 0 <= mark < 1 << 32):
        return []
    return shard_names(path, number, mark)


def _remove_unnamed(folder: str, names: set[str]) -> None:
    """Remove shards, except those that an index names or that are being written. Keep all if an index is unreadable."""
    paths = {os.path.join(folder, name) for name in names}
    if not paths:
        return
    _removing.append(paths)  # before the look at the indexes: a signal handler must not use these names from here on
    try:
        named = _named_in(folder)
        if named is not None:
            written = {path for new in _writing for path in new.paths}
            _remove(paths, {os.path.join(folder, name) for name in named} | written)
    finally:
        _removing.remove(paths)


def _is_ours(path: str, name: str) -> bool:
    """Whether a file is a shard that was written for this path, and no checkpoint of another kind or writer."""
    try:
        source = FileSource(os.path.join(os.path.dirname(path), name))
        try:
            opened = format_of(name).codec.open_source(source)
        finally:
            source.close()
    except CheckpointError:
        return False
    return opened.manifest is not None and shard_metadata(path).items() <= opened.metadata.items()


def _remove(paths: Iterable[str], kept: set[str]) -> None:
    for path in paths:
        if path not in kept:
            with suppress(OSError):
                os.unlink(path)
