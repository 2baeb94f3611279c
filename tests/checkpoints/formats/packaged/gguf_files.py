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
