"""Where each part of a state goes in a file, and the writing of that file."""

from __future__ import annotations

import math
import mmap
from collections.abc import Mapping
from contextlib import closing
from typing import NamedTuple, cast

import numpy as np

from ..formats import Format
from ..state import dtypes
from ..state.digests import blocks_of, digest_of_blocks
from ..state.expansion import Copy
from ..state.manifest import Manifest, specs_of
from ..state.sharing import Packed, rebuilt
from ..storage import streams
from ..storage.durable import write_all
from ..storage.source import FileSource
from ..storage.streams import Placed


class Place(NamedTuple):
    """Where the bytes of a tensor were written. path: that of another shard, or None for the file being written."""

    path: str | None
    offset: int


class Plan:
    """Where each part of a state goes in a file of a format.

    packed: the state, or a part of it for a shard. whole: the state that it is a part of.
    """

    def __init__(self, packed: Packed, form: Format, metadata: dict[str, str], whole: Packed | None = None) -> None:
        arrays = packed.in_file
        self._tensors = specs_of(arrays)
        self._blank, self._metadata = Manifest.of(packed, metadata, self._tensors), metadata
        aliases = {} if packed.copies else packed.aliases
        self._layout = form.writing_codec.lay_out(self._tensors, aliases, metadata, self._blank.text(metadata))
        sizes = {tensor: tensor.size_bytes for tensor in set(self._tensors.values())}
        placed = [Placed(self.offsets[name], sizes[self._tensors[name]], name, a) for name, a in arrays.items()]
        self._placed = [item for item in placed if not isinstance(item.array, Copy)]
        self._copies = [item for item in placed if isinstance(item.array, Copy)]
        self._whole = whole or packed  # keeps the arrays in place

    @property
    def offsets(self) -> dict[str, int]:
        """Where the bytes of each tensor go in the file."""
        return self._layout.offsets

    def write(self, descriptor: int, elsewhere: Mapping[str, Place] | None = None) -> dict[str, str]:
        """Write all of the file. Return the digest of each tensor, and of each storage whose slices are copied.

        elsewhere: the tensors that were written to other shards.
        """
        blocks = self._write_tensors(descriptor, self._placed)
        if self._copies:
            places = {name: Place(None, offset) for name, offset in self.offsets.items()}
            blocks |= self._write_copies(descriptor, {**(elsewhere or {}), **places})
        manifest = self._blank.with_blocks(self._tensors, blocks)
        for offset, content in self._layout.seal(manifest.text(self._metadata)):
            write_all(descriptor, content, offset)
        storages = {name: digest_of_blocks(blocks[name]) for name in blocks.keys() - self._tensors.keys()}
        return manifest.digests_in_file(self._tensors) | storages

    def _write_tensors(self, descriptor: int, placed: list[Placed]) -> dict[str, bytes]:
        return streams.write_tensors(descriptor, placed, self._layout.crc32)

    def _write_copies(self, descriptor: int, places: Mapping[str, Place]) -> dict[str, bytes]:
        """Write the copies of aliases. Return the digests of their blocks, and of those of the storages, by name.

        They are made from what is in the files by now, mapped into memory. So they fit the kept tensors, even if
        another thread has changed the arrays meanwhile.
        """
        groups: dict[str, list[Placed]] = {}
        for item in self._copies:
            groups.setdefault(cast(Copy, item.array).kept, []).append(item)
        written, storages = _Written(self._whole, descriptor, places), set(self._whole.storages)
        in_place: list[Placed] = []
        blocks: dict[str, bytes] = {}
        for kept, group in groups.items():
            if kept in storages:  # one by one: each is in memory as a whole
                blocks |= self._write_slices(descriptor, kept, group)
            elif kept in self._whole.layouts:
                filled = _filled(group, written.array(kept), self._whole.layouts[kept])
                blocks |= self._write_tensors(descriptor, filled)
            else:
                in_place += _filled(group, written.array(kept))
        return blocks | self._write_tensors(descriptor, in_place)

    def _write_slices(self, descriptor: int, storage: str, group: list[Placed]) -> dict[str, bytes]:
        array = np.asarray(self._whole.stored[storage])
        blocks = {storage: blocks_of(streams.memory_of(array))}
        return blocks | self._write_tensors(descriptor, _filled(group, array))


def _filled(group: list[Placed], kept: np.ndarray, order: tuple[int, ...] | None = None) -> list[Placed]:
    """Return the copies of one kept array or storage, with their arrays. order: its layout, if it has one."""
    memory = kept if order is None else np.ascontiguousarray(kept.transpose(order))
    views = [cast(Copy, item.array).view for item in group]
    arrays = [kept if view is None else rebuilt(memory, view) for view in views]
    return [item._replace(array=array) for item, array in zip(group, arrays, strict=True)]


class _Written:
    """The kept arrays of a state as they were written to files, which are mapped into memory."""

    def __init__(self, packed: Packed, descriptor: int, places: Mapping[str, Place]) -> None:
        self._packed, self._descriptor, self._places = packed, descriptor, places
        self._maps: dict[str | None, memoryview] = {}

    def array(self, name: str) -> np.ndarray:
        """Return an array of the state, read-only."""
        kept, (path, offset) = self._packed.stored[name], self._places[name]
        dtype = dtypes.numpy_dtype(dtypes.name_of(kept.dtype, name))
        if not math.prod(kept.shape):
            return np.empty(kept.shape, dtype)
        if path not in self._maps:
            self._maps[path] = self._mapped(path)
        return np.ndarray(kept.shape, dtype, self._maps[path], offset)

    def _mapped(self, path: str | None) -> memoryview:
        if path is None:
            return memoryview(mmap.mmap(self._descriptor, 0, access=mmap.ACCESS_READ))
        with closing(FileSource(path)) as source:
            return source.memory(copy_on_write=False)
