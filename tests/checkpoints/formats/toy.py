"""A toy format from outside the library: one line of JSON, then the tensors. It has everything that a format needs.

    {"toy": 1, "manifest": "...", "metadata": {...}, "tensors": {"fc.weight": ["F32", [2, 3]], ...}}
    the tensors, little-endian, C-contiguous, in the order of the header, without gaps

Limitations. Tensors are not aligned. Ties and views are only in the manifest.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from statezoo.checkpoints import CorruptError
from statezoo.checkpoints.formats import Layout, Opened, Salvaged
from statezoo.checkpoints.formats.damaged import Spliced, notes_on_size
from statezoo.checkpoints.state.dtypes import ITEM_BYTES
from statezoo.checkpoints.state.manifest import TensorSpec
from statezoo.checkpoints.state.sharing import Alias
from statezoo.checkpoints.storage.source import Source

_START = b'{"toy": 1, '


def matches(source: Source) -> bool:
    return source.size_bytes >= len(_START) and source.read(0, len(_START)) == _START


def lay_out(
    tensors: Mapping[str, TensorSpec], aliases: Mapping[str, Alias], metadata: Mapping[str, str], manifest: str
) -> Layout:
    def header(manifest: str) -> bytes:
        content = {"toy": 1, "manifest": manifest, "metadata": dict(sorted(metadata.items())), "tensors": tensors}
        return json.dumps(content).encode() + b"\n"

    return Layout(_offsets(tensors, len(header(manifest))), lambda manifest: [(0, header(manifest))])


def open_source(source: Source) -> Opened:
    opened, size_bytes = _parsed(source)
    if size_bytes != source.size_bytes:
        raise CorruptError(f"{source.name} should take {size_bytes:,} bytes, and has {source.size_bytes:,}.")
    return opened


def salvage(source: Source) -> Iterator[Salvaged]:
    opened, size_bytes = _parsed(source)
    notes, spliced = notes_on_size(source, size_bytes), Spliced(source, size_bytes)
    yield Salvaged(spliced, opened, notes)
    yield Salvaged(spliced, replace(opened, manifest=None), [*notes, "its manifest is damaged"], whole=False)


def read_as_stock(path: str) -> dict[str, bytes]:
    """Return what np.fromfile reads: there is no other library for this format."""
    with open(path, "rb") as file:
        tensors: dict[str, Any] = json.loads(file.readline())["tensors"]
        sizes = {name: math.prod(shape) * ITEM_BYTES[dtype] for name, (dtype, shape) in tensors.items()}
        return {name: np.fromfile(file, np.uint8, size).tobytes() for name, size in sizes.items()}


def _parsed(source: Source) -> tuple[Opened, int]:
    """Return the content of the header, and the size that the file should have."""
    try:
        line = source.read(0, source.size_bytes).split(b"\n", 1)[0]
        content = json.loads(line)
        tensors = {name: TensorSpec(dtype, tuple(shape)) for name, (dtype, shape) in content["tensors"].items()}
        offsets = _offsets(tensors, len(line) + 1)
        size_bytes = len(line) + 1 + sum(tensor.size_bytes for tensor in tensors.values())
        return Opened(tensors, offsets, content["metadata"], content["manifest"]), size_bytes
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise CorruptError(f"{source.name} is not a valid toy file: {error}.") from error


def _offsets(tensors: Mapping[str, TensorSpec], start: int) -> dict[str, int]:
    offsets = {}
    for name, tensor in tensors.items():
        offsets[name] = start
        start += tensor.size_bytes
    return offsets
