"""Changing metadata, names or tensors of a checkpoint. The bytes of all other tensors are copied as they are."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from ...errors import ArgumentError, FormatError, enough_memory, nearest
from ...files import open_header, packed_of, save_file, save_parts
from ...files.sharding.index import INDEX_SUFFIX
from ...files.sharding.writer import NewShards
from ...formats import format_of, is_shardable, layout_of, written_formats
from ...reading.header import Part
from ...reading.reader import Reader
from ...state.manifest import VERSION, specs_of
from ...state.sharing import Packed
from ...state.validation import checked_metadata
from ...storage.source import FileLike
from ...storage.streams import Unchanged
from .edited import Edited, Edits


@enough_memory("the checkpoint was not edited", "Free some memory.")
def edit(
    path: Any,
    *,
    metadata: Mapping[str, str | None] | None = None,
    rename: Mapping[str, str] | None = None,
    drop: Iterable[str] = (),
    replace: Mapping[str, Any] | None = None,
    to: str | os.PathLike[str] | None = None,
    durable: bool = True,
) -> None:
    """Change metadata, names or tensors of a checkpoint, completely or not at all.

    path: a file, or the index or the folder of a sharded checkpoint; with `to`, any file as for load_file. metadata:
    entries to set; None removes an entry. rename: new names by old names; a renamed tensor keeps its place in the
    order. drop: the names to leave out. replace: new values by name (the name in the file), as for save_file; dtype and
    shape may change. to: a path to write the result to, whose suffix picks the format; without it, the checkpoint at
    `path` is replaced. durable: as for save_file.

    The result is what save_file would write for the changed state. Ties, views and extra state are kept, and an
    expanded file stays expanded. A tensor that shares memory can be replaced only together with all names that share
    it, which stay tied if they are given the same array. If the stored name of a tie is dropped, the tensor is stored
    under the next one.

    The bytes of other tensors are copied by the system, which may share their blocks on the disk, and their digests are
    copied too. They are not read, so a damaged tensor stays damaged and its digest still shows it. Tensors are read and
    checked only if the file has no digests of their blocks, if names that shared their memory are dropped, or for .npz.
    Of a sharded checkpoint, only the index and the shards with changed tensors are written.

    Raises UnknownTensorError for unknown names, ArgumentError listing all other problems, StateError if the result
    cannot be saved, CorruptError if a tensor that is read is damaged, WriteError or another CheckpointError; nothing is
    changed in these cases.
    """
    if to is None and not isinstance(path, str | os.PathLike):
        raise ArgumentError(f"edit() replaces a file by its path. Give `to` to edit {type(path).__name__}.")
    reader = Reader(open_header(path), verify=True)
    try:
        strings = _edited_metadata(reader.header.metadata, metadata or {}, reader.header.name)
        edits = Edits.checked(rename, drop, replace)
        edited = Edited(reader, edits)
        home = reader.header.name.removesuffix(INDEX_SUFFIX)
        target = home if to is None else os.fsdecode(to)
        if to is None and not (form := format_of(home)).writes:
            suffixes = ", ".join(written.suffix for written in written_formats())
            raise FormatError(
                f"{home} is {form.name}, which is read but not written. "
                f"Give `to`, a path that ends in one of {suffixes}."
            )
        if reader.header.name != home and is_shardable(target):
            _save_in_shards(edited, edits, reader, strings, target, durable)
        else:
            layout = layout_of(format_of(target), reader.header.parts[0].source) if to is None else None
            is_expanded = bool(reader.header.copies)
            save_file(edited, target, strings, durable=durable, expand=is_expanded, layout=layout)
    finally:
        reader.close()


def _edited_metadata(before: Mapping[str, str], changes: Mapping[str, str | None], path: str) -> dict[str, str]:
    """Return the metadata with the changes. Raises ArgumentError for an entry to be removed that is not there."""
    if not isinstance(changes, Mapping):
        raise ArgumentError(f"metadata is a dict of strings, or None for entries to remove, not {changes!r:.60}.")
    nears = {key: nearest(str(key), before) for key, value in changes.items() if value is None and key not in before}
    if nears:
        advice = "read_metadata(file) lists the entries."
        raise ArgumentError(
            "\n".join(
                f"there is no metadata {key!r} in {path}, so it cannot be removed. "
                + (f"Did you mean {near!r}?" if near else advice)
                for key, near in nears.items()
            )
        )
    merged = {**before, **changes}
    return checked_metadata({key: value for key, value in merged.items() if value is not None})


def _save_in_shards(
    edited: Edited, edits: Edits, reader: Reader, metadata: dict[str, str], path: str, durable: bool
) -> None:
    """Write a sharded checkpoint with the same division into shards. Shards without changes become links."""
    is_expanded, shards = bool(reader.header.copies), reader.header.parts
    packed = packed_of(edited, expand=is_expanded)
    parts, numbers = _divided(packed, edits, shards)
    if len(parts) < 2:
        save_file(edited, path, metadata, durable=durable, expand=is_expanded)
        return
    is_in_place = os.path.realpath(path) == os.path.realpath(reader.header.name.removesuffix(INDEX_SUFFIX))

    def linked(new: NewShards, number: int) -> dict[str, str] | None:
        shard = shards[numbers[number]]
        digests = None if is_expanded else _digests_if_unchanged(parts[number], shard)
        if not is_in_place or digests is None or not new.link(shard.source.name, new.paths[number]):
            return None
        if new.written[new.names[number]] == cast(FileLike, shard.source).identity:
            return digests
        new.unlink(new.paths[number])  # another file is there since the checkpoint was opened
        return None

    save_parts(packed, parts, metadata, path, durable, linked)


def _divided(packed: Packed, edits: Edits, shards: Sequence[Part]) -> tuple[list[Packed], list[int]]:
    """Divide the stored tensors into shards as before. Return the content of each shard, and its number before.

    A tensor that was not stored before, or that comes later in the order, goes with the one before it.
    """
    kept = [(name, n) for n, shard in enumerate(shards) for name in shard.opened.tensors if name not in edits.drop]
    by_name = {edits.renamed(name): n for name, n in kept}
    by_source = {id(shard.source): n for n, shard in enumerate(shards)}
    parts: list[Packed] = []
    numbers: list[int] = []
    for name, array in packed.in_file.items():
        number = by_source[id(array.source)] if isinstance(array, Unchanged) else by_name.get(name)
        if not parts or (number is not None and number > numbers[-1]):
            parts.append(Packed([], {}))
            numbers.append(number or 0)
        parts[-1].names.append(name)
        parts[-1].stored[name] = array
    return parts, numbers


def _digests_if_unchanged(part: Packed, shard: Part) -> dict[str, str] | None:
    """Return the digests of the tensors of a shard, or None unless it is just what a file would be written with."""
    tensors = specs_of(part.stored)
    if list(tensors.items()) != list(shard.opened.tensors.items()) or shard.manifest is None:
        return None
    arrays = [array for array in part.stored.values() if isinstance(array, Unchanged) and array.source is shard.source]
    if len(arrays) < len(tensors) or shard.manifest.version != VERSION:
        return None
    return dict(zip(tensors, shard.manifest.digests, strict=True))
