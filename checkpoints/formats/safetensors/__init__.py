"""safetensors: a JSON header followed by the bytes of the tensors.

    8 bytes        N, little-endian, at most 100,000,000
    N bytes        a JSON object, padded with spaces so that the data start at a multiple of 64
    the rest       the tensors, little-endian, C-contiguous, without gaps

The header has `name: {"dtype": ..., "shape": [...], "data_offsets": [begin, end]}` for each stored tensor, in the
order of the state. The offsets count from the end of the header. Tensors with larger elements come first in the data,
so that each is aligned; tensors with elements of the same size keep the order of the state.

`__metadata__` comes first. Its keys are sorted and its values are strings: the user's entries; `alias: kept` for each
tie, as safetensors.torch.save_model writes it, unless the user has an entry of that name; `format: pt`, without which
transformers refuses the file, unless the user or a tie has that name; and `statezoo`, the seal (see entries.py) and the
manifest. A view, such as a transpose, is only in the manifest: a reader that took it for a tie would load wrong values.

Limitations. The format has no complex128. No tensor can be named `__metadata__`. The header is limited to 100,000,000
bytes, which is about a million tensors. Names are Unicode text without lone surrogates. F4, F6_E2M3 and F6_E3M2 are
read (see packing.py), but not written.

Every valid file of another library is read, including JSON white space before the header, which safetensors 0.8 allows.
If such a file has a metadata entry `name: kept`, where `kept` is a tensor and `name` is not, then `name` is a tie to
`kept`. A tensor of an unknown dtype is listed as unsupported. A name that occurs twice is an error.

A header padded with NUL characters, or metadata that is not strings, breaks the rules but hides no tensor: the error
says so, and repair() keeps the tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from ...errors import RulesError, StateError, UnsupportedTypeError
from ...state import dtypes
from ...state.manifest import FORMAT, TensorSpec, holds_manifest
from ...state.sharing import Alias
from ...storage.source import Source
from .. import Layout, Opened, Salvaged
from ..entries import (
    BITS,
    MANIFEST,
    InvalidError,
    checked_entries,
    data_offsets,
    encode,
    entries_text,
    json_text,
    parsed,
    sealable,
    sealed,
    strings_text,
    unsealed,
)
from ..recognise import not_valid
from . import packing

_METADATA = "__metadata__"
PYTORCH = "pt"  # the value of "format"
_MOST_HEADER_BYTES = 100_000_000
_ALIGNMENT_BYTES = 64
_BITS = {dtype: size for dtype, size in (BITS | packing.BITS).items() if dtype != "C128"}  # C128 is HDF5's alone


def lay_out(
    tensors: Mapping[str, TensorSpec], aliases: Mapping[str, Alias], metadata: Mapping[str, str], manifest: str
) -> Layout:
    """Return the layout. The header comes first; its length depends only on the length of the manifest."""
    _refuse_unsupported(tensors)
    offsets = data_offsets(tensors)
    ties = {name: alias.kept for name, alias in aliases.items() if alias.view is None}
    strings = {FORMAT: PYTORCH} | ties | dict(metadata)
    entries = entries_text(tensors, offsets)

    blank = json_text(sealable(manifest))
    all_strings = strings_text(strings | {MANIFEST: sealable(manifest)})
    text = f'{{"{_METADATA}":{all_strings}{"," if entries else ""}{entries}}}'
    start = -(-(8 + len(text.encode())) // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES

    def seal(manifest: str) -> list[tuple[int, bytes]]:
        header = text.replace(blank, json_text(sealable(manifest)), 1).encode().ljust(start - 8)
        return [(0, len(header).to_bytes(8, "little") + sealed(header))]

    if start - 8 > _MOST_HEADER_BYTES:
        raise StateError(
            f"the header would take {start - 8:,} bytes, and safetensors allows {_MOST_HEADER_BYTES:,}. "
            "Shorten the names or the metadata, or save to .h5."
        )
    return Layout({name: start + offset for name, offset in offsets.items()}, seal)


def _refuse_unsupported(tensors: Mapping[str, TensorSpec]) -> None:
    for name, tensor in tensors.items():
        if tensor.dtype == "C128":
            raise UnsupportedTypeError(
                f"tensor {name!r} is complex128, which safetensors does not have. Save to .h5, or as complex64, or "
                "save its real and imaginary parts."
            )
        if tensor.dtype in packing.BITS:
            raise UnsupportedTypeError(
                f"tensor {name!r} is {dtypes.numpy_dtype(tensor.dtype)}, which statezoo does not write to safetensors. "
                "Save to .h5, or convert it with array.astype(numpy.float32)."
            )
    if _METADATA in tensors:
        raise StateError(f"a safetensors file cannot hold a tensor named {_METADATA!r}. Rename it, or save to .h5.")


def matches(source: Source) -> bool:
    """Return True if a file starts with a length and an opening brace."""
    head = source.read(0, min(9, source.size_bytes))
    return head[8:] == b"{" and int.from_bytes(head[:8], "little") <= _MOST_HEADER_BYTES


def salvage(source: Source) -> Iterator[Salvaged]:
    """Yield the ways to read a damaged file whose header is valid JSON."""
    from .damaged import salvage_safetensors  # only a repair needs it

    return salvage_safetensors(source)


def read_as_stock(path: str) -> dict[str, bytes]:
    """Return the bytes of each tensor as the safetensors library reads them."""
    import safetensors

    with open(path, "rb") as file:
        return {name: bytes(tensor["data"]) for name, tensor in safetensors.deserialize(file.read())}


def open_source(source: Source) -> Opened:
    """Parse the header and check it against the size of the file. Raises CorruptError or RulesError."""
    opened, broken = read_header(source)
    if broken:
        raise RulesError(
            f"{source.name} breaks the rules of safetensors: {'; '.join(broken)}. Its tensors can be read: save them "
            "to a valid file with checkpoints.repair()."
        )
    return opened


def read_header(source: Source) -> tuple[Opened, list[str]]:
    """Parse the header. Return its content, and the rules that it breaks without hiding a tensor.

    Raises CorruptError for any other broken rule.
    """
    try:
        return _read_header(source)
    except (InvalidError, EOFError) as error:
        raise not_valid(source, error, "safetensors file", "safetensors") from error


def _read_header(source: Source) -> tuple[Opened, list[str]]:
    size = source.size_bytes
    length = int.from_bytes(source.read(0, min(8, size)), "little")
    if size < 8 or length > min(_MOST_HEADER_BYTES, size - 8):
        raise InvalidError(f"its header should take {length:,} bytes, and the file has {size:,}")
    text = source.read(8, length)
    header = parsed(text.rstrip(b"\0"))
    broken = ["its header is padded with NUL characters, not with spaces"] if text.endswith(b"\0") else []
    metadata = _strings(header.pop(_METADATA, None), broken)
    start = 8 + length
    tensors, offsets, unsupported = checked_entries(header, start, size - start, _BITS)
    manifest, is_sealed = metadata.pop(MANIFEST, None), False
    if manifest is not None:
        manifest, is_sealed = unsealed(manifest, text)
    elif holds_manifest(text):
        raise InvalidError(f"the metadata key {MANIFEST!r} was changed")
    ties = {name: kept for name, kept in metadata.items() if kept in tensors and name not in tensors}
    if manifest is None and ties:
        metadata = {key: value for key, value in metadata.items() if key not in ties}
    packed = {name: offsets.pop(name) for name, tensor in tensors.items() if tensor.dtype in packing.BITS}
    aliases = {name: Alias(kept) for name, kept in ties.items()}
    opened = Opened(tensors, offsets, metadata, manifest, aliases, unsupported=unsupported, is_sealed=is_sealed)
    if packed:
        opened.read = _reader_of(source, tensors, packed)
    return opened, broken


def _strings(metadata: Any, broken: list[str]) -> dict[str, str]:
    """Return the metadata of a header, which may be any JSON value, and add each value that is not text to `broken`.

    Such a value is kept as JSON, unless the file has a manifest, which covers only strings.
    """
    if metadata is None:  # some libraries write null instead of no metadata
        return {}
    if not isinstance(metadata, dict):
        broken.append(f"its metadata are {_kind_of(metadata)}, not an object")
        return {}
    others = {key: value for key, value in metadata.items() if not isinstance(value, str)}
    broken += [f"its metadata {key!r:.200} is {_kind_of(value)}, not a string" for key, value in others.items()][:10]
    strings = {key: value for key, value in metadata.items() if key not in others}
    return strings if MANIFEST in strings else strings | {key: encode(value) for key, value in others.items()}


def _kind_of(value: Any) -> str:
    if isinstance(value, bool | None):
        return encode(value)
    kinds = {str: "a string", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return kinds[type(value)]


def _reader_of(
    source: Source, tensors: Mapping[str, TensorSpec], packed: Mapping[str, int]
) -> Callable[[str], np.ndarray]:
    """Return a function that reads tensors of packed elements. packed: their offsets."""

    def read(name: str) -> np.ndarray:
        tensor = tensors[name]
        content = source.read(packed[name], tensor.size_bytes * packing.BITS[tensor.dtype] // 8)
        elements = packing.unpacked(content, tensor.dtype)
        return elements.view(dtypes.numpy_dtype(tensor.dtype)).reshape(tensor.shape)

    return read
