"""Shared memory in a state: packed so that each byte is stored once, and unpacked to the same sharing.

Sharing is about memory, not values: equal values in two places are two tensors. Of arrays that overlap, one is *kept*:
the first that covers the memory of all of them densely. The others become aliases of it:

- a *tie* has the same memory, dtype, shape and strides as the kept array, and loads as the same array;
- a *view* is anything else, such as a transpose or a slice: it has a dtype, a shape, and the byte offset and strides
  within the memory of the kept array.

If the only array that covers all has another axis order (a transpose whose base is not in the state), the order is
stored as its *layout*. If none covers all, the bytes of all of them are stored together as a *storage*: a separate
uint64 tensor, aligned for any of them, that is not part of the state. Bytes in it that belong to no array are zero.

A non-contiguous array that shares no memory is stored by its values, and therefore loads contiguous.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count, pairwise
from operator import attrgetter
from typing import Any, NamedTuple, cast

import numpy as np

from ..errors import UnsupportedTypeError
from . import dtypes
from .deferred import Deferred

STORAGE = "statezoo.storage.{}"
# The most that NumPy allows: 32 before 2.0.
_MOST_AXES = getattr(np, "MAXDIMS", 64)
_MOST_WORK = 1_000_000  # of np.shares_memory, about 40 ms
_OWNS_DATA, _BASE, _DTYPE = attrgetter("flags.owndata"), attrgetter("base"), attrgetter("dtype")


class View(NamedTuple):
    """An array as a view of a kept array's memory. dtype: as in dtypes.py. offset, strides: in bytes."""

    dtype: str
    shape: tuple[int, ...]
    offset: int
    strides: tuple[int, ...]


class Alias(NamedTuple):
    """A name whose memory is stored under another name, `kept`. view: None for a tie."""

    kept: str
    view: View | None = None


@dataclass
class Packed:
    """A state in which every byte occurs once.

    names: all names of the state, in order. stored: the arrays to write by name, in that order, then the storages.
    aliases, layouts: see the module. storages: the names of the storages. unions: what they were copied from, by name,
    if that is in memory. extra: values that are not arrays. memory: what keeps the memory of the arrays in place.
    copies: a Copy of each alias, if each gets its own bytes in the file (see expansion.py).
    """

    names: list[str]
    stored: dict[str, np.ndarray | Deferred]
    aliases: dict[str, Alias] = field(default_factory=dict)
    layouts: dict[str, tuple[int, ...]] = field(default_factory=dict)
    storages: list[str] = field(default_factory=list)
    unions: dict[str, Union] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    memory: object = None
    copies: Mapping[str, Deferred] = field(default_factory=dict)

    @property
    def in_file(self) -> dict[str, np.ndarray | Deferred]:
        """The arrays whose bytes go into a file, in order."""
        if not self.copies:
            return self.stored
        apart = set(self.storages)
        return {name: array for name, array in self.stored.items() if name not in apart} | dict(self.copies)


class Member(NamedTuple):
    """An array and its range in memory: the addresses of its first byte and of the byte after its last."""

    name: str
    array: np.ndarray
    low: int
    high: int
    pointer: int

    @property
    def geometry(self) -> tuple[int, str, tuple[int, ...], tuple[int, ...]]:
        return self.pointer, self.array.dtype.str, self.array.shape, _strides(self.array)


class Union(NamedTuple):
    """The memory of arrays that overlap, none of which covers it: from the address `low` up to `high`."""

    members: list[Member]
    low: int
    high: int

    def moved(self, memory: np.ndarray) -> Union:
        """Return the same for a copy of the memory, in bytes."""
        low = memory.__array_interface__["data"][0]
        members = []
        for member in self.members:
            array, offset = member.array, member.pointer - self.low
            copy = np.ndarray(array.shape, array.dtype, memory.data, offset, array.strides)
            members.append(member_of(member.name, copy))
        return Union(members, low, low + memory.nbytes)

    def stored(self) -> np.ndarray:
        """Return the memory as uint64: the bytes that belong to a member, little-endian, and 0 for others."""
        stored = np.zeros(-(-(self.high - self.low) // 8), "<u8")
        for member in self.members:
            array = dtypes.little_endian(member.array)
            raw = np.dtype(f"V{array.itemsize}")  # moved as bytes: not even the payload of a NaN changes
            place = np.ndarray(array.shape, raw, stored.data, member.pointer - self.low, member.array.strides)
            place[...] = array.view(raw)
        return stored


def pack(
    arrays: Mapping[str, np.ndarray | Deferred],
    extra: Mapping[str, Any],
    names: Iterable[str],
    stored_as: Callable[[Union], np.ndarray | Deferred] = Union.stored,
) -> Packed:
    """Return the state of arrays and extra values, in the order of `names`, with every shared byte stored once.

    stored_as: returns what to store for the memory of arrays that none of them covers.
    Raises StateError or UnsupportedTypeError naming the arrays whose sharing or dtype cannot be saved.
    """
    live = {name: array for name, array in arrays.items() if isinstance(array, np.ndarray)}
    # Arrays that own their memory share it with no other: most states end here.
    are_apart = all(map(_OWNS_DATA, live.values())) and len(set(map(id, live.values()))) == len(live)
    memory = _in_place(live.values())
    # All in one call: another thread may change the shape, strides or dtype of an array, but not those of these views.
    made = dict(zip(live, map(np.ndarray.view, live.values()), strict=True))
    stored = {**arrays, **made}
    for dtype, name in dict(zip(map(_DTYPE, stored.values()), stored, strict=True)).items():
        dtypes.name_of(dtype, name)
    packed = Packed(list(names), {}, extra=dict(extra), memory=memory)
    for group in [] if are_apart else sharing_groups(made):
        _pack_group(group, stored, packed)
    storages = {name: stored_as(union) for name, union in packed.unions.items()}
    if len(made) < len(arrays):
        first: dict[int, str] = {}
        deferred = ((name, first.setdefault(id(arrays[name]), name)) for name in arrays if name not in made)
        packed.aliases.update((name, Alias(kept)) for name, kept in deferred if name != kept)
    for name in packed.aliases:
        del stored[name]
    packed.stored, packed.storages = stored | storages, list(storages)
    if packed.aliases:  # layouts are those of tensors that have aliases
        packed.aliases = {name: packed.aliases[name] for name in packed.names if name in packed.aliases}
        packed.layouts = {name: packed.layouts[name] for name in packed.names if name in packed.layouts}
    return packed


def _in_place(arrays: Collection[np.ndarray]) -> object:
    """Return an object during whose life the memory of arrays stays where it is.

    NumPy does not resize an array with a weak reference, not even with refcheck=False. Other objects, such as a mmap
    or a bytearray, neither resize nor close while there is a view of their memory.
    """
    held: list[object] = list(map(weakref.ref, arrays))
    for base in [base for base in map(_BASE, arrays) if base is not None]:
        while isinstance(base, np.ndarray):
            held.append(weakref.ref(base))
            base = base.base
        with suppress(TypeError, ValueError, BufferError):  # not an object whose memory can be viewed
            held.append(memoryview(cast(Any, base)))
    return held


def sharing_groups(arrays: Mapping[str, np.ndarray]) -> list[list[Member]]:
    """Return the groups of two or more arrays that overlap in memory, in the order of their first names."""
    members = [member_of(name, array) for name, array in arrays.items() if array.size]
    if all(one.high <= other.low for one, other in pairwise(sorted(members, key=lambda member: member.low))):
        return []
    # Only the first of equal arrays is compared with others: one array may have thousands of names.
    equal: dict[Any, int] = {}
    root = [equal.setdefault(member.geometry, position) for position, member in enumerate(members)]
    active: list[int] = []
    for position in sorted(equal.values(), key=lambda position: (members[position].low, position)):
        member = members[position]
        active = [other for other in active if members[other].high > member.low]
        for other in active:
            if _find(root, position) != _find(root, other) and _overlap(member.array, members[other].array):
                first, last = sorted((_find(root, position), _find(root, other)))
                root[last] = first
        active.append(position)
    groups: dict[int, list[Member]] = {}
    for position, member in enumerate(members):
        groups.setdefault(_find(root, position), []).append(member)
    return [group for group in groups.values() if len(group) > 1]


def _overlap(a: np.ndarray, b: np.ndarray) -> bool:
    """Return True if two arrays have a byte in common, or if that would take long to find out: a file may make it so.

    Arrays that count as overlapping are stored with the memory between them, which is right in any case.
    """
    try:
        return np.shares_memory(a, b, max_work=_MOST_WORK)  # pyright: ignore[reportArgumentType]  NumPy takes any
    except np.exceptions.TooHardError:
        return True


def _find(root: list[int], position: int) -> int:
    while root[position] != position:
        root[position] = position = root[root[position]]
    return position


def member_of(name: str, array: np.ndarray) -> Member:
    pointer = array.__array_interface__["data"][0]
    spans = [stride * (length - 1) for stride, length in zip(array.strides, array.shape, strict=True)]
    low = pointer + sum(span for span in spans if span < 0)
    return Member(name, array, low, pointer + sum(span for span in spans if span > 0) + array.itemsize, pointer)


class _Range:
    def __init__(self, low: int, high: int) -> None:
        self.__array_interface__ = {"version": 3, "typestr": "|u1", "shape": (high - low,), "data": (low, True)}


def memory_between(low: int, high: int) -> np.ndarray:
    """Return the bytes of memory between two addresses. They must stay in place while the array is used."""
    return np.asarray(_Range(low, high))


def _strides(array: np.ndarray) -> tuple[int, ...]:
    """Return the strides, with 0 for axes of length 1, whose stride in NumPy is arbitrary."""
    return tuple(0 if length == 1 else stride for length, stride in zip(array.shape, array.strides, strict=True))


def _pack_group(group: list[Member], stored: Collection[str], packed: Packed) -> None:
    """Add the aliases of a group to `packed`, and a union if no member covers all of them.

    stored: the names of all arrays.
    """
    first = group[0]
    if all(member.geometry == first.geometry for member in group):
        packed.aliases.update((member.name, Alias(first.name)) for member in group[1:])
        return
    _refuse_mixed_byte_order(group)
    low, high = min(member.low for member in group), max(member.high for member in group)
    covering = [member for member in group if member.array.nbytes == high - low]
    kept = next((member for member in covering if member.array.flags.c_contiguous), None)
    if kept is None:
        kept = next((member for member in covering if _axis_order(member.array) is not None), None)
        if kept is not None:
            packed.layouts[kept.name] = _axis_order(kept.array) or ()
    if kept is None:
        add_union(group, stored, packed)
        return
    for member in group:
        if member.name != kept.name:
            view = None if member.geometry == kept.geometry else _view(member, low)
            packed.aliases[member.name] = Alias(kept.name, view)


def add_union(group: list[Member], stored: Collection[str], packed: Packed) -> str:
    """Make the members of a group views of a new union, which is stored under a name that is returned."""
    low, high = min(member.low for member in group), max(member.high for member in group)
    free = free_storages(packed.unions.keys() | packed.extra.keys(), len(packed.unions))
    name = next(name for name in free if name not in stored)
    packed.unions[name] = Union(group, low, high)
    packed.aliases.update((member.name, Alias(name, _view(member, low))) for member in group)
    return name


def free_storages(taken: Container[str], first: int = 0) -> Iterator[str]:
    """Yield names for storages, leaving out those that are taken. first: the number in the first name."""
    return (name for name in map(STORAGE.format, count(first)) if name not in taken)


def _view(member: Member, low: int) -> View:
    array = member.array
    return View(dtypes.name_of(array.dtype, member.name), array.shape, member.pointer - low, _strides(array))


def _axis_order(array: np.ndarray) -> tuple[int, ...] | None:
    """Return the axis order in which an array is C-contiguous, or None if there is none."""
    strides = _strides(array)
    order = tuple(sorted(range(array.ndim), key=lambda axis: (-strides[axis], axis)))
    return order if array.transpose(order).flags.c_contiguous else None


def _refuse_mixed_byte_order(group: list[Member]) -> None:
    """Raise UnsupportedTypeError unless swapping the bytes of each element preserves the views."""
    if not any(dtypes.is_big_endian(member.array.dtype) for member in group):
        return
    first = group[0]
    size = first.array.itemsize
    steps = [step for member in group for step in (member.pointer - first.pointer, *_strides(member.array))]
    if any(member.array.dtype != first.array.dtype for member in group) or any(step % size for step in steps):
        raise UnsupportedTypeError(
            f"tensors {', '.join(repr(member.name) for member in group)} share memory, are big-endian and divide it "
            "into different elements. Files are little-endian: convert them to native byte order, or to one dtype."
        )


def unpack(packed: Packed) -> dict[str, Any]:
    """Return the state: arrays that share memory as in `packed.aliases`, and the extra values, in order.

    The arrays in `packed.stored` are used directly, unless they have a layout. The aliases must be valid (check_view).
    """
    arrays = cast(dict[str, np.ndarray], dict(packed.stored))  # a state that was read has no deferred arrays
    for name, order in packed.layouts.items():
        inverse = tuple(int(axis) for axis in np.argsort(order))
        arrays[name] = np.ascontiguousarray(arrays[name].transpose(order)).transpose(inverse)
    views: dict[Alias, np.ndarray] = {}
    for name, alias in packed.aliases.items():
        kept = arrays[alias.kept]
        if alias.view is None:
            arrays[name] = kept
            continue
        if alias not in views:
            order = packed.layouts.get(alias.kept, tuple(range(kept.ndim)))
            views[alias] = rebuilt(kept.transpose(order), alias.view)
        arrays[name] = views[alias]
    state = arrays | packed.extra
    return {name: state[name] for name in packed.names}


def unpack_group(packed: Packed, kept: str, array: np.ndarray, names: list[str]) -> dict[str, np.ndarray]:
    """Return the arrays of names that share the memory of one stored array. array: that of `kept`, which was read."""
    aliases = {name: packed.aliases[name] for name in names if name in packed.aliases}
    layouts = {kept: packed.layouts[kept]} if kept in packed.layouts else {}
    return unpack(Packed(names, {kept: array}, aliases, layouts))


def rebuilt(memory: np.ndarray, view: View) -> np.ndarray:
    """Return a view of C-contiguous memory as an array."""
    raw = memory.reshape(-1).view(np.uint8)
    array = np.ndarray(view.shape, dtypes.numpy_dtype(view.dtype), raw.data, view.offset, view.strides)
    # Like numpy.broadcast_to: writing one element would change another.
    if repeats_elements(array):
        array.flags.writeable = False
    return array


def repeats_elements(array: np.ndarray) -> bool:
    """Return True if two elements may overlap: in no axis order does each step clear the axes inside it."""
    inner_span = array.itemsize
    for stride, length in sorted((abs(s), n) for s, n in zip(array.strides, array.shape, strict=True) if n > 1):
        if stride < inner_span:
            return True
        inner_span += stride * (length - 1)
    return False


def check_view(view: View, size_bytes: int) -> bool:
    """Return True if a view, which may come from a hostile file, stays within the `size_bytes` of its kept array."""
    itemsize = dtypes.numpy_dtype(view.dtype).itemsize
    if len(view.shape) != len(view.strides) or len(view.shape) > _MOST_AXES or any(n < 1 for n in view.shape):
        return False
    # The stride of an axis of length 1 does not matter, but NumPy has to hold it.
    if any(abs(stride) >= 1 << 63 for stride in view.strides):
        return False
    size = itemsize
    low, high = view.offset, view.offset + itemsize
    for length, stride in zip(view.shape, view.strides, strict=True):
        size *= length
        low, high = low + min(0, stride * (length - 1)), high + max(0, stride * (length - 1))
    return low >= 0 and high <= size_bytes and size < 2**63


def copied(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return copies of arrays that share memory with each other as the originals do."""
    packed = pack(arrays, {}, arrays)
    stored = {name: np.asarray(array) for name, array in packed.stored.items()}
    packed.stored = {name: np.array(dtypes.little_endian(array), order="C") for name, array in stored.items()}
    return unpack(packed)


def shares(a: np.ndarray, b: np.ndarray) -> bool:
    """Return True if two arrays have a byte of memory in common."""
    return len(sharing_groups({"a": a, "b": b})) == 1
