"""The state of a foreign file with every shared byte stored once, as a save of the loaded arrays would store it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ..state import dtypes
from ..state.deferred import Deferred
from ..state.manifest import TensorSpec
from ..state.sharing import Alias, Packed, Union, add_union, member_of, pack, rebuilt, repeats_elements
from .header import Header
from .reader import Reader


def packed_again(reader: Reader, stored: Mapping[str, Deferred], values: Mapping[str, Any]) -> Packed:
    """Return the state as pack() would, with arrays that are read later.

    stored: all stored tensors. values: those of all names, in order.
    A foreign file may store memory with gaps, or memory that no array has as a whole. Two things differ from pack(). An
    array that repeats its elements, as those of numpy.broadcast_to do, stays a view: its values may take far more bytes
    than the file. And if arrays overlap in such a way that their memory would take more bytes than in the file, it is
    stored as it is there.
    """
    header = reader.header
    kept = {alias.kept for alias in header.aliases.values() if alias.view is not None}
    if not kept:
        return _as_in_file(header, stored)
    memory = {name: _memory_like(header.tensors[name]) for name in kept}
    arrays = {name: value for name, value in values.items() if name not in header.extra}
    places = {name: _place(header.aliases.get(name, Alias(name)), array, memory) for name, array in arrays.items()}

    def read_later(union: Union) -> Deferred:
        name = union.members[0].name
        return _deferred(reader, union, header.aliases.get(name, Alias(name)).kept, memory)

    packed = pack(places, header.extra, header.names, read_later)
    for name, array in list(packed.stored.items()):
        if not isinstance(array, np.ndarray) or not repeats_elements(array):
            continue
        del packed.stored[name]
        storage = add_union([member_of(name, array)], places, packed)
        packed.stored[storage] = read_later(packed.unions[storage])
    if _size_bytes(packed.stored.values()) > _size_bytes(stored.values()) + 8 * len(packed.unions):
        return _as_in_file(header, stored)
    packed.stored = {name: arrays.get(name, array) for name, array in packed.stored.items()}
    packed.aliases = {name: packed.aliases[name] for name in arrays if name in packed.aliases}
    packed.storages, packed.unions, packed.memory = list(packed.unions), {}, None
    return packed


def _place(alias: Alias, array: Any, memory: Mapping[str, np.ndarray]) -> Any:
    """Return an array whose place in memory is that of a name in the file, or the array itself if it has no view."""
    if alias.kept not in memory:
        return array
    return memory[alias.kept] if alias.view is None else rebuilt(memory[alias.kept], alias.view)


def _as_in_file(header: Header, stored: Mapping[str, Deferred]) -> Packed:
    """Return the state with the memory that the file stores."""
    known = set(header.names)
    storages = [name for name in stored if name not in known]
    order = [*(name for name in stored if name in known), *storages]
    arrays: dict[str, np.ndarray | Deferred] = {name: stored[name] for name in order}
    return Packed(header.names, arrays, dict(header.aliases), storages=storages, extra=dict(header.extra))


def _memory_like(tensor: TensorSpec) -> np.ndarray:
    """Return an array like a stored tensor, for its addresses alone: the system need not provide its bytes."""
    return np.zeros(tensor.shape, dtypes.numpy_dtype(tensor.dtype))


def _deferred(reader: Reader, union: Union, kept: str, memory: Mapping[str, np.ndarray]) -> Deferred:
    """Return the memory of arrays that overlap, which is read later. kept: the stored tensor that has it."""
    start = union.low - memory[kept].__array_interface__["data"][0]
    end = start + union.high - union.low

    def make() -> np.ndarray:
        content = reader.whole(kept).reshape(-1).view(np.uint8)[start:end]
        if any(repeats_elements(member.array) for member in union.members):
            # Its elements may be far more than its bytes, so the bytes between them are kept instead of zeros.
            return np.frombuffer(content.tobytes().ljust(-(-len(content) // 8) * 8, b"\0"), "<u8")
        return union.moved(content).stored()

    return Deferred((-(-(end - start) // 8),), "<u8", make)


def _size_bytes(arrays: Iterable[np.ndarray | Deferred]) -> int:
    return sum(array.dtype.itemsize * math.prod(array.shape) for array in arrays)
