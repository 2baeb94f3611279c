"""Replacing the state at a path by a set of shards, so that a crash at any moment leaves the complete old or new state.

No file of the old state is touched before all shards of the new one are written, under free names. Then one rename
replaces the index, and a plain file at the path, which readers prefer to an index, is removed: the last of these two
steps makes the new state visible. Then the old shards are removed. For a time, both states take up space.

A symbolic link at the path is followed: the shards and the index go next to its target. A new shard gets the owner and
the permissions of the plain file or the shards that it replaces.

A writer of shards holds a lock on the folder, which the system releases when the process dies. It notes in a mark which
files it writes and which it will remove. If it dies, the next writer removes those that no index names. Nothing else is
removed, whatever its name (see ownership.py). Where there are no locks (Windows, some network file systems) leftovers
are kept, and only one writer at a time may save to a path. Writers of shards to the same folder wait for each other.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count

from ...errors import ArgumentError, LockedError, WriteError
from ...formats import DEFAULT
from ...storage import durable as files
from ...storage import marks
from ...storage.identity import Identity, identity_of, seen_identity_of
from ...storage.locks import WAIT_S, locked
from . import ownership
from .index import INDEX_SUFFIX, is_shard_name, shard_names


def followed(path: str) -> str:
    """Return the path that a save to `path` replaces: the target of a symbolic link."""
    return os.path.realpath(path) if os.path.islink(path) else path


def refuse_impossible(path: str) -> None:
    """Raise ArgumentError or WriteError, before anything is written, if no shards can be saved to a path."""
    name = os.path.basename(path)
    if not is_shard_name(name) or not name.isprintable():
        raise ArgumentError(
            f"{path!r} cannot be saved in shards: the index with their names allows no /, no \\, no characters that "
            f"cannot be printed, and no suffix but {DEFAULT.suffix}. Choose another name, or leave out max_shard_size."
        )
    if os.path.islink(path):
        raise WriteError(f"{path} is a symbolic link that leads back to itself, and nothing was written. Remove it.")
    for target in (path, path + INDEX_SUFFIX):
        try:
            mode = os.stat(target).st_mode
        except OSError:  # nothing is there, or writing the first shard will say what is wrong
            continue
        if not stat.S_ISREG(mode):
            what = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
            raise WriteError(f"{target} is {what}, and nothing was written. Give the name of a file.")


class NewShards:
    """The shards to write. names, paths: in order. index: the bytes of the index, set once the shards are written.

    written, old: the new shards, and the shards to remove once the index is in place. like: the status of a file whose
    owner and mode new ones get.
    """

    def __init__(self, path: str, number: int, number_in_names: int) -> None:
        self.path = path
        self.names = shard_names(path, number, number_in_names)
        self.paths = [os.path.join(os.path.dirname(path), name) for name in self.names]
        self.index = b""
        self.written: dict[str, Identity] = {}
        self.old: dict[str, Identity] = {}
        self.like: os.stat_result | None = None
        self._mark, self._durable = marks.Mark(-1), True

    def begin(self, mark: marks.Mark, durable: bool, like: os.stat_result | None) -> None:
        """Note in a mark what is written and replaced from here on."""
        self._mark, self._durable, self.like = mark, durable, like

    @contextmanager
    def file(self, path: str) -> Iterator[int]:
        """Yield the descriptor of one of the shards, as durable.replace does.

        Raises WriteError if another program has put something at its path meanwhile.
        """
        files.refuse_forked(path, self._mark.process)
        with files.replace(path, self._durable, lambda _: self.like) as descriptor:
            yield descriptor
            if os.path.lexists(path):
                raise WriteError(f"{path} was made by another program during the save. Save again.")
            self._note(path, Identity.of(os.fstat(descriptor)))

    def link(self, earlier: str, path: str) -> bool:
        """Make one of the shards a second name of an earlier file. Return False if that fails."""
        identity = identity_of(earlier)
        if identity is None:
            return False
        self._note(path, identity)
        try:
            os.link(earlier, path)
        except OSError:  # no hard links here, too many links to this file, or the file was removed meanwhile
            return False
        try:
            if identity_of(path) == identity:
                if self._durable:  # its writer may not have flushed it
                    files.flush(path)
                return True
        except OSError:
            pass
        return self.unlink(path)

    def unlink(self, path: str) -> bool:
        """Remove one of the shards again, which is a link. Return False."""
        with suppress(OSError):
            os.unlink(path)
        self.written.pop(os.path.basename(path), None)
        return False

    def replace(self, old: ownership.Files) -> None:
        """Remove shards once the new index is in place."""
        self.old.update(old)
        ownership.note(self._mark, old)

    def _note(self, path: str, identity: Identity) -> None:
        name = os.path.basename(path)
        self.written[name] = identity
        ownership.note(self._mark, {name: identity})


# What this process is writing. A signal handler that saves meanwhile must not use the same names.
_writing: list[NewShards] = []


@contextmanager
def replace_shards(path: str, count: int, durable: bool) -> Iterator[NewShards]:
    """Yield `count` shards to write, which replace the state at `path` if the block succeeds.

    The block writes each shard with `NewShards.file`, then sets the index. durable: as for durable.replace. If anything
    fails, the state at `path` is unchanged, and the shards written so far are removed.
    Raises WriteError, with advice, if the system refuses.
    """
    path = os.path.abspath(path)  # the program may change its working directory while it computes arrays
    with locked(os.path.dirname(path)) as is_locked:
        if is_locked:
            ownership.clear_leftovers(path)
        new = _new_shards(path, count)
        try:
            with marks.marked(path + INDEX_SUFFIX, {}) as mark:
                new.begin(mark, durable, status_to_keep(path))
                yield from _committed(new, mark, durable)
        finally:
            _writing.remove(new)
            for other in _writing:
                if other.path == path:  # interrupted by a signal handler for this one, which it will replace
                    other.replace(new.written)


def _committed(new: NewShards, mark: marks.Mark, durable: bool) -> Iterator[NewShards]:
    try:
        yield new
        files.refuse_forked(new.path, mark.process)
        new.replace(ownership.replaced_shards(new.path))
        plain = _plain_at(new.path)
        with files.replace(new.path + INDEX_SUFFIX, durable, lambda _: new.like) as descriptor:
            files.write_all(descriptor, new.index, 0)
    except BaseException as error:
        named = ownership.named_by(new.path + INDEX_SUFFIX)  # the new shards, if it failed after the rename
        is_set = named is not None and named >= set(new.names)
        if mark.is_own and named is not None and not is_set:
            written = {name: new.written[name] for name in new.written.keys() - named}
            mark.is_settled = ownership.remove_files(new.path, written)
        if isinstance(error, WriteError):
            raise _explained(new.path, error, is_set) from error
        raise
    _remove_plain(new.path, plain, durable)
    mark.is_settled = ownership.remove_unnamed(new.path, new.old)


def status_to_keep(path: str) -> os.stat_result | None:
    """Return the status of the file whose owner and mode a new one gets: the plain file or a shard at `path`."""
    index = None if os.path.exists(path) else ownership.index_at(path)
    shards = sorted(set(index.weight_map.values())) if index else []
    for name in [os.path.basename(path), *shards]:
        with suppress(OSError):
            return os.stat(os.path.join(os.path.dirname(path), name))
    return None


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
    A set of another library stays.
    """
    index_path = path + INDEX_SUFFIX
    wait_s = WAIT_S if os.path.lexists(index_path) else 0  # a writer whose first shards they are clears up itself
    with suppress(LockedError), locked(os.path.dirname(path), wait_s) as is_locked:
        if not os.path.lexists(path):  # a writer of shards came in between
            return
        seen, index = identity_of(index_path), ownership.index_at(path)
        if seen is not None and index is not None:
            with suppress(OSError):  # without its index, no later save would know a shard that cannot be read now
                shards = ownership.own_shards(path, index)
                if index.manifest is not None or shards.keys() == set(index.shards):
                    ownership.remove_set(path, {**shards, os.path.basename(index_path): seen}, durable=False)
        if is_locked:
            ownership.clear_leftovers(path)


def remove_set(path: str, seen: ownership.Files, durable: bool) -> None:
    """Remove a checkpoint in shards. seen: its files when it was last known to be ours, by name."""
    with locked(os.path.dirname(path)):
        index = ownership.index_at(path)
        if index is not None:
            names = {*index.shards, os.path.basename(path) + INDEX_SUFFIX}
            ownership.remove_set(path, {name: identity for name, identity in seen.items() if name in names}, durable)


def clear_leftovers(path: str) -> bool:
    """Remove what dead writers of shards left at a path. Return False if something is left."""
    with locked(os.path.dirname(path)) as is_locked:
        return bool(is_locked) and ownership.clear_leftovers(path)


def _new_shards(path: str, number: int) -> NewShards:
    """Return new shards with free names, the usual ones or names with a number, and add them to `_writing`."""
    # Named, but not there: an index may be copied before its shards.
    named = ownership.named_in(os.path.dirname(path)) or set()
    for number_in_names in count():
        new = NewShards(path, number, number_in_names)
        taken = {path for other in _writing for path in other.paths}
        _writing.append(new)  # before checking the disk: a signal handler may write in between
        if taken.isdisjoint(new.paths) and named.isdisjoint(new.names) and not any(map(os.path.lexists, new.paths)):
            return new
        _writing.remove(new)
    raise AssertionError("unreachable")


def _plain_at(path: str) -> Identity | None:
    """Return the identity of a plain file. Raises WriteError if the system refuses to tell: it may hide the shards."""
    try:
        return seen_identity_of(path)
    except OSError as error:
        raise WriteError(f"{path} could not be looked at: {error.strerror or error}. Check the disk.", error) from error


def _remove_plain(path: str, plain: Identity | None, durable: bool) -> None:
    if plain is None:
        return
    try:
        if seen_identity_of(path) != plain:  # one that came later was saved after this set, and replaces it
            return
        os.unlink(path)
    except FileNotFoundError:
        return
    except OSError as error:
        if not os.path.lexists(path):
            return
        raise _old_is_left(path, (error.strerror or str(error)).lower(), error) from error
    if durable:
        files.flush_folder(path, os.path.dirname(path))
