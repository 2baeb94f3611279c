"""Saving a state to a file and loading it. Sharing, manifest, storage and formats come together here."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, closing
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO

from ..errors import (
    ADVICE_AT_LIMITS,
    ArgumentError,
    CheckpointError,
    FormatError,
    MissingFileError,
    NoCheckpointError,
    ReadError,
    WriteError,
    enough_memory,
)
from ..formats import DEFAULT, Format, format_named, format_of, refuse_read_only, with_layout
from ..formats.recognise import cause_of
from ..reading.header import Header, open_one
from ..reading.lazy import Checkpoint, load_state
from ..reading.reader import Mmap, Reader
from ..state import validation as state
from ..state.expansion import expanded
from ..state.sharing import Packed, pack
from ..state.snapshot import copied_at_once
from ..storage.durable import refuse_forked, replace
from ..storage.identity import MOST_LOOKS
from ..storage.marks import is_marked
from ..storage.source import FileSource
from ..storage.temporary import content_of, unnamed
from .plan import Place, Plan
from .sharding import index, writer
from .sharding.index import INDEX_SUFFIX
from .sharding.reader import ReplacedError, checkpoint_in, open_sharded

if TYPE_CHECKING:
    from ..mapping import Mapping as NameMapping


@enough_memory("the state was not saved", "Free some memory, or give large arrays as Deferred: one is made at a time.")
def save_file(
    state_dict: Mapping[str, Any],
    file: str | os.PathLike[str] | BinaryIO,
    metadata: Mapping[str, str] | None = None,
    *,
    durable: bool = True,
    max_shard_size: int | str | None = None,
    format: str | None = None,
    snapshot: bool = False,
    layout: str | None = None,
    expand: bool = False,
    mapping: NameMapping | None = None,
) -> None:
    """Write a state to a file, completely or not at all. If anything fails, the previous file is unchanged.

    state_dict: arrays (or Tensors) by name, of any dtype in docs/format.md and any strides. Arrays that share memory
    are stored once, and share it again when loaded. A Deferred is computed when it is written, so that a state need not
    fit into memory; an open Checkpoint is copied tensor by tensor. A value named `_extra_state`, or with a name that
    ends in `._extra_state`, may be anything that JSON holds exactly.
    file: a path, whose suffix picks the format: .safetensors, .h5 or .hdf5; or a file open for writing in binary mode.
    format: for an open file, "safetensors" (the default) or "hdf5", or a suffix. metadata: strings by name, see
    `read_metadata`. durable: wait until the data is on the disk, so that even a power cut leaves the old file or the
    new one. max_shard_size: a number of bytes, or text such as "5GB". A state with more bytes of tensors is split into
    several .safetensors files and an index (see sharding/index.py), which replace the previous checkpoint all at once
    and load by the same path.
    snapshot: copy all arrays before anything is written, at one moment: no other Python thread runs during the copy.
    Without it, a file that is saved while other threads change the arrays may hold values of several moments. It is
    valid in any case.
    layout: "keras" writes a `.weights.h5` file that Keras' `load_weights` opens too, from names as Keras gives them.
    expand: write the bytes of shared memory under each of its names, also those of views, for readers that know no
    shared memory, such as a strict `load_state_dict`. Our own load shares the memory again.
    mapping: write the names and layouts that `load_file` with the same mapping turns into these (docs/mapping.md).
    Raises StateError if the state cannot be saved exactly, MappingError if a rule cannot be reversed, WriteError if the
    system refuses, FormatError for an unknown suffix.
    """
    strings = state.checked_metadata(metadata or {})
    pack_state = partial(packed_of, state_dict, snapshot, expand, mapping)
    if isinstance(file, str | os.PathLike):
        path = os.fsdecode(file)
        form = format_of(path)
        refuse_read_only(form, path)
        form = with_layout(form, layout, path)
        if format is not None and format_named(format).name != form.name:
            raise ArgumentError(f"{path} names the format {form.name} by its suffix, not {format}. Leave out format.")
        if max_shard_size is None:
            save_whole(pack_state(), form, strings, path, durable)
        else:
            _save_in_shards(pack_state, form, strings, path, durable, max_shard_size)
    elif max_shard_size is not None:
        raise ArgumentError(
            f"an open file takes no shards: give a path ending in {DEFAULT.suffix}, or no max_shard_size."
        )
    elif hasattr(file, "write"):
        form = format_named(format or DEFAULT.name)
        refuse_read_only(form, "the open file")
        form = with_layout(form, layout, None)
        _save_to_open_file(Plan(pack_state(), form, strings), file)
    else:
        raise ArgumentError(
            f"a state is saved to a path (str or os.PathLike) or to a file open for writing in binary mode, not to "
            f"{type(file).__name__}."
        )


def packed_of(
    state_dict: Mapping[str, Any],
    snapshot: bool = False,
    expand: bool = False,
    mapping: NameMapping | None = None,
) -> Packed:
    """Return a state with every shared byte stored once. Raises StateError naming a value that cannot be saved.

    snapshot: copy the arrays, so that later changes to them do not matter. expand: add copies of shared memory.
    mapping: as for save_file.
    """
    if mapping is not None:
        from ..mapping import rules_of
        from ..mapping.states import pack_unmapped

        packed = pack_unmapped(state_dict, rules_of(mapping), snapshot)
    else:
        packed = state_dict.packed() if isinstance(state_dict, Checkpoint) else pack(*state.checked_state(state_dict))
        packed = copied_at_once(packed)[0] if snapshot else packed
    return expanded(packed) if expand else packed


def save_whole(packed: Packed, form: Format, metadata: dict[str, str], path: str, durable: bool) -> None:
    """Write a state to one file in a format, whatever the suffix of its path."""
    link = os.path.abspath(path)  # the program may change its folder meanwhile
    new = replace(path, durable, writer.status_to_keep if form.shards else None)
    _write(Plan(packed, form, metadata), new)
    if form.shards:
        _remove_shards([link, new.target])


def _save_in_shards(
    state: Callable[[], Packed],
    form: Format,
    metadata: dict[str, str],
    path: str,
    durable: bool,
    max_shard_size: int | str,
) -> None:
    most_bytes = index.most_bytes_of(max_shard_size)
    if not form.shards:
        raise ArgumentError(f"{path} is {form.name}, which has no shards. Save to {DEFAULT.suffix}, or in one file.")
    packed = state()
    parts = index.split(packed, most_bytes)
    if len(parts) < 2:
        save_whole(packed, form, metadata, path, durable)
    else:
        save_parts(packed, parts, metadata, path, durable)


def save_parts(
    packed: Packed,
    parts: list[Packed],
    metadata: dict[str, str],
    path: str,
    durable: bool,
    linked: Callable[[writer.NewShards, int], dict[str, str] | None] = lambda new, number: None,
) -> None:
    """Write a state in shards with an index. parts: the content of each shard.

    linked: makes one of the shards a link to an earlier file. It returns the digests of its tensors, or None if the
    shard must be written.
    """
    target, is_link = writer.followed(path), os.path.islink(path)
    link = os.path.abspath(path)
    writer.refuse_impossible(target)
    form, strings = format_of(target), index.shard_metadata(target)
    plans = [Plan(part, form, strings, packed) for part in parts]
    digests: dict[str, str] = {}
    written: dict[str, Place] = {}
    with writer.replace_shards(target, len(plans), durable) as new:
        for number, (plan, shard) in enumerate(zip(plans, new.paths, strict=True)):
            found = linked(new, number)
            digests |= _write(plan, new.file(shard), written) if found is None else found
            written |= {name: Place(shard, offset) for name, offset in plan.offsets.items()}
        new.index = index.index_text(packed, metadata, digests, dict(zip(new.names, parts, strict=True)))
    if is_link:
        _remove_shards([link])


def _remove_shards(paths: list[str]) -> None:
    """Remove the shards that a save has replaced or a killed one left, of a symbolic link and of its target."""
    for path in dict.fromkeys(paths):
        if os.path.lexists(path + INDEX_SUFFIX) or is_marked(path + INDEX_SUFFIX):
            writer.remove_shards(path)


def write_shard(part: Packed, target: str, shard: AbstractContextManager[int]) -> dict[str, str]:
    """Write a part of the state at `target` to one of `NewShards`. Return the digest of each tensor."""
    return _write(Plan(part, DEFAULT, index.shard_metadata(target)), shard)


def _write(
    plan: Plan, opened: AbstractContextManager[int], elsewhere: Mapping[str, Place] | None = None
) -> dict[str, str]:
    """Write a file that is open for writing. Return the digest of each tensor."""
    with opened as descriptor:
        return plan.write(descriptor, elsewhere)


def _save_to_open_file(plan: Plan, file: BinaryIO) -> None:
    """Write from the current position, which may be in a pipe.

    The digests come early in a file, so it is written to a temporary file first, and copied from there.
    """
    import tempfile  # only such a save needs it

    folder, process = "a folder", os.getpid()
    try:
        folder = tempfile.gettempdir()
        with unnamed(folder) as descriptor:
            plan.write(descriptor)
            folder = ""
            for content in content_of(descriptor):
                refuse_forked("the open file", process)
                _write_whole(file, content)
            refuse_forked("the open file", process)  # a child does not have the temporary file
        file.flush()
    except OSError as error:
        if isinstance(error, CheckpointError):
            raise
        refuse_forked("the open file", process)
        reason = error.strerror or error
        if folder:
            advice = "Free some space there, or set the environment variable TMPDIR to another folder."
            advice = ADVICE_AT_LIMITS.get(error.errno or 0, advice)
            raise WriteError(
                f"the state could not be written to a temporary file in {folder}: {reason}. {advice}", error
            ) from error
        raise WriteError(
            f"the state could not be written: {reason}. Check the disk or pipe that it writes to.", error
        ) from error


def _write_whole(file: BinaryIO, content: bytes) -> None:
    """Write all of the content. A file without a buffer may take only a part at a time."""
    memory = memoryview(content)
    while memory:
        count = file.write(memory)
        if count is None:
            raise WriteError("the state could not be written: the file does not take more at once. Open it blocking.")
        if not count:
            raise WriteError("the state could not be written: the file takes no more bytes. Free some space.")
        memory = memory[count:]


def open_header(file: Any, dequantize: bool = False) -> Header:
    """Read and check the header of anything that source_of() takes. The result is a context manager that closes it.

    A path may also lead to an index or a folder, or be the path that a sharded checkpoint was saved to. dequantize: as
    for load_file.
    Raises MissingFileError, FormatError, CorruptError or another CheckpointError.
    """
    if not isinstance(file, str | os.PathLike):
        return open_one(file, None, dequantize)
    path = os.fsdecode(file)
    # A writer may replace a file by shards, or shards by a file, each time that this looks.
    for looks_left in range(MOST_LOOKS, -1, -1):
        try:
            return open_one(path, _format_to_read(path), dequantize)
        except MissingFileError:
            if not looks_left:  # the file is there, and a file that its codec needs is not
                raise
            if not _is_saved(path):
                target = os.path.realpath(path)
                if not (os.path.islink(path) and _is_saved(target)):
                    _refuse_parts(path)
                    raise
                path = target  # which may be in shards
                continue
        except (FormatError, ReadError) as error:
            if os.path.isdir(path):
                path = checkpoint_in(path)
                continue
            if not path.endswith(INDEX_SUFFIX):
                if not os.path.lexists(path):
                    _refuse_parts(path)
                    raise NoCheckpointError(f"{error} There is no file of that name either.") from error
                raise
        if (header := open_sharded(path)) is not None:
            return header
    raise ReadError(f"{path} was replaced each time while it was opened. Try again.")


def _format_to_read(path: str) -> Format:
    """Return the format of the suffix of a path. Raises FormatError, which says what the file is, if it is unknown."""
    try:
        form = format_of(path)
        if form.name == "torch" and os.path.isfile(path):  # core.save may have written it
            with closing(FileSource(path)) as source:
                form = DEFAULT if DEFAULT.codec.matches(source) else form
        return form
    except FormatError as error:
        if path.endswith(INDEX_SUFFIX) or not os.path.isfile(path):
            raise
        with closing(FileSource(path)) as source:
            raise FormatError(f"{error} {cause_of(source)}") from error


def _refuse_parts(path: str) -> None:
    """Raise FormatError if there are files of another framework whose names start with a path where there is none."""
    from ..formats.unread import text_of_parts  # only an error needs it

    if (unread := text_of_parts(path)) is not None:
        raise FormatError(f"{path} {unread}")


def _is_saved(path: str) -> bool:
    """Return True if a file or an index of shards is at `path`, in one look: a writer may replace one by the other."""
    folder, name = os.path.split(path)
    try:
        with os.scandir(folder or os.curdir) as entries:
            return any(entry.is_file() for entry in entries if entry.name in (name, name + INDEX_SUFFIX))
    except OSError:
        return False


@enough_memory("the checkpoint was not opened", "Free some memory.")
def open_checkpoint(file: Any, *, verify: bool = True, dequantize: bool = False) -> Checkpoint:
    """Open a checkpoint and return it as a mapping of names to lazy tensors. Only the header is read.

    file: a path, the index or the folder of a sharded checkpoint, bytes, or a file open for reading in binary mode.
    verify: check each block of a tensor against its digest when it is first read. A slice reads and checks only the
    blocks that it touches. dequantize: as for load_file; a tensor is computed when it is read.
    A checkpoint opened by its path can be pickled: the other process opens the path again.
    Raises MissingFileError, CorruptError or another CheckpointError.

        with open_checkpoint("model.safetensors") as checkpoint:
            checkpoint["layers.0.weight"][10:20, ::2]
    """
    header = open_header(file, dequantize)
    again = None
    if isinstance(file, str | os.PathLike):
        again = partial(open_checkpoint, os.path.abspath(header.name), dequantize=dequantize)
    return Checkpoint(Reader(header, verify), again)


@enough_memory("the file was not loaded", "Load it with mmap=True, or read some tensors with open_checkpoint.")
def load_file(
    file: Any,
    *,
    mmap: Mmap = False,
    verify: bool = True,
    skip_unsupported: bool = False,
    dequantize: bool = False,
    mapping: NameMapping | None = None,
) -> dict[str, Any]:
    """Load the state in a file: arrays by name, in the order and with the sharing that they were saved with.

    file: a path, the index or the folder of a sharded checkpoint, bytes, or a file open for reading in binary mode.
    mmap: False returns new, writable arrays. True (or "r") returns read-only arrays backed by the file. "c" returns
    writable (copy-on-write) arrays, whose changes stay in memory. While the arrays are in use, save_file may replace
    the file, but nothing may truncate it or overwrite it in place. Compressed tensors are always new arrays.
    verify: check every byte against the digests in the file (foreign files have none).
    skip_unsupported: leave out the entries that cannot be read, such as text in an HDF5 file; `inspect` lists them.
    dequantize: return the quantised tensors of a GGUF file as float32, instead of listing them as unsupported.
    mapping: rules that change the names and layouts in the file (docs/mapping.md). What they ignore is not read.
    Raises MissingFileError, MappingError, CorruptError naming the damaged tensors, UnsupportedTypeError listing the
    entries that cannot be read, or another CheckpointError.
    """
    if mmap not in (False, True, "r", "c"):
        raise ArgumentError(f'mmap is False, True, "r" or "c", not {mmap!r}.')
    for looks_left in range(MOST_LOOKS, -1, -1):
        reader = Reader(open_header(file, dequantize), verify)
        try:
            return _loaded(reader, mmap, skip_unsupported, mapping)
        except ReplacedError:  # one of many shards, which do not all stay open
            if not looks_left:
                raise
        finally:
            reader.close()
    raise AssertionError("unreachable")


def _loaded(reader: Reader, mmap: Mmap, skip_unsupported: bool, mapping: NameMapping | None) -> dict[str, Any]:
    if mapping is None:
        return load_state(reader, mmap, skip_unsupported)
    from ..mapping import rules_of
    from ..mapping.states import load_mapped

    return load_mapped(Checkpoint(reader), rules_of(mapping), mmap, skip_unsupported=skip_unsupported)


def read_metadata(file: Any) -> dict[str, str]:
    """Return the metadata that a file was saved with, or the strings of a foreign file. No tensor is read.

    file: as for load_file. Raises MissingFileError, CorruptError or another CheckpointError.
    """
    with open_header(file) as header:
        return header.metadata
