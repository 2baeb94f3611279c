"""Replacing what is at a path by a set of shards, so that a crash at any moment leaves the old state or the new, whole.

No file of the old state is touched before all shards of the new one are there, under names that are free. Then the
index is replaced, in one rename, and a plain file at the path, which readers prefer to an index, is removed: the last
of the two makes the new state visible. After that the old shards are removed. A set so takes twice its room for a time.

A writer of shards holds a lock on the folder, which the system takes back when the process dies. So files of ours that
no index in the folder names, found under the lock, are what a dead writer left: the next one removes them. Where
there are no locks (Windows, some file systems across a network) they stay, and only one writer at a time may save to a
path. On one folder writers of shards wait for each other.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import count

from ..errors import ArgumentError, CheckpointError, LockedError, MissingFileError, WriteError
from ..formats import format_of
from ..storage import durable as files
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

_TEMPORARY = re.compile(r"\.statezoo-[0-9a-f]{16}-[0-9]+\.tmp")


def refuse_impossible(path: str) -> None:
    """Raise ArgumentError or WriteError for a path at which no shards can be, before any is written."""
    name = os.path.basename(path)
    if not is_shard_name(name) or not name.isprintable():
        raise ArgumentError(
            f"{path!r} cannot be saved in shards: their names stand in an index, which allows neither / nor \\ nor "
            "characters that are not printed. Choose another name, or leave out max_shard_size."
        )
    for target in (path, path + INDEX_SUFFIX):
        try:
            mode = os.stat(target).st_mode
        except OSError:  # nothing is there, or the first shard says what is wrong
            continue
        if not stat.S_ISREG(mode):
            what = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
            raise WriteError(f"{target} is {what}, and nothing was written. Give the name of a file.")


class NewShards:
    """The shards that are to be written. names, paths: in order. index: its bytes, known when they are written."""

    def __init__(self, folder: str, names: list[str]) -> None:
        self.names, self.paths = names, [os.path.join(folder, name) for name in names]
        self.index = b""
        self.is_interrupted = False  # by a signal handler that saved another set


# What this process is writing and removing. A signal handler that saves in the midst of it keeps away from these.
_writing: list[NewShards] = []
_removing: list[set[str]] = []


@contextmanager
def replace_shards(path: str, count: int, durable: bool) -> Iterator[NewShards]:
    """Give so many shards to write, which take the place of what is at path when the block ends without an exception.

    They are written as any file is, and then their index is set. durable: as for durable.replace. If anything fails,
    what was at path is untouched, and the shards written so far are removed.
    Raises WriteError, with what to do, if the system refuses.
    """
    path = os.path.abspath(path)  # the program may change its folder while it makes arrays
    folder, index_path = os.path.dirname(path), path + INDEX_SUFFIX
    with locked(folder) as is_locked:
        if is_locked:
            _remove_leftovers(path)
        new = _new_shards(path, count)
        try:
            yield new
            old = _named_by(index_path) or set()
            with files.replace(index_path, durable) as descriptor:
                files.write_all(descriptor, new.index, 0)
        except BaseException as error:
            named = _named_by(index_path)  # the new ones, if it failed after the rename
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
    """Return what to say after an error; is_set: whether the index is that of the new shards already."""
    reason = str(error)
    if isinstance(error, files.NotFlushedError):  # which says of one file what is not so of the set
        reason = f"Its folder could not be flushed: {error.reason}. Save again, or to another disk."
        if is_set and os.path.lexists(path):
            return _old_is_left(path, f"the folder could not be flushed ({error.reason})", error)
    if is_set:
        return error
    return WriteError(f"{path} could not be saved in shards. What was there before is unchanged.\n{reason}", error)


def _old_is_left(path: str, reason: str, error: OSError) -> WriteError:
    return WriteError(
        f"{path} could not be removed to make way for its shards: {reason}. It has the old state still; the new one is "
        f"in {path}{INDEX_SUFFIX}.\nRemove it, or save to another path.",
        error,
    )


def remove_shards(path: str) -> None:
    """Remove the index and the shards of a path where a plain file was saved, which readers prefer.

    They stay if another process keeps the folder locked: the state is saved, and the next save removes them.
    """
    with suppress(LockedError), locked(os.path.dirname(path) or os.curdir) as is_locked:
        if os.path.exists(path):  # otherwise a writer of shards has replaced the plain file since
            _remove_set(path, is_locked)


def remove_set(path: str) -> None:
    """Remove a checkpoint in shards: its index first, so that what is left without one is no checkpoint."""
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
    """Return shards under names that are free: the usual ones, otherwise names with a mark. Enter them as written."""
    folder = os.path.dirname(path)
    for mark in count():
        new = NewShards(folder, shard_names(path, number, mark))
        taken = {path for other in _writing for path in other.paths}.union(*_removing)
        _writing.append(new)  # before the look at the disk: a signal handler may write in between
        if taken.isdisjoint(new.paths) and not any(map(os.path.lexists, new.paths)):
            return new
        _writing.remove(new)
    raise AssertionError("unreachable")


def _named_by(index_path: str) -> set[str] | None:
    """Return the shards that an index names, none if it is not there; None if it cannot be read."""
    try:
        return set(parse_index(read_index(index_path), index_path).shards)
    except MissingFileError:
        return set()
    except CheckpointError:
        return None


def _named_in(folder: str) -> set[str] | None:
    """Return the shards that the indexes in a folder name; None if one of these cannot be read."""
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
    except FileNotFoundError:  # a plain file that is there by now was saved after this set, and takes its place
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
    """Remove what dead writers of shards left: their temporary files, and shards for this path that no index names."""
    folder = os.path.dirname(path)
    names = _listed(folder)
    for name in names:
        if _TEMPORARY.fullmatch(name):
            files.remove_dead(os.path.join(folder, name))
    suspects = {name for name in names if is_shard_of(path, name)}
    if suspects:
        suspects -= _named_in(folder) or set()
        _remove_unnamed(folder, {name for name in suspects if _is_ours(path, name)})


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
