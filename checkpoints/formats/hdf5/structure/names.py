"""The conversion of tensor names to paths in an HDF5 file, and back. `hdf5/__init__.py` has the rules."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ....errors import StateError

RESERVED = "__statezoo__"
MOST_PARTS = 200
_MOST_NAME_BYTES = 60_000


def paths_of(names: list[str]) -> dict[str, tuple[bytes, ...]]:
    """Return the path of each name. Raises StateError naming the first name that HDF5 cannot hold."""
    known = set(names)
    paths: dict[str, tuple[bytes, ...]] = {}
    for name in names:
        if name.count(".") >= MOST_PARTS or len(name.encode()) > _MOST_NAME_BYTES:
            raise StateError(
                f"the name of tensor {name[:40]!r}... has {name.count('.') + 1:,} parts and {len(name.encode()):,} "
                f"bytes; an HDF5 file holds names of {MOST_PARTS} parts and {_MOST_NAME_BYTES:,} bytes. Shorten it, or "
                "save to .safetensors."
            )
        parts = name.split(".")
        if "" in parts or _ESCAPED.search(name):
            parts = list(map(_escaped, parts))
        _join_tensors(name, parts, known)
        if parts[0] == RESERVED:
            parts[0] = "%5F" + RESERVED[1:]
        paths[name] = tuple(map(str.encode, parts))
    return paths


_ESCAPED = re.compile("[%/\0]")


def _escaped(part: str) -> str:
    return part.replace("%", "%25").replace("/", "%2F").replace("\0", "%00") or "%"


def _join_tensors(name: str, parts: list[str], known: set[str]) -> None:
    """Join a part that ends the name of another tensor with the next part: a dataset cannot be a group too."""
    dot, number = name.rfind("."), len(parts) - 1
    # From the end, so that the positions of earlier parts stay valid.
    while dot >= 0:
        if name[:dot] in known:
            parts[number - 1 : number + 1] = [f"{parts[number - 1]}%2E{parts[number]}"]
        dot, number = name.rfind(".", 0, dot), number - 1


def name_of(path: Iterable[str]) -> str:
    """Return the name of the tensor at a path."""
    return ".".join(map(_unescaped, path))


def _unescaped(part: str) -> str:
    return re.sub("%(25|2F|00|2E|5F)?", lambda match: chr(int(match[1], 16)) if match[1] else "", part)
