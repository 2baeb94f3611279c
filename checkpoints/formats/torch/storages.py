"""Tensors in the storages of an archive, as what a file holds: stored tensors, and names that are views of them.

A tensor that is C-contiguous and overlaps with no other is stored as it is. Of tensors that overlap, the first one that
is C-contiguous and covers all of them is the stored one; the others are ties or views of it. If there is none, their
bytes are a stored tensor of one axis, which no name of the state has: `data/7`, or `data/7[0:64]` for the first 64
bytes of that member. Conjugate and negative views, 4-bit floats and big-endian tensors have no offset: their values are
made from those in the file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import chain
from typing import NamedTuple

import numpy as np

from ...state import dtypes
from ...state.manifest import TensorSpec
from ...state.sharing import Alias, View
from ...storage.source import Source
from .. import Checksum, Opened
from ..archive import Member
from ..entries import InvalidError
from ..safetensors import packing
from .tensors import Tensor


class _Placed(NamedTuple):
    """A named tensor, and the range of its bytes in its storage. order: its number among all."""

    low: int
    high: int
    order: int
    name: str
    tensor: Tensor
    strides: tuple[int, ...]

    @classmethod
    def of(cls, order: int, name: str, tensor: Tensor) -> _Placed:
        lengths = tensor.spec.shape
        strides = tuple(0 if n == 1 else step for n, step in zip(lengths, tensor.strides, strict=True))
        span = sum(stride * (length - 1) for stride, length in zip(strides, lengths, strict=True))
        high = tensor.offset + span + dtypes.ITEM_BYTES[tensor.spec.dtype]
        return cls(tensor.offset, high, order, name, tensor, strides)

    @property
    def is_contiguous(self) -> bool:
        """Whether the elements are in C order without gaps."""
        step = dtypes.ITEM_BYTES[self.tensor.spec.dtype]
        for stride, length in zip(reversed(self.strides), reversed(self.tensor.spec.shape), strict=True):
            if length > 1 and stride != step:
                return False
            step *= length
        return True

    @property
    def view(self) -> View:
        spec = self.tensor.spec
        return View(spec.dtype, spec.shape, self.low, self.strides)


class Storages:
    """The storages of an archive.

    members: by the keys of storages. is_big_endian: whether numbers in them start with the highest byte. `opened`
    receives the tensors.
    """

    def __init__(self, source: Source, members: Mapping[str, Member], is_big_endian: bool, opened: Opened) -> None:
        self._source, self._members, self._is_big_endian, self._opened = source, members, is_big_endian, opened
        self.readers: dict[str, Callable[[], np.ndarray]] = {}
        self._made_bytes = 0

    def place(self, tensors: Mapping[str, Tensor], taken: Iterable[str]) -> None:
        """Add tensors by name. taken: all names of the state.

        Raises InvalidError if a storage is missing or does not have its size.
        """
        in_storage: dict[str, list[_Placed]] = {}
        made: dict[Tensor, str] = {}
        for order, (name, tensor) in enumerate(tensors.items()):
            self._check(tensor)
            if 0 in tensor.spec.shape:
                self._store(name, tensor.spec, tensor.storage, 0)
            elif not tensor.is_made:
                in_storage.setdefault(tensor.storage, []).append(_Placed.of(order, name, tensor))
            elif made.setdefault(tensor, name) != name:
                self._opened.aliases[name] = Alias(made[tensor])
            else:
                self._make(name, tensor)
        # The stored tensors that have names come first.
        names = set(taken)
        for unnamed in [*chain.from_iterable(self._place_storage(placed) for placed in in_storage.values())]:
            self._place_unnamed(unnamed, names)

    def _check(self, tensor: Tensor) -> None:
        member = self._members.get(tensor.storage)
        if member is None and tensor.storage_bytes:
            raise InvalidError(f"its storage {tensor.storage!r:.200} is missing")
        if member is not None and (not member.is_stored or member.size_bytes != tensor.storage_bytes):
            raise InvalidError(f"its storage {tensor.storage!r:.200} is compressed, or does not have its size")

    def _store(self, name: str, spec: TensorSpec, storage: str, low: int) -> None:
        """Add a tensor that is in the file as it is."""
        self._opened.tensors[name] = spec
        member = self._members.get(storage)
        self._opened.offsets[name] = member.offset + low if member else 0
        self._add_checksum(name, member)

    def _add_checksum(self, name: str, member: Member | None) -> None:
        if member is not None:
            self._opened.checksums[name] = Checksum(member.offset, member.size_bytes, member.crc32)

    def _place_storage(self, placed: list[_Placed]) -> Iterator[list[_Placed]]:
        """Add the tensors in a storage. Yield those that overlap and of which none covers all others."""
        for group in _overlapping(placed):
            low, high = group[0].low, max(one.high for one in group)
            group.sort(key=lambda one: one.order)
            swapped = {_swapped_bytes(one.tensor.spec.dtype) for one in group}
            if self._is_big_endian and len(swapped) > 1:
                reason = "it shares memory with elements of another size, in a file of a big-endian machine"
                self._opened.unsupported.update((one.name, reason) for one in group)
                continue
            kept = next((one for one in group if (one.low, one.high) == (low, high) and one.is_contiguous), None)
            if kept is None:
                yield group
                continue
            self._store_swapped(kept.name, kept.tensor.spec, kept.tensor.storage, low)
            self._add_aliases(kept.name, kept.view, (one for one in group if one is not kept))

    def _place_unnamed(self, group: list[_Placed], taken: set[str]) -> None:
        """Add the memory of a group of tensors as a tensor, and them as views of it. Its name is added to `taken`."""
        low, high, tensor = min(one.low for one in group), max(one.high for one in group), group[0].tensor
        name = f"data/{tensor.storage}" + ("" if high - low == tensor.storage_bytes else f"[{low}:{high}]")
        while name in taken:
            name += "_"
        taken.add(name)
        kinds = {one.tensor.spec.dtype for one in group}
        dtype = kinds.pop() if len(kinds) == 1 else "U8"
        count, rest = divmod(high - low, dtypes.ITEM_BYTES[dtype])
        spec = TensorSpec("U8", (high - low,)) if rest else TensorSpec(dtype, (count,))
        self._store_swapped(name, spec, tensor.storage, low)
        self._add_aliases(name, View("", (), low, ()), group)

    def _add_aliases(self, kept: str, whole: View, group: Iterable[_Placed]) -> None:
        for one in group:
            view = one.view._replace(offset=one.low - whole.offset)
            self._opened.aliases[one.name] = Alias(kept, None if one.view == whole else view)

    def _store_swapped(self, name: str, spec: TensorSpec, storage: str, low: int) -> None:
        """Add a tensor whose numbers may be big-endian in the file."""
        if not self._is_big_endian or _swapped_bytes(spec.dtype) == 1:
            self._store(name, spec, storage, low)
            return
        self._opened.tensors[name] = spec
        self._add_checksum(name, self._members[storage])
        self.readers[name] = partial(self._values, spec, storage, low)

    def _make(self, name: str, tensor: Tensor) -> None:
        """Add a tensor whose values are made from those in the file."""
        placed = _Placed.of(0, name, tensor)
        spec = tensor.spec
        if tensor.is_packed:
            if not spec.shape or not placed.is_contiguous:
                self._opened.unsupported[name] = "its elements of 4 bits are not one after the other"
                return
            spec = TensorSpec("F4", (*spec.shape[:-1], 2 * spec.shape[-1]))
        self._made_bytes += spec.size_bytes
        if self._made_bytes > 2 * self._source.size_bytes:
            self._opened.unsupported[name] = "with those before, it takes far more bytes than the file"
            return
        self._opened.tensors[name] = spec
        self._add_checksum(name, self._members[tensor.storage])
        self.readers[name] = partial(self._made, placed, spec)

    def _made(self, placed: _Placed, spec: TensorSpec) -> np.ndarray:
        tensor, count = placed.tensor, (placed.high - placed.low) // dtypes.ITEM_BYTES[placed.tensor.spec.dtype]
        memory = self._values(TensorSpec(tensor.spec.dtype, (count,)), tensor.storage, placed.low)
        if tensor.is_packed:
            return packing.unpacked(memory.tobytes(), "F4").view(dtypes.numpy_dtype("F4")).reshape(spec.shape)
        values = np.ndarray(spec.shape, memory.dtype, memory.data, 0, placed.strides)
        values = np.conjugate(values) if tensor.is_conj else values
        return np.array(np.negative(values) if tensor.is_neg else values, order="C")

    def _values(self, spec: TensorSpec, storage: str, low: int) -> np.ndarray:
        """Return the values of a C-contiguous tensor in a storage."""
        raw = np.frombuffer(self._source.read(self._members[storage].offset + low, spec.size_bytes), np.uint8)
        if self._is_big_endian:
            raw = raw.reshape(-1, _swapped_bytes(spec.dtype))[:, ::-1]
        return np.array(raw, order="C").reshape(-1).view(dtypes.numpy_dtype(spec.dtype)).reshape(spec.shape)


def _overlapping(placed: list[_Placed]) -> Iterator[list[_Placed]]:
    """Yield groups of tensors whose ranges of bytes overlap."""
    group: list[_Placed] = []
    end = 0
    for one in sorted(placed):
        if group and one.low >= end:
            yield group
            group = []
        group.append(one)
        end = max(end, one.high)
    yield group


def _swapped_bytes(dtype: str) -> int:
    """Return the size of the numbers whose bytes are in the order of the machine."""
    return dtypes.ITEM_BYTES[dtype] // (2 if dtype.startswith("C") else 1)
