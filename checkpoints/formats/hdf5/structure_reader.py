"""Reading back a structure that hdf5_structure.py wrote, where the index at the end of a file is lost.

Anything else than what is written there is refused. Not for files of other writers.
"""

from __future__ import annotations

from struct import Struct
from struct import error as StructError
from typing import NamedTuple

from ...state import dtypes
from ...state.manifest import Tensor
from ...storage.source import Source
from ..entries import InvalidError
from .names import RESERVED, name_of
from .structure import dataset_header

_SUPERBLOCK = Struct("<8s32xQ32xQQ")  # signature, end of the file; of the root group the B-tree and the heap
_HEAP = Struct("<4s4xQ8xQ")
_TREE = Struct("<4sxBH16x")
_SYMBOL_NODE = Struct("<4s2xH")
_LINK = Struct("<QQ24x")
_GROUP = Struct("<BxHII4xHHB3xQQ")
_HEADER = Struct("<BxHII4x")
_GROUP_MESSAGE = 0x11
_DATASPACE = Struct("<HHB3xBBB5x")  # of an object header's first message, up to the shape
_PLACE = Struct("<QQ6x")
_MOST_AXES = 32


class Found(NamedTuple):
    """A dataset: what it holds, where, and the names that are linked to it, sorted."""

    tensor: Tensor
    offset: int
    names: list[str]


class Structure(NamedTuple):
    """size_bytes: of the file. datasets: of tensors, in the order of the state. tail: index and footer, as bytes."""

    size_bytes: int
    datasets: list[Found]
    tail: Found


def read_structure(source: Source) -> Structure:
    """Return what the structure at the head of a file says. Raises InvalidError if it is not as we write it."""
    try:
        return _Structure(source).read()
    except (EOFError, StructError, ValueError) as error:
        raise InvalidError("its HDF5 structure is cut off or damaged") from error


class _Structure:
    def __init__(self, source: Source) -> None:
        self._source = source
        self._seen: set[int] = set()
        self._paths: dict[int, list[tuple[str, ...]]] = {}  # by the address of the dataset's header
        self._tensors: dict[bytes, Tensor] = {}  # by that header

    def read(self) -> Structure:
        signature, size_bytes, tree, heap = _SUPERBLOCK.unpack(self._source.read(0, _SUPERBLOCK.size))
        if signature != b"\x89HDF\r\n\x1a\n":
            raise InvalidError("it is no HDF5 file")
        groups = [((), tree, heap)]
        while groups:
            groups += self._links(*groups.pop())
        datasets: list[Found] = []
        tail = None
        for address in sorted(self._paths):
            found = Found(*self._dataset(address), sorted(map(name_of, self._paths[address])))
            if self._paths[address] == [(RESERVED,)]:
                tail = found
            else:
                datasets.append(found)
        if tail is None:
            raise InvalidError(f"its HDF5 structure has no {RESERVED}")
        if sum(found.tensor.size_bytes for found in datasets) > tail.offset:
            raise InvalidError("its tensors overlap")
        return Structure(size_bytes, datasets, tail)

    def _unpack(self, struct: Struct, address: int) -> tuple[int, ...]:
        return struct.unpack(self._source.read(address, struct.size))

    def _links(self, path: tuple[str, ...], tree: int, heap: int) -> list[tuple[tuple[str, ...], int, int]]:
        """Note the datasets in a group, and return the groups in it."""
        signature, size_bytes, address = self._unpack(_HEAP, heap)
        if signature != b"HEAP":
            raise InvalidError("a group has no heap of names")
        names = self._source.read(address, size_bytes)
        groups = []
        for place, member in self._leaves(tree):
            inner = (*path, names[place : names.index(b"\0", place)].decode())
            _, count, _, _, kind, _, _, inner_tree, inner_heap = self._unpack(_GROUP, member)
            if (count, kind) == (1, _GROUP_MESSAGE):
                self._see(member)
                groups.append((inner, inner_tree, inner_heap))
            else:
                self._paths.setdefault(member, []).append(inner)
        return groups

    def _leaves(self, address: int) -> list[tuple[int, int]]:
        """Return the links in a B-tree: the place of the name in the heap, and the address of the object."""
        links, nodes = [], [address]
        while nodes:
            address = nodes.pop()
            self._see(address)
            head = self._source.read(address, 4)
            if head == b"SNOD":
                _, count = self._unpack(_SYMBOL_NODE, address)
                start = address + _SYMBOL_NODE.size
                links += _LINK.iter_unpack(self._source.read(start, count * _LINK.size))
            elif head == b"TREE":
                _, _, count = self._unpack(_TREE, address)
                keys_and_children = self._source.read(address + _TREE.size, 16 * count)
                nodes += [child for _, child in Struct("<QQ").iter_unpack(keys_and_children)]
            else:
                raise InvalidError("a group has no B-tree")
        return links

    def _see(self, address: int) -> None:
        """Raise InvalidError if a part of the structure is reached twice, as in a loop."""
        if address in self._seen:
            raise InvalidError("its HDF5 structure leads back to itself")
        self._seen.add(address)

    def _dataset(self, address: int) -> tuple[Tensor, int]:
        """Return what a dataset holds and where: its header is the one that we would write."""
        _, _, links, size_bytes = self._unpack(_HEADER, address)
        *_, axes, _ = self._unpack(_DATASPACE, address + _HEADER.size)
        if axes > _MOST_AXES:
            raise InvalidError("a dataset has too many axes")
        shape = self._unpack(Struct(f"<{axes}Q"), address + _HEADER.size + _DATASPACE.size)
        header = self._source.read(address, _HEADER.size + size_bytes)
        written, (offset, stored_bytes) = header[: -_PLACE.size], _PLACE.unpack(header[-_PLACE.size :])
        if written not in self._tensors:
            kinds = (dtype for dtype in dtypes.ITEM_BYTES if dataset_header(dtype, shape, links) == written)
            self._tensors[written] = Tensor(next(kinds, ""), shape)
        tensor = self._tensors[written]
        if not tensor.dtype or stored_bytes != tensor.size_bytes:
            raise InvalidError("a dataset is not as it was written")
        return tensor, offset if stored_bytes else 0
