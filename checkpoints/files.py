"""Saving a state to a file and loading it: what joins sharing, manifest, bytes and formats."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from . import dtypes, durable, state, streams
from .errors import ArgumentError, CheckpointError, CorruptError, FormatError, MissingFileError, ReadError
from .formats import Opened, format_of
from .manifest import Manifest, Tensor, parse
from .sharing import Alias, Packed, pack, unpack


def save_file(
    state_dict: Mapping[str, Any], path: str | os.PathLike[str], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a state to path, whole or not at all; what was there before stays if anything fails.

    state_dict: arrays (or Tensors) by name, of any dtype in docs/format.md and any strides; those that share memory are
    stored once and load sharing it. Values named `_extra_state`, or so after a dot, may be anything JSON holds exactly.
    path: its suffix picks the format: .safetensors, .h5 or .hdf5. metadata: strings by name, see `read_metadata`.
    Raises StateError for what cannot be kept, WriteError if the system refuses, FormatError for another suffix.
    """
    path = path_text(path)
    form = format_of(path)
    strings = state.checked_metadata(metadata or {})
    packed = pack(*state.checked_state(state_dict))
    tensors = {name: Tensor(dtypes.name_of(a.dtype, name), a.shape) for name, a in packed.stored.items()}
    blank = Manifest.of(packed, strings)
    with durable.replace(path) as file:
        layout = form.lay_out(file, tensors, packed.aliases, strings, blank.text(strings))
        digests = dict.fromkeys(tensors, "")
        for name, offset in sorted(layout.offsets.items(), key=lambda item: item[1]):
            if file.tell() != offset:
                file.seek(offset)
            digests[name] = streams.write_array(file, packed.stored[name])
        manifest = blank.with_digests(tensors, digests.values())
        offset, content = layout.seal(manifest.text(strings))
        file.seek(offset)
        file.write(content)


def load_file(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the state in a file: arrays by name, in the order they were saved in.

    The arrays are writable, little-endian and fresh; those that shared memory when they were saved do so again. Every
    byte is checked against the digests in the file (files of other writers carry none).
    Raises MissingFileError, CorruptError naming the damaged tensors, or another CheckpointError.
    """
    return load(path_text(path)).state


def read_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """Return the metadata given when the file was saved; of another writer's, what strings it has. No tensor is read.

    Raises MissingFileError, CorruptError or another CheckpointError.
    """
    with open_header(path_text(path)) as header:
        return header.metadata


def path_text(path: str | bytes | os.PathLike[str]) -> str:
    """Return a path as text. Raises ArgumentError for what is none, such as an open file or a state."""
    try:
        return os.fsdecode(path)
    except TypeError as error:
        raise ArgumentError(f"a path is a str, bytes or os.PathLike, not {type(path).__name__}.") from error


class Loaded(NamedTuple):
    """A state from a file: also which of its names are aliases, and whether the file is one of ours."""

    state: dict[str, Any]
    aliases: Mapping[str, Alias]
    ours: bool


class Header(NamedTuple):
    """All that the header of a file says; manifest is None in a file of another writer."""

    format: str
    opened: Opened
    manifest: Manifest | None
    metadata: dict[str, str]

    @property
    def aliases(self) -> Mapping[str, Alias]:
        """The names that share the memory of a stored tensor."""
        if self.manifest is not None:
            return self.manifest.aliases
        return {name: Alias(kept) for name, kept in self.opened.ties.items()}

    @property
    def names(self) -> list[str]:
        """The names of the state, in order."""
        return list(self.manifest.names if self.manifest else (*self.opened.tensors, *self.opened.ties))


@contextmanager
def open_header(path: str) -> Iterator[Header]:
    """Give the header of a file, checked; the file is open until the block ends."""
    form = format_of(path)
    _refuse_special(path)
    try:
        with form.open_file(path) as opened:
            if opened.manifest is None:
                yield Header(form.NAME, opened, None, opened.metadata)
            else:
                header = Header(form.NAME, opened, *parse(opened.manifest, opened.tensors, opened.metadata, path))
                _refuse_other_links(header, path)
                yield header
    except OSError as error:
        if isinstance(error, CheckpointError):
            raise
        raise ReadError(
            f"{path} could not be read: {error.strerror or error}. Check its permissions.", error
        ) from error


def _refuse_other_links(header: Header, path: str) -> None:
    """Raise CorruptError if names were tied or untied, within the means of the format, since the file was saved."""
    links = header.opened.links
    ties = {name: alias.kept for name, alias in header.aliases.items() if alias.view is None}
    if links is not None and links != ties:
        changed = tuple(sorted(name for name in links.keys() | ties.keys() if links.get(name) != ties.get(name)))
        raise CorruptError(
            f"{path} was changed by another program after it was saved: {changed[0]!r} is no longer tied as it was. "
            "Save the state anew with save_file.",
            changed,
        )


def load(path: str) -> Loaded:
    """Return what load_file gives, with what load_model needs to know besides."""
    with open_header(path) as header:
        arrays = _read_arrays(header, path)
    manifest = header.manifest
    packed = Packed(header.names, arrays, dict(header.aliases))
    if manifest is not None:
        packed.layouts, packed.extra = dict(manifest.layouts), dict(manifest.extra)
    return Loaded(unpack(packed), header.aliases, manifest is not None)


def _read_arrays(header: Header, path: str) -> dict[str, np.ndarray]:
    """Return the stored tensors. Raises CorruptError naming all that are not what was written."""
    opened = header.opened
    arrays: dict[str, np.ndarray] = {}
    digests: dict[str, str] = {}
    for name in sorted(opened.tensors, key=lambda name: opened.offsets.get(name, -1)):
        arrays[name] = array = _empty(name, opened.tensors[name], path)
        try:
            if name in opened.offsets:
                opened.file.seek(opened.offsets[name])
                digests[name] = streams.read_array(opened.file, array)
            elif opened.read is not None:
                array[...] = opened.read(name)
                digests[name] = streams.digest_of(array)
        except EOFError as error:
            raise CorruptError(f"{path} was cut off while it was read, in tensor {name!r}.", (name,)) from error
    if header.manifest is not None:
        expected = zip(opened.tensors, header.manifest.digests, strict=True)
        _refuse_damaged([name for name, digest in expected if digests[name] != digest], path)
    return {name: arrays[name] for name in opened.tensors}


def _empty(name: str, tensor: Tensor, path: str) -> np.ndarray:
    try:
        return np.empty(tensor.shape, dtypes.numpy_dtype(tensor.dtype))
    except (ValueError, MemoryError) as error:
        raise FormatError(f"tensor {name!r} in {path} has a shape that NumPy cannot hold: {error}.") from error


def _refuse_damaged(damaged: list[str], path: str) -> None:
    if damaged:
        lines = "".join(f"\n  {name!r}" for name in damaged)
        raise CorruptError(
            f"{path} is damaged: the bytes of these tensors are not those that were written.{lines}\n"
            "Use another copy of the file.",
            tuple(damaged),
        )


def _refuse_special(path: str) -> None:
    """Raise unless path is a regular file: opening a pipe would wait for ever."""
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingFileError(
            f"there is no file {path}. Check the path; it is relative to {os.getcwd()}.", error
        ) from error
    except (OSError, ValueError) as error:
        cause = error if isinstance(error, OSError) else None
        raise ReadError(f"{path!r} cannot be opened: {error}. Check the path.", cause) from error
    if not stat.S_ISREG(mode):
        what = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
        raise ReadError(f"{path} is {what}. Give the path of a checkpoint file.")
