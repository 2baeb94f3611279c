"""Which files of a sharded checkpoint are ours, and their removal.

A shard is ours if its header has our manifest and names the index, or if a mark of its writer notes it (see marks.py).
Shards of another library are removed only where a sharded save replaces the index that names them, and only if they are
named after it. What is removed must also have the identity that it had: if another file has taken its place meanwhile,
it stays. So does a shard that any index in the folder names. While one of them cannot be read, everything stays, and so
does the mark that notes it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import closing, suppress
from typing import Any

from ...errors import CheckpointError, MissingFileError, WriteError
from ...formats import format_of
from ...storage import marks, temporary
from ...storage.durable import flush_folder
from ...storage.identity import Identity, identity_of, seen_identity_of
from ...storage.source import FileSource
from .index import (
    INDEX_SUFFIX,
    Index,
    is_shard_name,
    is_shard_of,
    load_index,
    shard_metadata,
)

Files = Mapping[str, Identity]


def index_at(path: str) -> Index | None:
    """Return the index of the checkpoint at `path`. Return None if it is missing or cannot be read."""
    if not os.path.lexists(path + INDEX_SUFFIX):  # much faster than the error below
        return None
    try:
        return load_index(path + INDEX_SUFFIX)
    except CheckpointError:
        return None


def named_by(index_path: str) -> set[str] | None:
    """Return the shards that an index names, an empty set if it is missing, or None if it cannot be read."""
    try:
        return set(load_index(index_path).shards)
    except MissingFileError:
        return set()
    except CheckpointError:
        return None


def named_in(folder: str) -> set[str] | None:
    """Return the shards that the indexes in a folder name. Return None if one of them cannot be read."""
    named: set[str] = set()
    try:
        for name in os.listdir(folder):
            if name.endswith(INDEX_SUFFIX):
                shards = named_by(os.path.join(folder, name))
                if shards is None:
                    return None
                named |= shards
    except OSError:
        return None
    return named


def own_shards(path: str, index: Index) -> dict[str, Identity]:
    """Return the shards of a checkpoint that prove to be ours by their headers.

    Raises OSError if the system refuses to tell.
    """
    found = {name: _identity_of_own(path, name) for name in index.shards}
    return {name: identity for name, identity in found.items() if identity is not None}


def replaced_shards(path: str) -> dict[str, Identity]:
    """Return the shards of the index at `path`, which is about to be replaced: ours, and those named after it.

    Raises WriteError if the system refuses to tell: they would never be removed.
    """
    folder = os.path.dirname(path)
    try:
        index = load_index(path + INDEX_SUFFIX)
        found = {name: seen_identity_of(os.path.join(folder, name)) for name in index.shards if is_shard_of(path, name)}
        found |= {name: _identity_of_own(path, name) for name in index.shards if name not in found}
    except OSError as error:
        if isinstance(error, MissingFileError):
            return {}
        raise WriteError(f"{path} has shards that cannot be looked at: {error}. Check the disk.", error) from error
    except CheckpointError:  # not an index
        return {}
    return {name: identity for name, identity in found.items() if identity is not None}


def _identity_of_own(path: str, name: str) -> Identity | None:
    shard = os.path.join(os.path.dirname(path), name)
    seen = seen_identity_of(shard)
    if seen is None:
        return None
    try:
        with closing(FileSource(shard)) as source:
            opened, status = format_of(name).codec.open_source(source), os.fstat(source.descriptor)
    except (CheckpointError, OSError) as error:
        if isinstance(error, OSError) and not isinstance(error, MissingFileError):
            raise
        return None
    is_ours = opened.manifest is not None and shard_metadata(path).items() <= opened.metadata.items()
    return seen if is_ours and Identity.of(status) == seen else None


def note(mark: marks.Mark, files: Files) -> None:
    """Note in a mark files that are to be removed if this process dies, unless an index names them then."""
    for name, identity in files.items():
        mark.add({"name": name, "identity": identity})


def remove_unnamed(path: str, files: Files) -> bool:
    """Remove files next to `path` that no index names. Return False if some stay that are to be removed later."""
    files = dict(files)  # before the indexes are read: a signal handler may save another set, and add it to the files
    named = named_in(os.path.dirname(path)) if files else set()
    return named is not None and remove_files(path, {name: files[name] for name in files.keys() - named})


def remove_files(path: str, files: Files) -> bool:
    """Remove files next to `path`, unless others have taken their places. Return False if the system refuses one."""
    is_done = True
    for name, identity in files.items():
        file = os.path.join(os.path.dirname(path), name)
        try:
            marks.remove_marked(path + INDEX_SUFFIX, file, identity)
        except OSError:
            is_done = identity_of(file) != identity and is_done
    return is_done


def remove_set(path: str, files: Files, durable: bool) -> None:
    """Remove a checkpoint, the index first: without it, the shards are no longer a checkpoint.

    files: the index and the shards to remove, by name. If the index is another file by now, nothing is removed.
    durable: after a power cut too, there is no index without its shards.
    """
    index_path = path + INDEX_SUFFIX
    shards = dict(files)
    index = shards.pop(os.path.basename(index_path), None)
    if index is None:
        return
    with suppress(OSError), marks.marked(index_path, {}) as mark:
        note(mark, shards)
        if marks.remove_marked(index_path, index_path, index):
            if durable:
                flush_folder(path, os.path.dirname(path))
            mark.is_settled = remove_unnamed(path, shards)


def clear_leftovers(path: str) -> bool:
    """Remove what dead writers of shards noted in their marks, and their temporary files. Return False if some stay."""
    is_done = True
    for dead, lines in marks.dead_marks(path + INDEX_SUFFIX):
        noted = dict(file for line in lines for file in _noted(line))
        if remove_unnamed(path, noted):
            temporary.remove_dead(dead)
        else:
            is_done = False
    temporary.remove_leftovers(os.path.dirname(path))
    return is_done


def _noted(line: dict[str, Any]) -> list[tuple[str, Identity]]:
    """Return the file that a line of a mark notes, or nothing."""
    name, identity = line.get("name"), line.get("identity")
    if not (isinstance(identity, list) and len(identity) == 4 and all(type(part) is int for part in identity)):
        return []
    return [(name, Identity(*identity))] if isinstance(name, str) and is_shard_name(name) else []
