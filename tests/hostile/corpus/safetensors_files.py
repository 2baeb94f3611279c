"""safetensors files whose header lies, or is designed to waste time or memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from corpus.hostile_file import ANYTHING, HostileFile, bytes_of
from xxhash import xxh3_128_hexdigest

from statezoo.checkpoints import save_file

DATA = b"\1\2"
JSON = "not valid JSON"
DTYPE = "which this version does not support"
STRINGS = "not a string|not an object"
ENTRY = "not a dtype, a shape and two offsets"


def with_header(header: bytes, data: bytes = DATA) -> bytes:
    return len(header).to_bytes(8, "little") + header + data


def entry(shape: str = "[2]", offsets: str = "[0,2]", name: str = "x", dtype: str = '"U8"') -> bytes:
    return f'"{name}":{{"dtype":{dtype},"shape":{shape},"data_offsets":{offsets}}}'.encode()


def _entries(*entries: bytes) -> bytes:
    return b"{" + b",".join(entries) + b"}"


HEADERS: dict[str, tuple[bytes, str | None]] = {
    # JSON that is invalid, deep, or enormous.
    "header that ends early": (_entries(entry())[:-1], JSON),
    "header that starts with a space": (b" " + _entries(entry()), None),
    "header with a byte order mark": (b"\xef\xbb\xbf" + _entries(entry()), JSON),
    "header in UTF-16": (_entries(entry()).decode().encode("utf-16"), JSON),
    "header in overlong UTF-8": (_entries(entry(name="a\0")).replace(b"\0", b"\xc0\x80"), JSON),
    "header of bad UTF-8": (b'{"\xff\xfe":1}', JSON),
    "header of surrogates in UTF-8": (b'{"\xed\xa0\x80":1}', JSON),
    "header that is a list": (b"[]", JSON),
    "header that is a string": (b'"x"', JSON),
    "header that is nothing": (b"", ANYTHING),
    "header that is an empty object with data": (b"{}", r"take 0 bytes, and 2 follow"),
    "header that ends in NUL": (_entries(entry()) + b"\0\0", "padded with NUL"),
    "header that ends in another header": (_entries(entry()) * 2, JSON),
    "header with a comment": (_entries(entry()) + b"/**/", JSON),
    "header with a raw NUL in a name": (_entries(entry(name="a\0b")), JSON),
    "lists a hundred thousand deep": (b"[" * 100_000, JSON),
    "objects a hundred thousand deep": (b'{"a":' * 100_000, JSON),
    "a shape a hundred thousand deep": (_entries(entry(shape="[" * 100_000 + "]" * 100_000)), JSON),
    "a million objects that are no entries": (_entries(*(b'"%x":{}' % n for n in range(1_000_000))), ENTRY),
    "a million numbers that are no entries": (_entries(*(b'"%x":0' % n for n in range(1_000_000))), ENTRY),
    "one name a million times": (_entries(*[b'"":0'] * 1_000_000), "occurs twice"),
    "a list of a million lists": (_entries(b'"x":[' + b",".join([b"[]"] * 1_000_000) + b"]"), ENTRY),
    "a shape of a million axes": (_entries(entry(shape=f"[{','.join(['2'] * 1_000_000)}]")), ENTRY),
    "a shape of a million axes of one": (_entries(entry(shape=f"[{','.join(['1'] * 1_000_000)}]")), ENTRY),
    "a name of five million letters": (_entries(entry(name="a" * 5_000_000, shape="[3]")), "takes 3 bytes"),
    "a dtype of five million letters": (_entries(entry(dtype='"' + "U" * 5_000_000 + '"')), DTYPE),
    # Numbers.
    "an integer of five thousand digits": (_entries(entry(shape=f"[{'9' * 5_000}]")), JSON),
    "an integer of a million digits": (_entries(entry(offsets=f"[0,{'9' * 1_000_000}]")), JSON),
    "five hundred integers of four thousand digits": (
        _entries(entry(shape=f"[{','.join(['9' * 4_000] * 500)}]")), ENTRY,
    ),
    "a size that is NaN": (_entries(entry(offsets="[0,NaN]")), "NaN is not JSON"),
    "a size that is infinite": (_entries(entry(shape="[Infinity]")), "Infinity is not JSON"),
    "a size that overflows to infinity": (_entries(entry(shape="[1e999]")), ENTRY),
    "a size that is a float": (_entries(entry(shape="[2.0]")), ENTRY),
    "a size that is true": (_entries(entry(shape="[true,2]")), ENTRY),
    "a size that is text": (_entries(entry(shape='["2"]')), ENTRY),
    "a size that is null": (_entries(entry(shape="[null]")), ENTRY),
    "a size below zero": (_entries(entry(shape="[-2]")), ENTRY),
    "two sizes below zero": (_entries(entry(shape="[-1,-2]")), ENTRY),
    "offsets below zero": (_entries(entry(offsets="[-2,0]")), ENTRY),
    "offsets beyond 64 bits": (_entries(entry(offsets="[18446744073709551616,18446744073709551618]")), ANYTHING),
    "a product that overflows to its size": (
        _entries(entry(shape="[4294967296,4294967296,2]")), "takes 36893488147419103232 bytes",
    ),
    "a product of thousands of digits": (_entries(entry(shape=f"[{','.join([str(1 << 62)] * 900)}]")), ANYTHING),
    "a huge shape": (_entries(entry(shape="[1099511627776]", offsets="[0,1099511627776]")), "and 2 follow"),
    "a huge shape times zero": (
        _entries(entry(shape="[0,4611686018427387904,4611686018427387904]", offsets="[0,0]"), entry(name="y")),
        "a shape that NumPy cannot hold",
    ),
    "a hundred axes": (_entries(entry(shape=f"[2{',1' * 99}]")), "a shape that NumPy cannot hold"),
    # Offsets.
    "tensors that overlap": (_entries(entry(), entry("[1]", "[1,2]", "y")), "a gap or overlap at byte 1 "),
    "tensors on one place": (_entries(entry(), entry(name="y")), "a gap or overlap"),
    "a hole before a tensor": (_entries(entry("[1]", "[1,2]")), "a gap or overlap"),
    "a hole between tensors": (_entries(entry("[1]", "[0,1]"), entry("[0]", "[2,2]", "y")), "a gap or overlap"),
    "a hole behind the tensors": (_entries(entry("[1]", "[0,1]")), "take 1 bytes, and 2 follow"),
    "a tensor that ends before it begins": (_entries(entry(offsets="[2,0]")), "its entry gives it -2"),
    "a tensor longer than its place": (_entries(entry("[3]")), "takes 3 bytes, and its entry gives it 2"),
    "a tensor beyond the end": (_entries(entry("[9]", "[0,9]")), "take 9 bytes, and 2 follow"),
    # Names, dtypes and metadata.
    "a name twice": (_entries(entry("[0]", "[0,0]"), entry()), "'x' occurs twice"),
    "a name twice in two spellings": (_entries(entry("[0]", "[0,0]"), entry(name="\\u0078")), "'x' occurs twice"),
    "a key twice in an entry": (b'{"x":{"dtype":"U8","dtype":"F4","shape":[2],"data_offsets":[0,2]}}', "twice"),
    "a name that is a lone surrogate": (_entries(entry(name="\\ud800")), JSON),
    "a metadata value that is a lone surrogate": (_entries(b'"__metadata__":{"a":"\\udfff"}', entry()), JSON),
    "a tensor with the reserved name": (_entries(entry(name="__metadata__")), "take 0 bytes"),
    "the reserved name twice": (_entries(b'"__metadata__":{}', b'"__metadata__":{}', entry()), "occurs twice"),
    "an entry without a dtype": (b'{"x":{"shape":[2],"data_offsets":[0,2]}}', ENTRY),
    "an entry that is null": (b'{"x":null}', ENTRY),
    "an entry that is a list": (b'{"x":["U8",[2],[0,2]]}', ENTRY),
    "a dtype that is a list": (_entries(entry(dtype='["U8"]')), ENTRY),
    "a dtype that nobody has": (_entries(entry(dtype='"object"')), DTYPE),
    "a dtype that is a pickle": (_entries(entry(dtype='"O"')), DTYPE),
    "three offsets": (_entries(entry(offsets="[0,2,2]")), ENTRY),
    "offsets that are text": (_entries(entry(offsets='"02"')), ENTRY),
    "metadata that are a list": (_entries(b'"__metadata__":[]', entry()), STRINGS),
    "metadata that hold numbers": (_entries(b'"__metadata__":{"a":1}', entry()), STRINGS),
    "metadata that hold objects": (_entries(b'"__metadata__":{"a":{}}', entry()), STRINGS),
    "metadata that hold null": (_entries(b'"__metadata__":{"a":null}', entry()), STRINGS),
    "ties in a circle": (_entries(b'"__metadata__":{"a":"b","b":"a"}', entry("[1]", "[0,1]")), "take 1 bytes"),
    "a manifest that is no manifest": (_entries(b'"__metadata__":{"statezoo":"{}"}', entry()), "its manifest"),
    "a manifest that is deep": (
        _entries(b'"__metadata__":{"statezoo":"' + b"[" * 100_000 + b'"}', entry()), "its manifest",
    ),
    "a manifest of a huge integer": (
        _entries(b'"__metadata__":{"statezoo":"' + b"9" * 100_000 + b'"}', entry()), "its manifest",
    ),
}  # fmt: skip

LENGTHS = {
    "length that is too great by one": 3,
    "length of a whole header limit": 100_000_000,
    "length beyond the header limit": 100_000_001,
    "length that is negative as a signed number": 2**64 - 1,
    "length that overflows when eight is added": 2**64 - 4,
}


def _sparse(length: int) -> Callable[[Path], object]:
    """Return a function that makes a file with a long header of zeros that take no space on the disk."""

    def make(path: Path) -> None:
        with path.open("wb") as file:
            file.write(length.to_bytes(8, "little") + b"{")
            file.truncate(8 + length)

    return make


# Changes to the manifest of our own file, as a dict of its fields and its JSON.
MANIFESTS: dict[str, Callable[[dict[str, Any]], object]] = {
    "manifest with a view that leaves its tensor": lambda m: m["aliases"][0].__setitem__(5, 1 << 40),
    "manifest with a view of a huge shape": lambda m: m["aliases"][0].__setitem__(4, [1 << 40, 1 << 40]),
    "manifest with a million storages": lambda m: m.update(storages=1_000_000),
    "manifest with storages of many digits": lambda m: m.update(storages="9" * 1_000_000),
    "manifest with aliases that are numbers": lambda m: m.update(aliases=[1, 2, 3]),
    "manifest with digests of nothing": lambda m: m.update(digests=""),
    "manifest with digests of control characters": lambda m: m.update(digests="\x1b[2J".ljust(32)),
    "manifest with a fingerprint of control characters": lambda m: m.update(fingerprint="\x1b[2J".ljust(32, "0")),
    "manifest with a million blocks": lambda m: m.update(blocks="A" * 4_000_000),
    "manifest with blocks that are no base64": lambda m: m.update(blocks="\xe9"),
    "manifest with deep entries": lambda m: m.update(aliases=_Text("[" * 100_000)),
    "manifest of a newer version": lambda m: m.update(version=99),
    "manifest of a version that is huge": lambda m: m.update(version=10**4000),
    "manifest without anything": dict.clear,
}


class _Text(str):
    """JSON as it is."""


def _with_manifest(change: Callable[[dict[str, Any]], object], is_sealed: bool) -> Callable[[Path], object]:
    """Return a function that makes a file with a changed manifest. is_sealed: make the checksum and the seal fit."""

    def make(path: Path) -> None:
        weight = np.arange(6.0).reshape(2, 3)
        save_file({"weight": weight, "view": weight.T}, path)
        content = path.read_bytes()
        end = 8 + int.from_bytes(content[:8], "little")
        header = json.loads(content[8:end])
        _, *fields, entries = header["__metadata__"]["statezoo"].split(" ", 8)
        manifest = dict(field.split("=", 1) for field in fields) | json.loads(entries)
        change(manifest)
        header["__metadata__"]["statezoo"] = f"seal={'0' * 32} {_text_of(manifest, is_sealed)}"
        text = json.dumps(header).encode()
        if is_sealed:
            text = text.replace(b"seal=" + b"0" * 32, b"seal=" + xxh3_128_hexdigest(
                text.replace(b"seal=" + b"0" * 32, b"seal=")
            ).encode())  # fmt: skip
        path.write_bytes(with_header(text, content[end:]))

    return make


def _text_of(manifest: dict[str, Any], is_sealed: bool) -> str:
    version, checksum = manifest.pop("version", ""), manifest.pop("checksum", "")
    names = [name for name in ("fingerprint", "metadata", "storages", "digests", "blocks") if name in manifest]
    fields = " ".join(f"{name}={manifest.pop(name)}" for name in names)
    values = {name: value if isinstance(value, _Text) else json.dumps(value) for name, value in manifest.items()}
    rest = f"{fields} {{{','.join(f'{json.dumps(name)}:{value}' for name, value in values.items())}}}"
    if is_sealed:
        checksum = xxh3_128_hexdigest(f"version={version} {rest}".encode())
    return f"version={version} checksum={checksum} {rest}"


FILES = [
    *(
        HostileFile(
            title,
            ".safetensors",
            bytes_of(with_header(h)),
            cause,
            cause == DTYPE or "NumPy cannot hold" in (cause or ""),
        )
        for title, (h, cause) in HEADERS.items()
    ),
    *(
        HostileFile(title, ".safetensors", bytes_of(length.to_bytes(8, "little") + b"{}"), "its header should take")
        for title, length in LENGTHS.items()
    ),
    *(
        HostileFile(title + suffix, ".safetensors", _with_manifest(change, bool(suffix)), "its manifest|newer statezoo")
        for title, change in MANIFESTS.items()
        for suffix in ("", ", sealed")
    ),
    HostileFile("a header of a hundred megabytes of zeros", ".safetensors", _sparse(99_999_992), JSON),
]
