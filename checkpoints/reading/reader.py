"""Reading stored tensors, all at once, one by one or in part, and checking them against digests and checksums."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, cast

import numpy as np

from ..errors import ClosedError, CorruptError, FormatError, ReadError
from ..state import dtypes
from ..state.digests import BYTES, Hasher, block_bytes_of, blocks_of, digest_of_blocks
from ..state.manifest import TensorSpec
from ..state.sharing import View, rebuilt
from ..storage import streams
from ..storage.source import FileLike, FileSource, RangeSource
from ..storage.streams import Unchanged, Wanted
from . import slicing
from .checking import BlockChecks, hash_range
from .checksums import Checksums
from .copies import refuse_other_values, storages_apart
from .header import Header, Part
from .progress import Progress, silent

# "once": for values that are copied at once. They are verified by reads, in which a bad disk is an error and no signal,
# and then mapped, which is faster than new memory. A part of few bytes is read into new arrays.
Mmap = bool | Literal["r", "c", "once"]
_MOST_NAMES = 5
_LEAST_MAPPED_BYTES = 1 << 20


class Reader:
    """A reader of the stored tensors of an open header. Several threads may use it at once.

    verify: raise CorruptError if a tensor does not match its digest or its checksum when it is first read.
    """

    def __init__(self, header: Header, verify: bool) -> None:
        self.header, self.verify = header, verify
        self.digests = {**header.digests, **header.copies}
        self.closed = False
        self._verified: set[str] = set()
        self._all = [*header.parts, *storages_apart(header, self.whole)]
        self._parts = {name: part for part in self._all for name in part.opened.tensors}
        self._checks = {id(part): BlockChecks(part, self.digests) for part in self._all}
        self._checksums = {id(part): Checksums(part) for part in self._all}

    def close(self) -> None:
        """Close the files."""
        if not self.closed:
            self.closed = True
            self.header.close()

    def all(self, mmap: Mmap, names: Container[str] | None = None) -> dict[str, np.ndarray]:
        """Return tensors by name: new arrays, or with `mmap` arrays backed by the files ("c", "once": copy-on-write).

        names: the tensors to read, or None for all.
        Raises CorruptError naming all that are damaged.
        """
        self._refuse_closed()
        names = self.header.tensors if names is None and self.header.copies else names
        arrays: dict[str, np.ndarray] = {}
        digests: dict[str, str] = {}
        damaged: list[str] = []
        for part in self._all:
            here, placed = list(part.opened.tensors), list(part.opened.offsets)
            if names is not None:
                here, placed = [name for name in here if name in names], [name for name in placed if name in names]
            found, made = {}, {}
            with self._reading(part):
                if placed:
                    found, made = self._mapped(part, placed, mmap) if mmap else self._fresh(part, placed)
            if len(placed) < len(here):
                for name in here:
                    if name not in found:
                        found[name] = self._from_format(part, name)
                        made[name] = streams.digest_of(found[name]) if self.verify else ""
            arrays |= found
            digests |= made
            if self.verify:
                with self._reading(part):
                    damaged += self._checksums[id(part)].mismatched(found)
        if self.verify:
            expected = self.digests.items()
            damaged += [name for name, digest in expected if name in arrays and digests[name] != digest]
            self._refuse_damaged(damaged)
        return {name: arrays[name] for name in self.header.tensors if name in arrays}

    def refuse_changed(self) -> None:
        """Raise CorruptError if another program has changed a file since it was opened: what is mapped changes too."""
        for part in self.header.parts:
            source = part.source.whole if isinstance(part.source, RangeSource) else part.source
            if isinstance(source, FileSource) and source.has_changed():
                raise CorruptError(f"{source.name} was changed by another program while it was loaded. Load it again.")

    def check_copies(self, state: Mapping[str, Any]) -> None:
        """Check the bytes of the copies in an expanded file. state: what was loaded.

        Raises CorruptError naming the copies that are damaged, or hold other values than the state.
        """
        if self.verify:
            expected = {name: digest for name, digest in self.header.copies.items() if name in state}
            self._refuse_damaged([name for name, digest in expected.items() if self.digest_of(name) != digest])
            refuse_other_values(self.header, state)

    def take_copy(self, name: str, copy: str) -> None:
        """Read a tensor from its copy in an expanded file from now on."""
        part = self._parts[name] = self._parts[copy]
        part.opened.tensors[name], part.opened.offsets[name] = self.header.tensors[name], part.opened.offsets[copy]

    def _fresh(self, part: Part, names: list[str]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
        wanted = self._wanted(part, names)
        return streams.read_tensors(part.source, wanted, self.verify and bool(self.digests))

    def _mapped(self, part: Part, names: list[str], mmap: Mmap) -> tuple[dict[str, np.ndarray], dict[str, str]]:
        wanted = self._wanted(part, names)
        if mmap == "once" and sum(item.size_bytes for item in wanted) < _LEAST_MAPPED_BYTES:
            return self._fresh(part, names)
        try:
            memory = part.source.memory(mmap in ("c", "once"))
        except ReadError:
            if mmap != "once":
                raise
            return self._fresh(part, names)  # some file systems map nothing
        if not self.verify or not self.digests:
            digests = {}
        elif mmap == "once":
            digests = streams.read_digests(part.source, wanted)
        else:
            digests = streams.digests_of(memory, wanted)
        return streams.map_tensors(memory, wanted), digests

    def whole(self, name: str) -> np.ndarray:
        """Return one tensor, and check it while reading."""
        part = self._part(name)
        if name in part.opened.offsets:
            with self._reading(part):
                arrays, digests = streams.read_tensors(part.source, self._wanted(part, [name]), self.verify)
        else:
            arrays = {name: self._from_format(part, name)}
            digests = {name: streams.digest_of(arrays[name])} if self.verify else {}
        self._compare(name, digests.get(name, ""))
        self._compare_checksum(part, name, arrays[name])
        return arrays[name]

    def part_of(self, name: str, key: Any, view: View | None = None) -> Any:
        """Return tensor[key], or view[key] for a view of the tensor. Read and check little more than that.

        A tensor whose blocks have no digests in the file is checked as a whole the first time, and so is what has a
        checksum.
        """
        part = self._part(name)
        if name not in part.opened.offsets:
            whole = self.whole(name)
            return (whole if view is None else rebuilt(whole, view))[key].copy()
        tensor, checks = part.opened.tensors[name], self._checks[id(part)]
        must_check = self.verify and name in self.digests and name not in self._verified
        if must_check and not checks.expected(name):
            self._compare(name, self.digest_of(name))
            must_check = False
        self._compare_checksum(part, name)

        def read(offset: int, buffer: memoryview) -> None:
            with self._reading(part):
                if not must_check:
                    part.source.read_into(part.opened.offsets[name] + offset, buffer)
                elif not checks.read(name, offset, buffer):
                    self._refuse_damaged([name])

        if view is None:
            dtype, shape = _kind(tensor, name, self.header.name)
            return slicing.read_slice(read, slicing.stand_in(dtype, shape), 0, key)
        memory = slicing.stand_in(dtypes.numpy_dtype(view.dtype), view.shape, view.strides)
        return slicing.read_slice(read, memory, view.offset, key)

    def blocks(self, name: str, length: int) -> Iterator[np.ndarray]:
        """Yield the values of a tensor in order, in flat arrays of `length` elements.

        Its checksum is compared before the first one, its digest after the last one.
        """
        part = self._part(name)
        self._compare_checksum(part, name)
        dtype, size_bytes = dtypes.numpy_dtype(part.opened.tensors[name].dtype), part.opened.tensors[name].size_bytes
        digest = Hasher(self._block_bytes_of(part, size_bytes))
        whole = None if name in part.opened.offsets else self._from_format(part, name).reshape(-1)
        for start in range(0, size_bytes // dtype.itemsize, length):
            if whole is not None:
                block = whole[start : start + length]
            else:
                block = np.empty(min(length, size_bytes // dtype.itemsize - start), dtype)
                with self._reading(part):
                    offset = part.opened.offsets[name] + start * dtype.itemsize
                    part.source.read_into(offset, block.view(np.uint8).data)
            digest.update(streams.memory_of(block))
            yield block
        self._compare(name, digest.hexdigest())

    def is_intact(self, name: str, progress: Progress = silent) -> bool:
        """Return True if the bytes of a tensor in the file match the digest or the checksum that the file has of them.

        progress: called with the number of bytes read since the last call.
        """
        part = self._part(name)
        if name in self.digests:
            return self.digest_of(name, progress) == self.digests[name]
        if name not in part.opened.offsets and name not in part.opened.checksums:  # the format checks what it reads
            try:
                progress(self._from_format(part, name).nbytes)
            except CorruptError:
                return False
            return True
        with self._reading(part):
            return self._checksums[id(part)].matches(name, progress=progress)

    def digest_of(self, name: str, progress: Progress = silent) -> str:
        """Return the digest of the bytes of a tensor in the file. For the rest see `hashed`."""
        return digest_of_blocks(self.hashed(name, progress))

    def hashed(self, name: str, progress: Progress = silent) -> bytes:
        """Return the digests of the blocks of a tensor in the file, one after the other. Read through a small buffer.

        progress: called with the number of bytes read since the last call.
        """
        part = self._part(name)
        if name not in part.opened.offsets:
            return blocks_of(streams.memory_of(self._from_format(part, name)))
        offset, size_bytes = part.opened.offsets[name], part.opened.tensors[name].size_bytes
        hasher = Hasher(self._block_bytes_of(part, size_bytes))
        with self._reading(part):
            hash_range(part.source, hasher, offset, offset + size_bytes, progress)
        return hasher.blocks()

    def unchanged(self, name: str, dtype: np.dtype, shape: tuple[int, ...]) -> Unchanged | None:
        """Return the bytes of a tensor as an array that a save copies with their digests, without comparing them.

        Return None if the bytes are not in a file, or if it has no digests of the blocks of the tensor.
        """
        part, digest = self._part(name), self.digests.get(name)
        offset, blocks = part.opened.offsets.get(name), self._checks[id(part)].expected(name)
        if offset is None or not hasattr(part.source, "copy_to") or not blocks or digest_of_blocks(blocks) != digest:
            return None
        source = cast(FileLike, part.source)
        return Unchanged(shape, dtype, lambda: _as(self.whole(name), dtype, shape), source, offset, blocks)

    def differing(self, name: str, hashed: bytes) -> list[range]:
        """Return the bytes of the blocks of a tensor whose digests differ from those in the file.

        The list is empty if the file has no digests of its blocks. hashed: as from `hashed`.
        """
        part, size_bytes = self._part(name), self._parts[name].opened.tensors[name].size_bytes
        expected, block_bytes = self._checks[id(part)].expected(name), self._block_bytes_of(part, size_bytes)
        return [
            range(number * block_bytes, min((number + 1) * block_bytes, size_bytes))
            for number in range(len(expected) // BYTES)
            if expected[BYTES * number : BYTES * (number + 1)] != hashed[BYTES * number : BYTES * (number + 1)]
        ]

    def _part(self, name: str) -> Part:
        self._refuse_closed()
        return self._parts[name]

    def _refuse_closed(self) -> None:
        if self.closed:
            raise ClosedError(f"{self.header.name} is closed. Read within the `with` block, or open it again.")

    def _compare(self, name: str, digest: str) -> None:
        if self.verify:
            self._refuse_damaged([name] if self.digests.get(name, digest) != digest else [])
            self._verified.add(name)

    def _compare_checksum(self, part: Part, name: str, array: np.ndarray | None = None) -> None:
        if self.verify:
            with self._reading(part):
                is_intact = self._checksums[id(part)].matches(name, array)
            self._refuse_damaged([] if is_intact else [name])

    def _refuse_damaged(self, damaged: list[str]) -> None:
        """Raise CorruptError if there are damaged tensors. In a sharded checkpoint, it names the shards."""
        if damaged:
            paths = " and ".join(dict.fromkeys(self._parts[name].source.name for name in damaged))
            lines = "".join(f"\n  {name!r}{self._holding(name)}" for name in damaged)
            raise CorruptError(
                f"{paths} is damaged: the bytes of these tensors are not those that were written.{lines}\n"
                "Use another copy of the file, or save its intact tensors with checkpoints.repair().",
                tuple(damaged),
            )

    def _holding(self, name: str) -> str:
        """Return what a stored tensor that is not in the state holds, as text, or nothing."""
        if name in self.header.names:
            return ""
        held = [repr(alias) for alias, (kept, _) in self.header.aliases.items() if kept == name]
        return f", which holds {', '.join(held[:_MOST_NAMES])}{', ...' if len(held) > _MOST_NAMES else ''}"

    def _from_format(self, part: Part, name: str) -> np.ndarray:
        assert part.opened.read is not None  # a format sets it if a tensor has no offset
        with self._reading(part):
            return part.opened.read(name)

    def _wanted(self, part: Part, names: Iterable[str]) -> list[Wanted]:
        names, offsets = list(names), part.opened.offsets
        tensors = list(map(part.opened.tensors.__getitem__, names))
        first = dict(zip(reversed(tensors), reversed(names), strict=True))
        sizes = {tensor: tensor.size_bytes for tensor in first}
        kinds = {
            tensor: (
                size_bytes,
                *_kind(tensor, first[tensor], self.header.name),
                self._block_bytes_of(part, size_bytes),
            )
            for tensor, size_bytes in sizes.items()
        }
        columns = zip(*map(kinds.__getitem__, tensors), strict=True) if names else ((), (), (), ())
        taken, found, shapes, blocks = columns
        return list(map(Wanted, map(offsets.__getitem__, names), taken, names, found, shapes, blocks))

    def _block_bytes_of(self, part: Part, size_bytes: int) -> int:
        """Return the size of the blocks that the digest of a tensor is made from."""
        manifest = part.manifest or self.header.manifest
        return manifest.block_bytes_of(size_bytes) if manifest else block_bytes_of(size_bytes)

    @contextmanager
    def _reading(self, part: Part) -> Iterator[None]:
        try:
            yield
        except EOFError as error:
            raise CorruptError(
                f"{part.source.name} was cut off while it was read. Use another copy of the file."
            ) from error


def _kind(tensor: TensorSpec, name: str, path: str) -> tuple[np.dtype, tuple[int, ...]]:
    """Return dtype and shape. Raises FormatError, naming the tensor, if NumPy cannot hold such an array."""
    dtype = dtypes.numpy_dtype(tensor.dtype)
    # A tensor with bytes in the file is no larger than the file. But NumPy also limits the number of axes, and the
    # product of the lengths even for an empty array.
    if len(tensor.shape) > 32 or not tensor.size_bytes:
        check_shape(dtype, tensor.shape, name, path)
    return dtype, tensor.shape


def _as(array: np.ndarray, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    """Return the bytes of a C-contiguous array as an array of another dtype and shape."""
    return array.reshape(-1).view(np.uint8).view(dtype).reshape(shape)


def check_shape(dtype: np.dtype, shape: tuple[int, ...], name: str, path: str) -> None:
    """Raise FormatError, naming the tensor, if NumPy cannot hold an array of this dtype and shape."""
    try:
        np.broadcast_to(np.empty((), dtype), shape)
    except ValueError as error:
        raise FormatError(f"tensor {name!r} in {path} has a shape that NumPy cannot hold: {error}.") from error
