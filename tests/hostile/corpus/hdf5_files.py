"""Foreign HDF5 files that lead out of the file, in circles, or to more than memory holds."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from corpus import raw_hdf5
from corpus.hostile_file import ANYTHING, HostileFile
from h5py import h5d, h5p, h5s, h5t  # pyright: ignore[reportAttributeAccessIssue]

ELSEWHERE = "soft or external link|other files"
UNSUPPORTED = "it holds|it is an empty dataspace"
TOO_MUCH = "far more than the file has"
DAMAGED = r"is damaged|is not a valid HDF5 file"
DEEP, WIDE = 1_000_000, 100_000
# Offsets in the file of _patched.
END, ROOT_HEADER, TREE, HEAP, FREE, DATASET, SYMBOLS = 40, 96, 136, 680, 728, 800, 1072

Fill = Callable[[Any, Path], object]


def _with_h5py(fill: Fill, libver: str | None = None) -> Callable[[Path], object]:
    """Return a function that makes a file with a good dataset and whatever `fill` adds to it."""

    def make(path: Path) -> None:
        with h5py.File(path, "w", libver=libver) as file:
            file["good"] = np.arange(3.0)
            fill(file, path)

    return make


def _trap(path: Path) -> str:
    """Make a named pipe next to `path` and return its name. Following a link to it hangs, which a test detects."""
    trap = path.with_suffix(".trap")
    os.mkfifo(trap)
    return trap.name


def _external_link(file: Any, path: Path) -> None:
    file["x"] = h5py.ExternalLink(_trap(path), "/x")


def _external_storage(file: Any, path: Path) -> None:
    file.create_dataset("x", (4,), "u1", external=[(_trap(path), 0, 4)])


def _virtual(file: Any, path: Path) -> None:
    layout = h5py.VirtualLayout((4,), "u1")
    layout[:] = h5py.VirtualSource(_trap(path), "x", (4,))
    file.create_virtual_dataset("x", layout)


def _virtual_of_itself(file: Any, path: Path) -> None:
    layout = h5py.VirtualLayout((4,), "u1")
    layout[:] = h5py.VirtualSource(".", "x", (4,))
    file.create_virtual_dataset("x", layout)


def _cycle(file: Any, path: Path) -> None:
    file["a/b/c/d"] = 1.0
    file["a/b/c/up"] = file["a"]


def _groups(depth: int) -> Fill:
    def fill(file: Any, path: Path) -> None:
        for _ in range(depth):
            file = file.create_group("g")
        file["x"] = np.ones(2)

    return fill


def _chunked(length: int, chunk: int) -> Fill:
    return lambda file, path: file.create_dataset("x", (length,), "u1", chunks=(chunk,))


def _never_written(file: Any, path: Path) -> None:
    properties = h5p.create(h5p.DATASET_CREATE)
    properties.set_alloc_time(h5d.ALLOC_TIME_LATE)
    h5d.create(file.id, b"x", h5t.IEEE_F64LE, h5s.create_simple((1 << 45,)), properties)


def _wide_type(file: Any, path: Path) -> None:
    file.create_dataset("x", (1 << 20,), np.dtype(("u1", (1 << 20,))), chunks=(1,))


def deflated_zeros(size_bytes: int) -> bytes:
    """Return a zlib stream of `size_bytes` zeros, a multiple of 16 MiB, without compressing them all."""
    block = 16 << 20
    packer = zlib.compressobj(9, wbits=-15)
    first = packer.compress(bytes(block)) + packer.flush(zlib.Z_FULL_FLUSH)
    checksum = (size_bytes % 65521) << 16 | 1
    return b"\x78\xda" + first * (size_bytes // block) + b"\3\0" + checksum.to_bytes(4, "big")


def _bomb(claimed: int, chunk: int, *filters: int) -> Fill:
    """Return a function that adds one chunk that unpacks to a gibibyte, whatever size it claims."""

    def fill(file: Any, path: Path) -> None:
        properties = h5p.create(h5p.DATASET_CREATE)
        properties.set_chunk((chunk,))
        packed = deflated_zeros(1 << 30)
        for number, code in enumerate(filters):
            properties.set_filter(code, h5py.h5z.FLAG_OPTIONAL, (9,))
            packed = zlib.compress(packed, 9) if number else packed
        dataset = h5d.create(file.id, b"x", h5t.STD_U8LE, h5s.create_simple((claimed,)), properties)
        dataset.write_direct_chunk((0,), packed)

    return fill


def _raw_chunk(content: bytes, **options: Any) -> Fill:
    def fill(file: Any, path: Path) -> None:
        dataset = file.create_dataset("x", (64,), "f8", chunks=(64,), **options)
        dataset.id.write_direct_chunk((0,), content)

    return fill


def _unknown_filter(file: Any, path: Path) -> None:
    properties = h5p.create(h5p.DATASET_CREATE)
    properties.set_chunk((4,))
    properties.set_filter(32999, h5py.h5z.FLAG_OPTIONAL, ())
    dataset = h5d.create(file.id, b"x", h5t.STD_U8LE, h5s.create_simple((4,)), properties)
    dataset.write_direct_chunk((0,), b"1234")


def _dataset(values: Any, dtype: Any = None) -> Fill:
    return lambda file, path: file.create_dataset("x", data=values, dtype=dtype)


def _references(file: Any, path: Path) -> None:
    file.create_dataset("x", data=[file["good"].ref, file.ref], dtype=h5py.ref_dtype)


def _region_references(file: Any, path: Path) -> None:
    file.create_dataset("x", data=[file["good"].regionref[0:2]], dtype=h5py.regionref_dtype)


def _time(file: Any, path: Path) -> None:
    h5d.create(file.id, b"x", h5t.UNIX_D64LE, h5s.create_simple((4,)))


def _odd_integer(file: Any, path: Path) -> None:
    kind = h5t.STD_I32LE.copy()
    kind.set_precision(31)
    h5d.create(file.id, b"x", kind, h5s.create_simple((4,)))


def _many_attributes(file: Any, path: Path) -> None:
    for number in range(2000):
        file["good"].attrs[f"{number:05}"] = np.zeros(400)


def _two_of_one_name(file: Any, path: Path) -> None:
    file["a.b"], file["a/b"] = 1.0, 2.0


def _name_of_no_text(file: Any, path: Path) -> None:
    file[b"\xff\xfe"] = np.ones(2)


def _patched(*patches: tuple[int, bytes], cut: int | None = None) -> Callable[[Path], object]:
    """Return a function that makes a file with one dataset and overwrites bytes at given offsets."""

    def make(path: Path) -> None:
        with h5py.File(path, "w", libver=("earliest", "v108")) as file:
            file["x"] = np.arange(2.0)
        content = bytearray(path.read_bytes())
        assert content[TREE:].startswith(b"TREE")
        assert content[SYMBOLS:].startswith(b"SNOD")
        for offset, replacement in patches:
            content[offset : offset + len(replacement)] = replacement
        path.write_bytes(content[:cut])

    return make


def _looping_heap(path: Path) -> None:
    """Make opaque elements whose attribute is a string in a heap that has an object of no size."""
    with h5py.File(path, "w", libver="earliest") as file:
        file["x"] = np.zeros(4, "V2")
        file["x"].attrs["dtype"] = "bfloat16"
    content = bytearray(path.read_bytes())
    heap = content.index(b"GCOL")
    content[heap + 16 : heap + 32] = raw_hdf5.u2(9) + raw_hdf5.u2(1) + bytes(4) + raw_hdf5.u8(0)
    path.write_bytes(content)


u2, u4, u8 = raw_hdf5.u2, raw_hdf5.u4, raw_hdf5.u8
SPACE, KIND = DATASET + 16, DATASET + 48
H5PY: dict[str, tuple[Fill, str | None]] = {
    # Out of the file, and in circles.
    "external link": (_external_link, ELSEWHERE),
    "external link to itself": (lambda f, p: f.__setitem__("x", h5py.ExternalLink(p.name, "/x")), ELSEWHERE),
    "external storage": (_external_storage, ELSEWHERE),
    "virtual dataset": (_virtual, ELSEWHERE),
    "virtual dataset of itself": (_virtual_of_itself, ELSEWHERE),
    "soft link": (lambda f, p: f.__setitem__("x", h5py.SoftLink("/good")), ELSEWHERE),
    "soft link to itself": (lambda f, p: f.__setitem__("x", h5py.SoftLink("/x")), ELSEWHERE),
    "soft link to nothing": (lambda f, p: f.__setitem__("x", h5py.SoftLink("/nothing")), ELSEWHERE),
    "group in itself": (_cycle, "is a second link to a group"),
    "root in itself": (lambda f, p: f.__setitem__("x", f["/"]), "is a second link to a group"),
    "groups a thousand deep": (_groups(1000), "more than 200 deep"),
    # More data than there is.
    "chunks that were never written": (_chunked(1 << 40, 1024), TOO_MUCH),
    "values that were never written": (_never_written, TOO_MUCH),
    "a chunk of four gigabytes": (_chunked(1 << 32, (1 << 32) - 1), TOO_MUCH),
    "an element of a megabyte": (_wide_type, ANYTHING),
    "a bomb that says so": (_bomb(1 << 30, 1 << 30, 1), TOO_MUCH),
    "a bomb that says it is small": (_bomb(16, 16, 1), ANYTHING),
    "a bomb in a bomb": (_bomb(16, 16, 1, 1), ANYTHING),
    # Anything that is not an array of numbers.
    "an unknown filter": (_unknown_filter, "a filter that h5py does not include|which h5py does not include"),
    "gzip that is not gzip": (_raw_chunk(b"no zlib stream", compression="gzip"), DAMAGED),
    "lzf that is not lzf": (_raw_chunk(b"\xff" * 40, compression="lzf"), DAMAGED),
    "a chunk whose checksum is wrong": (_raw_chunk(bytes(512) + b"\1\2\3\4", fletcher32=True), DAMAGED),
    "object references": (_references, UNSUPPORTED),
    "region references": (_region_references, UNSUPPORTED),
    "text": (_dataset("text"), UNSUPPORTED),
    "text of one length": (_dataset(np.array([b"text"])), UNSUPPORTED),
    "lists": (_dataset([np.ones(2), np.ones(3)], h5py.vlen_dtype("f8")), UNSUPPORTED),
    "a compound": (_dataset(np.zeros(2, [("a", "f4"), ("b", "i8")])), UNSUPPORTED),
    "a complex number of other names": (_dataset(np.zeros(2, [("re", "f4"), ("im", "f4")])), UNSUPPORTED),
    "opaque bytes": (_dataset(np.zeros(2, "V7")), "does not name a supported dtype"),
    "long doubles": (_dataset(np.zeros(2, np.longdouble)), UNSUPPORTED),
    "times": (_time, UNSUPPORTED),
    "integers of 31 bits": (_odd_integer, None),
    "an empty dataspace": (_dataset(h5py.Empty("f4")), UNSUPPORTED),
    # Names and attributes.
    "two datasets of one name": (_two_of_one_name, "would both be named 'a.b'"),
    "a name that is no text": (_name_of_no_text, ANYTHING),
    "thousands of attributes": (_many_attributes, None),
}  # fmt: skip

PATCHES: dict[str, tuple[tuple[int, bytes], ...]] = {
    "end of file before the data": ((END, u8(1500)),),
    "end of file beyond the file": ((END, u8(1 << 40)),),
    "end of file of zero": ((END, u8(0)),),
    "root beyond the file": ((64, u8(1 << 40)),),
    "root at itself": ((64, u8(64)),),
    "a superblock of version 77": ((8, b"\x4d"),),
    "offsets of three bytes": ((13, b"\3"),),
    "lengths of no bytes": ((14, b"\0"),),
    "a base address beyond the file": ((24, u8(1 << 40)),),
    "no links fit in a node": ((16, u2(0)),),
    "a header of 65535 messages": ((DATASET + 2, u2(65535)),),
    "a header of four gigabytes": ((DATASET + 8, u4(0xFFFFFFFF)),),
    "a header of version 200": ((DATASET, b"\xc8"),),
    "a header that continues in itself": ((DATASET + 112, u2(0x10)), (DATASET + 120, u8(DATASET + 112) + u8(24))),
    "a tree whose child is itself": ((TREE + 5, b"\1"), (TREE + 32, u8(TREE))),
    "a tree of a thousand levels": ((TREE + 5, b"\xff"), (TREE + 32, u8(TREE))),
    "a tree of 65535 children": ((TREE + 6, u2(65535)),),
    "a heap whose free list loops": ((FREE, u8(16)),),
    "a heap of a huge size": ((HEAP + 8, u8(1 << 62)),),
    "a heap beyond the file": ((HEAP + 24, u8(1 << 40)),),
    "65535 links in a node": ((SYMBOLS + 6, u2(65535)),),
    "a name beyond its heap": ((SYMBOLS + 8, u8(1 << 40)),),
    "a shape beyond the file": ((SPACE + 16, u8(1 << 40)),),
    "a shape that overflows": ((SPACE + 16, u8(1 << 63)),),
    "a shape of 255 axes": ((SPACE + 9, b"\xff"),),
    "a layout beyond the file": ((DATASET + 106, u8(1 << 40)),),
    "a layout that is nowhere": ((DATASET + 106, u8((1 << 64) - 1)),),
    "an element of no bytes": ((KIND + 12, u4(0)),),
    "an element of four gigabytes": ((KIND + 12, u4(0xFFFFFFFF)),),
}

# For all other files, the unreadable entry is listed, and reading only the header may succeed.
WHOLE = {"two datasets of one name"}
# libhdf5 ignores a message count that is too high, and reads values without a place as zeros.
VALID = {"a header of 65535 messages", "a layout that is nowhere"}

FILES = [
    *(HostileFile(t, ".h5", _with_h5py(fill), cause, t not in WHOLE) for t, (fill, cause) in H5PY.items()),
    HostileFile("an attribute of many megabytes", ".h5", _with_h5py(
        lambda file, path: file["good"].attrs.create("huge", np.zeros(4 << 20)), "latest"), None),
    *(HostileFile(t, ".h5", _patched(*p), None if t in VALID else ANYTHING) for t, p in PATCHES.items()),
    HostileFile("a file cut in its structure", ".h5", _patched(cut=1000), "cut off"),
    HostileFile("a file cut in its data", ".h5", _patched(cut=2050), "cut off"),
    HostileFile("a heap that loops", ".h5", _looping_heap, ANYTHING),
    HostileFile(
        "groups a million deep", ".h5", lambda path: raw_hdf5.write_deep(path, DEEP), "more than 200 deep", True
    ),
    HostileFile("a group a hundred thousand wide", ".h5", lambda path: raw_hdf5.write_wide(path, WIDE), None),
]  # fmt: skip
