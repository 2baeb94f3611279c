"""The structure of an HDF5 file, written without libhdf5: groups, and datasets whose bytes follow it.

It uses the structures of HDF5 1.6, which every reader supports, all at multiples of 8 bytes:

    superblock     version 0, with a symbol table entry of the root group
    texts          in a file for Keras, a global heap with the values of attributes (see heap.py)
    datasets       an object header (version 1) each: dataspace 1, datatype 1, fill value 2 (allocated early, never
                   written), for bfloat16 and float8 an attribute, data layout 3, contiguous; no times. Its reference
                   count is the number of links to it
    groups         innermost first, the root last; each a local heap of names, symbol table nodes with the links sorted
                   by name, the nodes of a B-tree (version 1) over them, and an object header with their places. A link
                   to a group repeats these places, as libhdf5 writes it and as some readers need it
    zeros          up to a multiple of 64, where the data start

Source: The HDF Group, "HDF5 File Format Specification Version 3.0", sections II.A, III.A.1, III.B to III.D, IV.A.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from struct import Struct, pack
from typing import NamedTuple, TypeAlias

from ....state import dtypes
from ....state.manifest import TensorSpec
from .heap import Heap

_ALIGNMENT_BYTES = 64
_SUPERBLOCK_BYTES = HEAP_ADDRESS = 96
_UNDEFINED = (1 << 64) - 1
# Half of the most links in a symbol table node, and of the most children in a B-tree node. Every node takes its full
# size, and most groups have one to four links: libhdf5's own 4 and 16 would nearly double the structure.
_LEAF_K, _INTERNAL_K = 2, 4


class Dataset(NamedTuple):
    """A tensor, the offset of its bytes in the data, and the paths of the links to it."""

    tensor: TensorSpec
    offset: int
    paths: list[tuple[bytes, ...]]


def structure_of(
    datasets: Sequence[Dataset], data_bytes: int, names: Mapping[tuple[bytes, ...], bytes] | None = None
) -> bytes:
    """Return everything before the data in a file of these datasets. data_bytes: the size of all data.

    names: the paths of groups, each with its attribute `name`. If given, even if empty, bfloat16 is marked as by Keras.
    """
    members: _Members = {}
    headers = []
    heap = Heap([] if names is None else [_BF16, *names.values()], HEAP_ADDRESS)
    marks = dict(_MARKS) if names is None else _MARKS | {"BF16": _message(0x0C, heap.attribute(b"dtype", _BF16))}
    end = _SUPERBLOCK_BYTES + len(heap.content)
    for tensor, _, paths in datasets:
        headers.append(dataset_header(tensor.dtype, tensor.shape, len(paths), marks.get(tensor.dtype, b"")))
        for path in paths:
            _link(members, path, end)
        end += len(headers[-1]) + _PLACE.size
    file = bytearray(end)
    attributes = {
        id(_members_at(members, path)): _message(0x0C, heap.attribute(b"name", name))
        for path, name in (names or {}).items()
    }
    root = _add_group(file, members, attributes)
    symbol_table = bytes(file[-_SYMBOL_TABLE.size :])
    file += bytes(-len(file) % _ALIGNMENT_BYTES)
    blocks = [_superblock(len(file) + data_bytes, root, symbol_table), heap.content]
    for (tensor, offset, _), header in zip(datasets, headers, strict=True):
        size = tensor.size_bytes
        blocks += header, _PLACE.pack(len(file) + offset if size else _UNDEFINED, size)
    file[:end] = b"".join(blocks)
    return bytes(file)


def _superblock(end: int, root: int, symbol_table: bytes) -> bytes:
    sizes = pack("<8B2HI", 0, 0, 0, 0, 0, 8, 8, 0, _LEAF_K, _INTERNAL_K, 0)
    # The symbol table of the root: libhdf5 would write it here as soon as it opens the file for writing.
    entry = pack("<QQII", 0, root, 1, 0) + symbol_table
    return b"\x89HDF\r\n\x1a\n" + sizes + pack("<4Q", 0, _UNDEFINED, end, _UNDEFINED) + entry


# --- groups

# The members of a group by name: the address of a dataset's header, or the members of a nested group.
_Members: TypeAlias = "dict[bytes, int | _Members]"
_HEAP = Struct("<4sB3xQQQ")
_NO_FREE_SPACE = 1  # libhdf5's H5HL_FREE_NULL
_PADDING = [bytes(8 - rest) for rest in range(8)]  # after a name of a length that leaves this rest
# Place of the name in the heap, address of the object header, what is cached, and, of a group, its B-tree and heap.
_LINK = "5Q"
_LINK_FIELDS = 5
_NO_CACHE, _CACHED_TABLE = 0, 1
_SYMBOL_TABLE = Struct("<QQ")  # addresses of the B-tree and of the heap
_SYMBOL_NODES = [Struct(f"<4sBxH{_LINK * n}{40 * (2 * _LEAF_K - n)}x") for n in range(2 * _LEAF_K + 1)]
_TREE_NODES = [Struct(f"<4sBBHQQ{2 * n + 1}Q{16 * (2 * _INTERNAL_K - n)}x") for n in range(2 * _INTERNAL_K + 1)]


def _link(members: _Members, path: tuple[bytes, ...], address: int) -> None:
    _members_at(members, path[:-1])[path[-1]] = address


def _members_at(members: _Members, path: tuple[bytes, ...]) -> _Members:
    """Return the members of a group, which is added if it is missing."""
    for part in path:
        inner = members.setdefault(part, {})
        assert isinstance(inner, dict)  # paths_of gives no dataset the path of a group
        members = inner
    return members


def _add_group(file: bytearray, members: _Members, attributes: Mapping[int, bytes]) -> int:
    """Append a group after its nested groups. Return the address of its header, which ends with its symbol table.

    attributes: a message for some groups, by the id of their members.
    """
    heap = bytearray(8)  # the empty name, which sorts before any other
    links: list[int] = []
    for name in sorted(members):
        member = members[name]
        if isinstance(member, int):
            links += len(heap), member, _NO_CACHE, 0, 0
        else:
            address = _add_group(file, member, attributes)
            links += len(heap), address, _CACHED_TABLE, *_SYMBOL_TABLE.unpack(file[-_SYMBOL_TABLE.size :])
        heap += name
        heap += _PADDING[len(name) % 8]
    address = len(file)
    file += _HEAP.pack(b"HEAP", 0, len(heap), _NO_FREE_SPACE, address + _HEAP.size)
    file += heap
    tree = _add_tree(file, links)
    header, attribute = len(file), attributes.get(id(members), b"")
    file += _HEADER.pack(1, 2 if attribute else 1, 1, len(attribute) + _TABLE.size)
    file += attribute
    file += _TABLE.pack(0x11, _SYMBOL_TABLE.size, 0, tree, address)
    return header


def _add_tree(file: bytearray, links: list[int]) -> int:
    """Append the nodes with links (five fields each) and a B-tree over them. Return the address of its root.

    The key before a child sorts before all names in it; the key after it is the last name in it.
    """
    count = len(links) // _LINK_FIELDS
    if not count:
        file += _TREE_NODES[0].pack(b"TREE", 0, 0, 0, _UNDEFINED, _UNDEFINED, 0)
        return len(file) - _TREE_NODES[0].size
    if count <= 2 * _LEAF_K:  # true of nearly all groups; the general code takes three times as long
        node = len(file)
        file += _SYMBOL_NODES[count].pack(b"SNOD", 1, count, *links)
        file += _TREE_NODES[1].pack(b"TREE", 0, 0, 1, _UNDEFINED, _UNDEFINED, 0, node, links[-_LINK_FIELDS])
        return node + _SYMBOL_NODES[0].size
    nodes = _add_symbol_nodes(file, links)
    level = 0
    while level == 0 or len(nodes) > 2:
        nodes = _add_tree_level(file, nodes, level)
        level += 1
    return nodes[0]


def _add_symbol_nodes(file: bytearray, links: list[int]) -> list[int]:
    """Append the nodes that hold links. Return the address and the place of the last name of each, alternating."""
    nodes: list[int] = []
    for first in range(0, len(links), 2 * _LEAF_K * _LINK_FIELDS):
        part = links[first : first + 2 * _LEAF_K * _LINK_FIELDS]
        count = len(part) // _LINK_FIELDS
        nodes += len(file), part[-_LINK_FIELDS]
        file += _SYMBOL_NODES[count].pack(b"SNOD", 1, count, *part)
    return nodes


def _add_tree_level(file: bytearray, children: list[int], level: int) -> list[int]:
    """Append the nodes above children (address, place of the last name, ...). Return the same for the new nodes."""
    nodes: list[int] = []
    before = 0
    for first in range(0, len(children), 4 * _INTERNAL_K):
        part = children[first : first + 4 * _INTERNAL_K]
        count = len(part) // 2
        left = len(file) - _TREE_NODES[0].size if first else _UNDEFINED
        right = len(file) + _TREE_NODES[0].size if first + len(part) < len(children) else _UNDEFINED
        nodes += len(file), part[-1]
        file += _TREE_NODES[count].pack(b"TREE", 0, level, count, left, right, before, *part)
        before = part[-1]
    return nodes


# --- headers of objects

_HEADER = Struct("<BxHII4x")  # version, number of messages, of links, bytes of the messages
_MESSAGE = Struct("<HHB3x")  # type, bytes, flags
_TABLE = Struct(_MESSAGE.format + "QQ")  # the message with the symbol table of a group
_PLACE = Struct("<QQ6x")  # the end of the data layout: address and size
_CONSTANT = 1


@functools.lru_cache(1 << 12)
def dataset_header(dtype: str, shape: tuple[int, ...], links: int, mark: bytes) -> bytes:
    """Return the object header of a dataset up to the address of its data. mark: the message with its attribute."""
    messages = [
        _message(0x01, pack(f"<BBB5x{len(shape)}Q", 1, len(shape), 0, *shape)),
        _message(0x03, _datatype(dtype), _CONSTANT),
        _message(0x05, pack("<4BI", 2, 1, 1, 1, 0), _CONSTANT),
    ]
    if mark:
        messages.append(mark)
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


# The messages that mark opaque elements as numbers, by dtype.
_BF16 = dtypes.ML_DTYPES["BF16"].encode()
_MARKS = {dtype: _message(0x0C, _text_attribute(b"dtype", name.encode())) for dtype, name in dtypes.ML_DTYPES.items()}


def _datatype(dtype: str) -> bytes:
    """Return the body of a datatype as h5py writes it: booleans are an enumeration, complex numbers a compound."""
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
