"""Opening a sharded checkpoint: its shards together have one header, as if they were one file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import NoReturn

from ...errors import CheckpointError, CorruptError, FormatError, MissingFileError, ReadError
from ...formats import DEFAULT, Format, format_of, is_shardable, known_formats, written_formats
from ...formats.entries import MANIFEST
from ...reading.header import Header, Part
from ...state.manifest import Manifest, TensorSpec
from ...state.parsing import parse
from ...storage.identity import MOST_LOOKS, Identity
from ...storage.source import FileSource
from .index import INDEX_SUFFIX, Index, is_numbered, is_shard_of, load_index, read_index, set_of

# Systems allow a process a few hundred open files. Up to this number, shards stay open from the start, so that they may
# be replaced meanwhile.
_MOST_OPEN = 64
_MOST_NAMED = 10


def open_sharded(path: str) -> Header | None:
    """Return the header of a sharded checkpoint. path: that of the index, or the path that the state was saved to.

    Return None if a saved state has no index: a plain file may have replaced it meanwhile.
    Raises MissingFileError naming the missing index or shards, CorruptError, or another CheckpointError.
    """
    if not path.endswith(INDEX_SUFFIX):
        return _open_sharded(path + INDEX_SUFFIX)
    while (header := _open_sharded(path)) is None:
        read_index(path)  # raises MissingFileError, unless it is there by now
    return header


def checkpoint_in(folder: str) -> str:
    """Return the path of the only checkpoint in a folder. If there is an index, other files do not count.

    Raises ReadError listing the checkpoints in the folder if there is not exactly one, or if shards have no index.
    """
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise ReadError(
            f"{folder} is a folder that cannot be read: {(error.strerror or str(error)).lower()}. Check its "
            "permissions, or give the path of a checkpoint file.",
            error,
        ) from error
    # A plain file takes precedence over an index with its name, as in Hugging Face's libraries.
    indexes = [n for n in names if n.endswith(INDEX_SUFFIX) and is_shardable(n.removesuffix(INDEX_SUFFIX))]
    files = _files_of(written_formats(), names) or _files_of(known_formats(), names)
    found = [name.removesuffix(INDEX_SUFFIX) for name in indexes]
    if not found:
        plain = [name for name in files if not is_numbered(name)]
        # A killed save over a plain file may have left shards next to it.
        shards = [name for name in files if is_numbered(name) and not any(is_shard_of(file, name) for file in plain)]
        found = plain + shards
        if shards and (set_of(shards[0]) or (0, 0, 0))[2] > 1:
            _refuse_without_index(folder, shards, plain)
    if len(found) == 1:
        return os.path.join(folder, found[0])
    if not found:
        _refuse_unread(folder, names)
    known = f"It holds {len(found):,}: " + ", ".join(found[:_MOST_NAMED]) if found else "It holds none"
    raise ReadError(f"{folder} is a folder. Give the path of a checkpoint file. {known}.")


def _files_of(forms: Iterable[Format], names: list[str]) -> list[str]:
    suffixes = {suffix for form in forms for suffix in form.suffixes}
    return [name for name in names if os.path.splitext(name)[1].lower() in suffixes]


def _refuse_unread(folder: str, names: list[str]) -> None:
    """Raise FormatError if a folder is a checkpoint of another framework that is not read."""
    from ...formats.unread import text_by_members  # only an error needs it

    if (unread := text_by_members(folder, names)) is not None:
        raise FormatError(f"{folder} {unread}")


def _refuse_without_index(folder: str, shards: list[str], plain: list[str]) -> NoReturn:
    """Raise ReadError for shards without an index that lists their tensors."""
    stem, suffix, count = set_of(shards[0]) or ("", "", 0)
    there = [name for name in shards if set_of(name) == (stem, suffix, count)]
    beside = f" Next to them: {', '.join(plain[:_MOST_NAMED])}." if plain else ""
    raise ReadError(
        f"{folder} holds {len(there):,} of {count:,} shards ({', '.join(there[:_MOST_NAMED])}"
        f"{', ...' if len(there) > _MOST_NAMED else ''}) and no index that says what they hold.{beside} Download or "
        f"copy {stem}{suffix}{INDEX_SUFFIX} and all shards into the folder, or give the path of one file."
    )


def _open_sharded(path: str) -> Header | None:
    """Return the header of the checkpoint whose index is at `path`, or None if there is no index, or not any more."""
    for _ in range(MOST_LOOKS):
        seen = _identity_of(path)
        try:
            return _header(path, load_index(path))
        except CheckpointError:
            now = _identity_of(path)
            if now is None:
                return None
            if now == seen:  # otherwise it was replaced while its shards were opened
                raise
    raise ReadError(f"{path} was replaced each time while it was opened. Try again.")


def _identity_of(path: str) -> Identity | None:
    """Return the identity of a file, or of the target of a link. Return None if there is none."""
    try:
        return Identity.of(os.stat(path))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:  # load_index() will say what is wrong
        return Identity(0, 0, 0, 0)


def _header(path: str, index: Index) -> Header:
    _refuse_missing(path, index)
    _refuse_unnamed(path, index)
    parts: list[Part] = []
    try:
        for name in index.shards:
            parts.append(_part(os.path.join(os.path.dirname(path), name), len(index.shards)))
        tensors = _tensors(path, index, parts)
        if index.manifest is None:
            return _foreign(path, index, parts, tensors)
        manifest, metadata = _manifest(path, index, tensors)
        _refuse_other_saves(path, parts, manifest.digests_in_file(tensors))
        return Header(path, _format_of(index), parts, manifest.stored(tensors), manifest, metadata, {})
    except BaseException:
        for part in parts:
            part.source.close()
        raise


def _manifest(path: str, index: Index, tensors: dict[str, TensorSpec]) -> tuple[Manifest, dict[str, str]]:
    """Parse the manifest of an index. Return it with the user's metadata. Raises CorruptError if it does not fit."""
    assert index.manifest is not None
    try:
        # Its seal says nothing of the shards: what the manifest says of them is always compared.
        return parse(index.manifest, tensors, index.metadata, path)
    except CorruptError as error:
        raise CorruptError(
            f"the manifest in {path} does not fit the index and its shards ({error.__cause__ or error}). Another "
            "program may have changed one of them since they were saved, or one of them is damaged. Use files that "
            f"were saved together. To load the shards as they are, checked against their own digests, remove the entry "
            f"{MANIFEST!r} from the metadata of the index: ties, views and extra state are lost then.",
            error.tensors,
        ) from error


def _format_of(index: Index) -> str:
    return next((format_of(name).name for name in index.shards), DEFAULT.name)


def _refuse_unnamed(path: str, index: Index) -> None:
    """Raise CorruptError if the folder holds a shard that belongs to the index by its name but is not in it."""
    sets = {set_of(name) for name in index.shards} - {None}
    if not sets or all(len(index.shards) >= count for _, _, count in filter(None, sets)):
        return
    try:
        names = sorted(os.listdir(os.path.dirname(path) or os.curdir))
    except OSError:
        return
    unnamed = [name for name in names if set_of(name) in sets and name not in index.shards]
    if unnamed:
        more = ", ..." if len(unnamed) > _MOST_NAMED else ""
        raise CorruptError(
            f"{path} does not name {', '.join(map(repr, unnamed[:_MOST_NAMED]))}{more}, which by the file names belong "
            f"to the same checkpoint as the {len(index.shards):,} shards that it names. It would load only in part. "
            "Use the index that was saved with the shards, or move the other shards to another folder."
        )


def _refuse_missing(path: str, index: Index) -> None:
    folder = os.path.dirname(path)
    missing = [name for name in index.shards if not os.path.exists(os.path.join(folder, name))]
    if missing:
        more = ", ..." if len(missing) > _MOST_NAMED else ""
        raise MissingFileError(
            f"{len(missing):,} of the {len(index.shards):,} files that {path} names are missing: "
            f"{', '.join(map(repr, missing[:_MOST_NAMED]))}{more}. Download or copy them into the folder of the index."
        )


def _part(path: str, shards: int) -> Part:
    source = FileSource(path) if shards <= _MOST_OPEN else _Reopened(path)
    try:
        opened = format_of(path).codec.open_source(source)
        if opened.manifest is None:
            return Part(source, opened, None)
        manifest, _ = parse(opened.manifest, opened.tensors, opened.metadata, path, opened.is_sealed)
        return Part(source, opened, manifest)
    except BaseException:
        source.close()
        raise


def _tensors(path: str, index: Index, parts: Sequence[Part]) -> dict[str, TensorSpec]:
    """Return the tensors of all shards in order. Raises CorruptError unless they are the ones that the index lists."""
    tensors: dict[str, TensorSpec] = {}
    expected: dict[str, set[str]] = {name: set() for name in index.shards}
    for tensor, shard in index.weight_map.items():
        expected[shard].add(tensor)
    for names, part in zip(expected.values(), parts, strict=True):
        tensors |= part.opened.tensors
        listed = part.opened.tensors if part.opened.names is None else part.opened.names
        found = {*listed, *part.opened.unsupported}
        if names != found:
            lacking, further = sorted(names - found), sorted(found - names)
            what = f"does not have {lacking[0]!r:.200}" if lacking else f"also has {further[0]!r:.200}"
            raise CorruptError(
                f"{part.source.name} does not hold the tensors that {path} lists: it {what}. One of the two may belong "
                "to another checkpoint. Use files that were saved together.",
                (*lacking, *further),
            )
    return tensors


def _refuse_other_saves(path: str, parts: Sequence[Part], digests: dict[str, str]) -> None:
    """Raise CorruptError if the digests of shards differ from those in the index: they come from another save."""
    other: list[str] = []
    for _, opened, manifest in parts:
        if manifest is not None:
            pairs = zip(opened.tensors, manifest.digests, strict=True)
            other += [name for name, digest in pairs if digests[name] != digest]
    if other:
        lines = "".join(f"\n  {name!r:.200}" for name in other)
        raise CorruptError(
            f"{path} and the files that it names are not from one save: these tensors have different digests.{lines}\n"
            "Files of two checkpoints may have been copied or downloaded into one folder. Use files that were saved "
            "together.",
            tuple(other),
        )


def _foreign(path: str, index: Index, parts: Sequence[Part], tensors: dict[str, TensorSpec]) -> Header:
    """Return the header of an index that another library wrote. Our shards are checked against their own digests."""
    digests: dict[str, str] = {}
    for source, opened, manifest in parts:
        if manifest is not None:
            digests.update(zip(opened.tensors, manifest.digests, strict=True))
            if list(manifest.names) != list(opened.tensors):
                raise FormatError(
                    f"{source.name} holds ties, views or extra state, which {path} does not describe. Load it on its "
                    "own."
                )
    named = index.metadata.items()
    ties = {name: kept for name, kept in named if kept in tensors and name not in tensors}
    metadata = {key: value for key, value in named if key not in ties}
    return Header(path, _format_of(index), list(parts), tensors, None, metadata, ties, digests)


class ReplacedError(ReadError):
    """A shard that is gone since the checkpoint was opened. The checkpoint at the path is another one now."""


class _Reopened:
    """A file that is opened for each read, because too many would be open at once otherwise."""

    def __init__(self, path: str) -> None:
        self.name = path
        with closing(FileSource(path)) as source:
            self.size_bytes, self.identity = source.size_bytes, source.identity

    @contextmanager
    def _opened(self) -> Iterator[FileSource]:
        try:
            source = FileSource(self.name)
        except MissingFileError:
            raise self._replaced() from None
        with closing(source):
            if source.identity != self.identity:
                raise self._replaced()
            yield source

    def _replaced(self) -> ReplacedError:
        return ReplacedError(f"{self.name} was replaced after the checkpoint was opened. Open it again.")

    def read_into(self, offset: int, *buffers: memoryview) -> None:
        """Fill contiguous buffers, one after the other, from an offset. Raises EOFError if there are too few bytes."""
        with self._opened() as source:
            source.read_into(offset, *buffers)

    def read(self, offset: int, size_bytes: int) -> bytes:
        """Return `size_bytes` bytes from an offset. Raises EOFError if there are fewer."""
        with self._opened() as source:
            return source.read(offset, size_bytes)

    def copy_to(self, descriptor: int, offset: int, size_bytes: int, place: int) -> int:
        """Copy bytes within the system, as FileSource does."""
        with self._opened() as source:
            return source.copy_to(descriptor, offset, size_bytes, place)

    def memory(self, copy_on_write: bool) -> memoryview:
        """Return the file mapped into memory, which keeps a descriptor of its own."""
        with self._opened() as source:
            return source.memory(copy_on_write)

    def close(self) -> None:
        """Do nothing: nothing is open."""
