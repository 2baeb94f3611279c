"""GGUF files made byte by byte, so that they may be wrong."""

import struct
from collections.abc import Sequence
from typing import Any

TEXT, LIST = 8, 9
NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


def text(value: str | bytes, order: str = "<") -> bytes:
    content = value if isinstance(value, bytes) else value.encode()
    return struct.pack(f"{order}Q", len(content)) + content


def value(key: str | bytes, kind: int, content: Any, order: str = "<") -> bytes:
    """Return a value. content: a number, a text, or the bytes of anything else."""
    if kind in NUMBERS and not isinstance(content, bytes):
        content = struct.pack(f"{order}{NUMBERS[kind]}", content)
    elif kind == TEXT and isinstance(content, str):
        content = text(content, order)
    return text(key, order) + struct.pack(f"{order}I", kind) + content


def tensor(name: str | bytes, lengths: Sequence[int], kind: int, offset: int, order: str = "<") -> bytes:
    """Return the entry of a tensor. lengths: as in the file, the fastest axis first."""
    shape = struct.pack(f"{order}I{len(lengths)}Q", len(lengths), *lengths)
    return text(name, order) + shape + struct.pack(f"{order}IQ", kind, offset)


def gguf(
    values: Sequence[bytes] = (),
    tensors: Sequence[bytes] = (),
    data: bytes = b"",
    *,
    version: int = 3,
    counts: tuple[int, int] | None = None,
    alignment: int = 32,
    order: str = "<",
) -> bytes:
    """Return a file. counts: the numbers of tensors and values that it claims to have."""
    counts = counts or (len(tensors), len(values))
    header = b"GGUF" + struct.pack(f"{order}I2Q", version, *counts) + b"".join(values) + b"".join(tensors)
    return header + bytes(-len(header) % alignment) + data


# Files that are not valid, and a part of what the error says.
HUGE = 1 << 60
NESTED = b"".join(b"\x09\0\0\0" + (1).to_bytes(8, "little") for _ in range(9))
HOSTILE: dict[str, tuple[bytes, str]] = {
    "many values": (gguf(counts=(0, HUGE)), "reaches beyond the end"),
    "many tensors": (gguf(counts=(HUGE, 0)), "reaches beyond the end"),
    "a long key": (gguf([text(b"x" * 8)[:8].replace(b"\x08", b"\xff") * 3]), "reaches beyond the end"),
    "a long text": (gguf([value("k", TEXT, b"\xff" * 7 + b"\0")]), "reaches beyond the end"),
    "a long list of numbers": (gguf([value("k", LIST, b"\0" * 4 + b"\xff" * 8)]), "reaches beyond the end"),
    "a long list of texts": (gguf([value("k", LIST, b"\x08" + b"\0" * 3 + b"\xff" * 8)]), "reaches beyond the end"),
    "lists in lists": (gguf([value("k", LIST, NESTED)]), "has the type 9, which GGUF does not have"),
    "an unknown type of value": (gguf([value("k", 77, b"")]), "has the type 77, which GGUF does not have"),
    "an unknown type in a list": (gguf([value("k", LIST, b"\x4d" + b"\0" * 3 + b"\1" + bytes(7))]), "the type 77"),
    "a key twice": (gguf([value("k", 4, 1)] * 2), "the value 'k' occurs twice"),
    "a tensor twice": (gguf([], [tensor("x", [1], 24, 0)] * 2, b"12"), "the tensor 'x' occurs twice"),
    "a key that is no text": (gguf([value(b"\xff", 4, 1)]), "is not UTF-8"),
    "a name that is no text": (gguf([], [tensor(b"\xff\xfe", [1], 24, 0)], b"1"), "is not UTF-8"),
    "many axes": (gguf([], [tensor("x", [1] * 33, 24, 0)], b"1"), "has 33 axes"),
    "a tensor beyond the end": (gguf([], [tensor("x", [9], 24, 0)], b"12345678"), "reaches beyond the end of the file"),
    "an offset beyond the end": (gguf([], [tensor("x", [1], 24, 1 << 63)], b"1"), "reaches beyond the end of the file"),
    "a huge shape": (gguf([], [tensor("x", [1 << 63] * 4, 24, 0)], b"1"), "reaches beyond the end of the file"),
    "the same bytes twice": (
        gguf([], [tensor("x", [4], 24, 0), tensor("y", [4], 24, 2)], bytes(8)),
        "'y' has bytes that belong to another tensor",
    ),
    "half a block": (gguf([], [tensor("x", [33], 8, 0)], bytes(68)), "not whole blocks of 32 elements"),
    "an alignment of zero": (gguf([value("general.alignment", 4, 0)]), "its alignment is 0, not a power of two"),
    "an odd alignment": (gguf([value("general.alignment", 4, 24)]), "its alignment is 24, not a power of two"),
    "a text as alignment": (gguf([value("general.alignment", TEXT, "32")]), "its alignment is '32'"),
    "no version": (b"GGUF", "reaches beyond the end"),
}  # fmt: skip
