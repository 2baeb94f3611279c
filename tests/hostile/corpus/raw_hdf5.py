"""HDF5 structures that no library would write, byte by byte: groups a million deep or wide.

Source: HDF5 File Format Specification, version 3.0: superblock version 0, object headers version 1, symbol tables.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

UNDEFINED = b"\xff" * 8


def u2(number: int) -> bytes:
    return number.to_bytes(2, "little")


def u4(number: int) -> bytes:
    return number.to_bytes(4, "little")


def u8(number: int) -> bytes:
    return number.to_bytes(8, "little")


def superblock(end: int, root: int, leaf_k: int, internal_k: int) -> bytes:
    """Return the first 96 bytes of a file."""
    entry = u8(0) + u8(root) + u4(0) + u4(0) + bytes(16)
    return (
        b"\x89HDF\r\n\x1a\n" + bytes(5) + b"\x08\x08\0" + u2(leaf_k) + u2(internal_k) + u4(0)
        + u8(0) + UNDEFINED + u8(end) + UNDEFINED + entry
    )  # fmt: skip


def message(kind: int, content: bytes) -> bytes:
    return u2(kind) + u2(len(content)) + b"\0\0\0\0" + content


def object_header(*messages: bytes) -> bytes:
    content = b"".join(messages)
    return b"\1\0" + u2(len(messages)) + u4(1) + u4(len(content)) + bytes(4) + content


def group_header(tree: int, heap: int) -> bytes:
    """Return the 40 bytes of a group."""
    return object_header(message(0x11, u8(tree) + u8(heap)))


def tree(children: list[int], keys: list[int], internal_k: int) -> bytes:
    """Return a node of a tree of links: children are the addresses of symbol nodes, keys offsets of names."""
    body = b"".join(u8(key) + u8(child) for key, child in zip(keys, children, strict=False)) + u8(keys[-1])
    length = (2 * internal_k + 1) * 8 + 2 * internal_k * 8
    return b"TREE\0\0" + u2(len(children)) + UNDEFINED * 2 + body.ljust(length, b"\0")


def heap(address: int, names: bytes) -> bytes:
    """Return a heap of names at `address`, followed by its data."""
    return b"HEAP\0\0\0\0" + u8(len(names)) + u8(1) + u8(address + 32) + names


def dataset_header(offset: int) -> bytes:
    """Return the header of a contiguous dataset of one uint8 at offset."""
    space = b"\1\1\0\0" + bytes(4) + u8(1)
    kind = b"\x10\0\0\0" + u4(1) + u2(0) + u2(8) + bytes(4)
    layout = b"\3\1" + u8(offset) + u8(1) + bytes(6)
    return object_header(message(1, space), message(3, kind), message(8, layout))


def write_deep(path: Path, depth: int) -> None:
    """Write groups nested `depth` deep, each named g, which share one heap of names."""
    names = bytes(8) + b"g".ljust(8, b"\0")
    first = 96 + 32 + len(names)
    # A group, its tree and its symbol node, which has room for two links.
    node_offset, link_offset = 40 + 24 + 5 * 8, 40 + 24 + 5 * 8 + 8
    stride = link_offset + 2 * 40
    one = group_header(0, 96) + tree([0], [0, 8], 1) + b"SNOD\1\0" + u2(1) + bytes(80)
    groups = np.tile(np.frombuffer(one, "u1"), (depth, 1))
    starts = first + stride * np.arange(depth, dtype="<u8")
    _put(groups, 24, starts + 40)
    _put(groups, 40 + 24 + 8, starts + node_offset)
    _put(groups, link_offset, np.full(depth, 8, "<u8"))
    _put(groups, link_offset + 8, np.append(starts[1:], np.uint64(first)))
    with path.open("wb") as file:
        file.write(superblock(first + stride * depth, first, 1, 1) + heap(96, names))
        groups.tofile(file)


def write_wide(path: Path, width: int) -> None:
    """Write a group with that many links, all to one dataset."""
    leaf_k, internal_k, header = 30_000, 32, 96
    per_node = 2 * leaf_k
    names = np.zeros((width + 1, 8), "u1")
    names[1:, :7] = np.array([list(b"%07d" % n) for n in range(width)], "u1")
    tree_at = header + 40
    data = dataset_header(0)
    dataset_at = tree_at + 24 + (4 * internal_k + 1) * 8
    heap_at = dataset_at + len(data) + 8
    first = heap_at + 32 + names.nbytes
    stride = 8 + per_node * 40
    counts = [min(per_node, width - start) for start in range(0, width, per_node)]
    keys = [0, *(8 * sum(counts[: n + 1]) for n in range(len(counts)))]
    nodes = [first + stride * n for n in range(len(counts))]
    end = first + stride * len(counts)
    with path.open("wb") as file:
        file.write(superblock(end, header, leaf_k, internal_k) + group_header(tree_at, heap_at))
        file.write(tree(nodes, keys, internal_k) + dataset_header(heap_at - 8) + bytes(8))
        file.write(heap(heap_at, names.tobytes()))
        for number, count in enumerate(counts):
            links = np.zeros((per_node, 5), "<u8")
            links[:count, 0] = 8 * (1 + number * per_node + np.arange(count))
            links[:count, 1] = dataset_at
            file.write(b"SNOD\1\0" + u2(count) + links.tobytes())


def _put(rows: np.ndarray, column: int, numbers: np.ndarray) -> None:
    """Put a number of eight bytes into each row."""
    rows[:, column : column + 8] = numbers.astype("<u8").view("u1").reshape(-1, 8)
