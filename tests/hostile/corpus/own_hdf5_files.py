"""Our HDF5 files with false claims in the index or the footer, and digests that match."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from corpus.hostile_file import ANYTHING, HostileFile
from xxhash import xxh3_128_hexdigest

from statezoo.checkpoints import save_file

DAMAGED = r"is damaged"
ENTRY = "not a dtype, a shape and two offsets"
_FOOTER = re.compile(rb"\nstatezoo\.hdf5 ([0-9a-f]{32}) ([0-9a-f]{16}) ([0-9a-f]{32}) ([0-9a-f]{16})\n\Z")

Change = Callable[[dict[str, Any]], object]


def _good(path: Path) -> tuple[bytes, bytes, bytes]:
    """Return the structure, the data and the index of one of our files."""
    weight = np.arange(6.0).reshape(2, 3)
    save_file({"w": weight, "b": np.arange(3.0), "v": weight.T}, path, {"k": "v"})
    content = path.read_bytes()
    footer = _FOOTER.search(content)
    assert footer is not None
    start, index = int(footer[2], 16), footer.start() - int(footer[4], 16)
    return content[:start], content[start:index], content[index : footer.start()]


def _footer(structure: bytes, index: bytes) -> bytes:
    digests = xxh3_128_hexdigest(structure), xxh3_128_hexdigest(index)
    return f"\nstatezoo.hdf5 {digests[0]} {len(structure):016x} {digests[1]} {len(index):016x}\n".encode()


def _with_index(change: Change) -> Callable[[Path], object]:
    def make(path: Path) -> None:
        structure, data, index = _good(path)
        content = json.loads(index)
        change(content)
        index = json.dumps(content).encode()
        path.write_bytes(structure + data + index + _footer(structure, index))

    return make


def _with_text(index: bytes) -> Callable[[Path], object]:
    def make(path: Path) -> None:
        structure, data, _ = _good(path)
        path.write_bytes(structure + data + index + _footer(structure, index))

    return make


def _with_footer(pattern: bytes, replacement: bytes) -> Callable[[Path], object]:
    def make(path: Path) -> None:
        _good(path)
        content = path.read_bytes()
        changed = content[:-115] + re.sub(pattern, replacement, content[-115:])
        assert changed != content
        path.write_bytes(changed)

    return make


def _swapped_data(path: Path) -> None:
    structure, data, index = _good(path)
    path.write_bytes(structure + data[::-1] + index + _footer(structure, index))


def _entry(name: str, **fields: Any) -> Change:
    return lambda index: index["tensors"][name].update(fields)


INDEXES: dict[str, tuple[Change, str | None]] = {
    "offsets before the data": (_entry("w", data_offsets=[-48, 0]), ENTRY),
    "offsets in the structure": (_entry("w", data_offsets=[-8, 40]), ENTRY),
    "offsets in the index": (_entry("w", data_offsets=[40, 88]), "gap or overlap"),
    "offsets beyond 64 bits in our file": (_entry("w", data_offsets=[1 << 70, (1 << 70) + 48]), ANYTHING),
    "offsets over each other": (_entry("b", data_offsets=[0, 24]), "gap or overlap"),
    "offsets the wrong way": (_entry("w", data_offsets=[48, 0]), "its entry gives it -48"),
    "a shape larger than its place": (_entry("w", shape=[1 << 40]), "and its entry gives it 48"),
    "a shape of a product of thousands of digits": (_entry("w", shape=[(1 << 62)] * 900), ANYTHING),
    "a dtype that is unknown": (_entry("w", dtype="O"), "an unknown dtype"),
    # Valid, and not what was written: digests are not signatures.
    "another dtype of the same size": (_entry("w", dtype="I64"), None),
    "another shape of the same size": (_entry("w", shape=[3, 2]), None),
    "tensors that change places": (
        lambda i: i.update(tensors={"w": i["tensors"]["w"], "c": i["tensors"]["b"]}), None
    ),
    "metadata that were changed": (lambda i: i.update(metadata={"k": "w"}), None),
    "an index without tensors": (lambda i: i.pop("tensors"), "no manifest or no tensors"),
    "an index without a manifest": (lambda i: i.pop("manifest"), "no manifest or no tensors"),
    "an index without a version": (lambda i: i.pop("version"), "has no version"),
    "an index of version true": (lambda i: i.update(version=True), "has no version"),
    "an index of version one": (lambda i: i.update(version=1), "has no version"),
    "an index of a newer version": (lambda i: i.update(version=4), "newer statezoo"),
    "an index of a huge version": (lambda i: i.update(version=10**4000), "newer statezoo"),
    "an invalid manifest in our file": (lambda i: i.update(manifest="{}"), "its manifest"),
    "metadata that are numbers": (lambda i: i.update(metadata={"k": 1}), "not strings by name"),
}  # fmt: skip

TEXTS = {
    "an index that is no JSON": b"\xff\xfe",
    "an index that is a list": b"[]",
    "an index that is nothing": b"",
    "an index a hundred thousand deep": b'{"tensors":' * 100_000,
    "an index of a million entries": b"{" + b",".join(b'"%x":0' % n for n in range(1_000_000)) + b"}",
}

FOOTERS = {
    "a footer of a longer index": (rb"[0-9a-f]{16}\n\Z", b"00000000000fffff\n"),
    "a footer of the longest index": (rb"[0-9a-f]{16}\n\Z", b"ffffffffffffffff\n"),
    "a footer of no index": (rb"[0-9a-f]{16}\n\Z", b"0000000000000000\n"),
    "a footer of a long structure": (rb" [0-9a-f]{16} ", b" ffffffffffffffff "),
    "a footer of no structure": (rb" [0-9a-f]{16} ", b" 0000000000000000 "),
    "a footer of another structure": (rb"hdf5 [0-9a-f]{4}", b"hdf5 0bad"),
    "a footer in capitals": (rb"hdf5 [0-9a-f]{4}", b"hdf5 ABCD"),
    "a footer of another name": (rb"statezoo", b"statezoO"),
}

FILES = [
    *(HostileFile(title, ".h5", _with_index(change), cause) for title, (change, cause) in INDEXES.items()),
    *(HostileFile(title, ".h5", _with_text(text), DAMAGED) for title, text in TEXTS.items()),
    *(HostileFile(title, ".h5", _with_footer(*change), ANYTHING) for title, change in FOOTERS.items()),
    HostileFile("data that were swapped", ".h5", _swapped_data, "the bytes of these tensors", only_data=True),
]
