"""How names of tensors become paths in an HDF5 file, and back; the rules are in hdf5.py."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..errors import StateError

RESERVED = "__statezoo__"
MOST_PARTS = 200
_MOST_NAME_BYTES = 60_000


def paths_of(names: list[str]) -> dict[str, tuple[bytes, ...]]:
    """Return the path of each name. Raises StateError naming what HDF5 cannot hold."""
    known = set(names)
    paths: dict[str, tuple[bytes, ...]] = {}
    for name in names:
        if name.count(".") >= MOST_PARTS or len(name.encode()) > _MOST_NAME_BYTES:
            raise StateError(
                f"the name of tensor {name[:40]!r}... has {name.count('.') + 1:,} parts and {len(name.encode()):,} "
                f"bytes; an HDF5 file holds names of {MOST_PARTS} parts and {_MOST_NAME_BYTES:,} bytes. Shorten it, or "
                "save to .safetensors."
            )
        parts = [_escaped(part) for part in name.split(".")]
        # From the end, so that positions of parts still to be looked at stay.
        for end in range(len(parts) - 1, 0, -1):
            if ".".join(name.split(".")[:end]) in known:
                parts[end - 1 : end + 1] = [f"{parts[end - 1]}%2E{parts[end]}"]
        if parts[0] == RESERVED:
            parts[0] = "%5F" + RESERVED[1:]
        paths[name] = tuple(part.encode() for part in parts)
    return paths


def _escaped(part: str) -> str:
    return part.replace("%", "%25").replace("/", "%2F").replace("\0", "%00") or "%"


def name_of(path: Iterable[str]) -> str:
    """Return the name that a path of ours stands for."""
    return ".".join(map(_unescaped, path))


def _unescaped(part: str) -> str:
    return re.sub("%(25|2F|00|2E|5F)?", lambda match: chr(int(match[1], 16)) if match[1] else "", part)
