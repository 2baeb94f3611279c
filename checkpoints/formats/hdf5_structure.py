"""The structure of an HDF5 file, made without libhdf5: groups, and datasets whose bytes follow it.

Written are the structures of HDF5 1.0 to 1.6 that every reader knows, all at multiples of 8 bytes:

    superblock     version 0, with a symbol table entry of the root group
    datasets       an object header (version 1) each: dataspace 1, datatype 1, fill value 2 (allocated early, never
                   written), for bfloat16 and float8 an attribute, data layout 3, contiguous; no times. Its reference
                   count is the number of links to it
    groups         innermost first, the root last; each a local heap of names, symbol table nodes with the links sorted
                   by name, the nodes of a B-tree (version 1) over them, and an object header with their places
    zeros          up to a multiple of 64, where the data start

Source: The HDF Group, "HDF5 File Format Specification Version 3.0", sections II.A, III.A.1, III.B to III.D, IV.A.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from struct import Struct, pack
from typing import NamedTuple, TypeAlias

from .. import dtypes
from ..manifest import Tensor

_ALIGNMENT_BYTES = 64
_SUPERBLOCK_BYTES = 96
_UNDEFINED = (1 << 64) - 1
# Half of the most links in a symbol table node, and of the most children in a node of a B-tree. Both are allotted in
# full, and most groups have one to four links (libhdf5's own 4 and 16 would treble the structure).
_LEAF_K, _INTERNAL_K = 2, 4


class Dataset(NamedTuple):
    """A tensor, where in the data its bytes are, and the paths of the links to it."""

    tensor: Tensor
    offset: int
    paths: Sequence[tuple[bytes, ...]]


def structure_of(datasets: Sequence[Dataset], data_bytes: int) -> bytes:
    """Return all that stands before the data in a file of these datasets. data_bytes: the size of all data."""
    members: _Members = {}
    headers = []
    address = _SUPERBLOCK_BYTES
    for tensor, _, paths in datasets:
        headers.append(_dataset_header(tensor.dtype, tensor.shape, len(paths)))
        for path in paths:
            _link(members, path, address)
        address += len(headers[-1]) + _PLACE.size
    groups = _Blocks(address)
    root = _add_group(groups, members)
    padding = bytes(-groups.end % _ALIGNMENT_BYTES)
    start = groups.end + len(padding)
    blocks = [_superblock(start + data_bytes, root)]
    for (tensor, offset, _), header in zip(datasets, headers, strict=True):
        size = tensor.size_bytes
        blocks += header, _PLACE.pack(start + offset if size else _UNDEFINED, size)
    return b"".join((*blocks, *groups.blocks, padding))


def _superblock(end: int, root: int) -> bytes:
    sizes = pack("<8B2HI", 0, 0, 0, 0, 0, 8, 8, 0, _LEAF_K, _INTERNAL_K, 0)
    return b"\x89HDF\r\n\x1a\n" + sizes + pack("<4Q", 0, _UNDEFINED, end, _UNDEFINED) + _SYMBOL.pack(0, root)


# --- groups

# What is in a group by name: the address of a dataset's header, or the members of a group in it.
_Members: TypeAlias = "dict[bytes, int | _Members]"
_SYMBOL = Struct("<QQ24x")  # place of the name in the heap, address of the object header; nothing cached
_SYMBOL_NODE = Struct("<4sBxH")
_HEAP = Struct("<4sB3xQQQ")
_TREE_NODE = Struct("<4sBBHQQ")
_TREE_NODE_BYTES = _TREE_NODE.size + (4 * _INTERNAL_K + 1) * 8
_NO_FREE_SPACE = 1  # libhdf5's H5HL_FREE_NULL


class _Blocks:
    """Blocks one after the other, and the address where they end."""

    def __init__(self, address: int) -> None:
        self.blocks: list[bytes] = []
        self.end = address

    def add(self, block: bytes) -> int:
        """Append a block and return its address."""
        address = self.end
        self.blocks.append(block)
        self.end += len(block)
        return address


def _link(members: _Members, path: tuple[bytes, ...], address: int) -> None:
    for part in path[:-1]:
        inner = members.setdefault(part, {})
        assert isinstance(inner, dict)  # paths_of gives no dataset the path of a group
        members = inner
    members[path[-1]] = address


def _add_group(blocks: _Blocks, members: _Members) -> int:
    """Append a group, after those in it, and return the address of its header."""
    names = sorted(members)
    addresses = []
    for name in names:
        member = members[name]
        addresses.append(member if isinstance(member, int) else _add_group(blocks, member))
    heap = [bytes(8)]  # the empty name, which is less than any
    places, end = [], 8
    for name in names:
        heap.append(name + bytes(8 - len(name) % 8))
        places.append(end)
        end += len(heap[-1])
    heap_address = blocks.add(_HEAP.pack(b"HEAP", 0, end, _NO_FREE_SPACE, blocks.end + _HEAP.size) + b"".join(heap))
    tree_address = _add_tree(blocks, _add_symbols(blocks, places, addresses))
    return blocks.add(_GROUP.pack(1, 1, 1, 24, 0x11, 16, 0, tree_address, heap_address))


def _add_symbols(blocks: _Blocks, places: list[int], addresses: list[int]) -> list[tuple[int, int]]:
    """Append the nodes with links and return the address of each and where its last name is."""
    nodes = []
    for first in range(0, len(places), 2 * _LEAF_K):
        part = slice(first, first + 2 * _LEAF_K)
        symbols = b"".join(map(_SYMBOL.pack, places[part], addresses[part]))
        count = len(places[part])
        node = _SYMBOL_NODE.pack(b"SNOD", 1, count) + symbols + bytes((2 * _LEAF_K - count) * _SYMBOL.size)
        nodes.append((blocks.add(node), places[part][-1]))
    return nodes


def _add_tree(blocks: _Blocks, children: list[tuple[int, int]], level: int = 0) -> int:
    """Append the nodes of a B-tree over children, addresses with their last key, and return the address of its root.

    The key before a child is less than all names in it, the key after it is its last name.
    """
    nodes = []
    before = 0
    for first in range(0, len(children), 2 * _INTERNAL_K):
        part = children[first : first + 2 * _INTERNAL_K]
        left = blocks.end - _TREE_NODE_BYTES if first else _UNDEFINED
        right = blocks.end + _TREE_NODE_BYTES if first + len(part) < len(children) else _UNDEFINED
        fields = [number for child in part for number in child]
        node = _TREE_NODE.pack(b"TREE", 0, level, len(part), left, right) + pack(
            f"<{1 + len(fields)}Q", before, *fields
        )
        before = part[-1][1]
        nodes.append((blocks.add(node + bytes(_TREE_NODE_BYTES - len(node))), before))
    return nodes[0][0] if len(nodes) == 1 else _add_tree(blocks, nodes, level + 1)


# --- headers of objects

_HEADER = Struct("<BxHII4x")  # version, number of messages, of links, bytes of the messages
_MESSAGE = Struct("<HHB3x")  # type, bytes, flags
_GROUP = Struct(_HEADER.format + _MESSAGE.format[1:] + "QQ")
_PLACE = Struct("<QQ6x")  # the end of the data layout: address and size
_CONSTANT = 1


@functools.lru_cache(1 << 12)
def _dataset_header(dtype: str, shape: tuple[int, ...], links: int) -> bytes:
    """Return the object header of a dataset up to the address of its data."""
    messages = [
        _message(0x01, pack(f"<BBB5x{len(shape)}Q", 1, len(shape), 0, *shape)),
        _message(0x03, _datatype(dtype), _CONSTANT),
        _message(0x05, pack("<4BI", 2, 1, 1, 1, 0), _CONSTANT),
    ]
    if dtype in dtypes.ML_DTYPES:
        messages.append(_message(0x0C, _text_attribute(b"dtype", dtypes.ML_DTYPES[dtype].encode())))
    messages.append(_MESSAGE.pack(0x08, 2 + _PLACE.size, 0) + b"\x03\x01")
    size = sum(map(len, messages)) + _PLACE.size
    return _HEADER.pack(1, len(messages), links, size) + b"".join(messages)


def _message(kind: int, body: bytes, flags: int = 0) -> bytes:
    body = _padded(body)
    return _MESSAGE.pack(kind, len(body), flags) + body


def _padded(body: bytes) -> bytes:
    return body + bytes(-len(body) % 8)


def _text_attribute(name: bytes, text: bytes) -> bytes:
    """Return the body of an attribute, a scalar text of fixed length (kind 3, padded with NUL)."""
    kind, space = pack("<B3BI", 0x13, 1, 0, 0, len(text)), pack("<BBB5x", 1, 0, 0)
    return pack("<BxHHH", 1, len(name) + 1, len(kind), len(space)) + _padded(name + b"\0") + kind + space + text


def _datatype(dtype: str) -> bytes:
    """Return the body of a datatype, as h5py has them: booleans are an enumeration, complex numbers a compound."""
    size = dtypes.ITEM_BYTES[dtype]
    return _DATATYPES[_kind_of(dtype)](size)


def _kind_of(dtype: str) -> str:
    return "opaque" if dtype in dtypes.ML_DTYPES else dtype.rstrip("0123456789")


def _integer(size: int, signed: bool) -> bytes:
    return pack("<B3BIHH", 0x10, signed << 3, 0, 0, size, 0, 8 * size)


def _float(size: int) -> bytes:
    exponent = {2: 5, 4: 8, 8: 11}[size]
    mantissa = 8 * size - 1 - exponent
    bits = pack("<HHBBBBI", 0, 8 * size, mantissa, exponent, 0, mantissa, (1 << (exponent - 1)) - 1)
    return pack("<B3BI", 0x11, 0x20, 8 * size - 1, 0, size) + bits


def _complex(size: int) -> bytes:
    half = _float(size // 2)
    real, imaginary = (
        _padded(name) + pack("<I28x", offset) + half for name, offset in ((b"r\0", 0), (b"i\0", size // 2))
    )
    return pack("<BHxI", 0x16, 2, size) + real + imaginary


def _boolean(size: int) -> bytes:
    return pack("<BHxI", 0x18, 2, size) + _integer(size, True) + _padded(b"FALSE\0") + _padded(b"TRUE\0") + b"\0\1"


def _opaque(size: int) -> bytes:
    return pack("<B3xI", 0x15, size)


_DATATYPES: dict[str, Callable[[int], bytes]] = {
    "BOOL": _boolean,
    "U": functools.partial(_integer, signed=False),
    "I": functools.partial(_integer, signed=True),
    "F": _float,
    "C": _complex,
    "opaque": _opaque,
}
