"""GGUF, the files of llama.cpp and other programs on ggml, read-only, with the package gguf.

    4 bytes        `GGUF`
    numbers        the version, 2 or 3; the number of tensors; the number of values
    values         for each its key, its type, and the value
    tensors        for each its name, its lengths with the fastest axis first, its type, and its offset in the data
    the data       at a multiple of `general.alignment`, 32 if the file does not say

A text is its size in 8 bytes and UTF-8. Shapes are reversed, so that the last axis is the fastest one, as in NumPy.
Values that are texts become metadata, and so do numbers and booleans, as JSON. Lists, such as a vocabulary, are left
out.

A tensor of a quantised type is unsupported, with its type as the reason. If `dequantize` is asked for, it is a float32
array, which the package computes when the tensor is read. Types that the package does not know or cannot unpack stay
unsupported.

Limitations. Quantised tensors of big-endian files are unsupported.

Source: ggml, docs/gguf.md.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from ...errors import CorruptError, FormatError
from ...state import dtypes
from ...state.manifest import TensorSpec
from ...storage.source import Source
from .. import Opened
from ..entries import InvalidError
from ..recognise import not_valid
from . import required
from .window import Window

_SIGNATURE = b"GGUF"
_VERSIONS = (2, 3)
_MOST_AXES, _MOST_NESTED = 32, 4
_DEFAULT_ALIGNMENT = 32
# The types of values: a letter of the module struct for numbers.
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_SIZES = {"B": 1, "b": 1, "H": 2, "h": 2, "I": 4, "i": 4, "f": 4, "?": 1, "Q": 8, "q": 8, "d": 8}
_TEXT, _LIST = 8, 9
# The types that are not quantised, whose names are those of our dtypes.
_PLAIN = {"F32", "F16", "BF16", "F64", "I8", "I16", "I32", "I64"}


class _Stored(NamedTuple):
    """A tensor in a file. number: of its type. kind: the name of its type, None if the package does not know it.

    offset, size_bytes: where it is in the file. The size is 0 if its type is unknown.
    """

    shape: tuple[int, ...]
    number: int
    kind: str | None
    offset: int
    size_bytes: int


def matches(source: Source) -> bool:
    """Return True if a file starts with the signature."""
    return source.size_bytes >= len(_SIGNATURE) and source.read(0, len(_SIGNATURE)) == _SIGNATURE


def open_source(source: Source) -> Opened:
    """Parse the header. Raises MissingPackageError, CorruptError, or FormatError for another version."""
    try:
        if not matches(source):
            raise InvalidError("it does not start with GGUF")
        return _opened(source, required("gguf", source.name))
    except (InvalidError, EOFError) as error:
        raise not_valid(source, error, "GGUF file", "gguf") from error


def _opened(source: Source, package: ModuleType) -> Opened:
    window = _after_version(source)
    tensors, values = int(window.number("Q")), int(window.number("Q"))
    metadata = {key: value for key, value in _once(_values_in(window, values), "value") if value is not None}
    listed = dict(_once(_tensors_in(window, tensors, package), "tensor"))
    stored = _placed(listed, window.position, source.size_bytes, _alignment_of(metadata))
    strings = {key: value if isinstance(value, str) else json.dumps(value) for key, value in metadata.items()}
    return _content_of(source, stored, strings, package, window.order, ())


def _after_version(source: Source) -> Window:
    """Return the position after the version. A file of the other byte order has its bytes the other way round."""
    window = Window(source, len(_SIGNATURE), source.size_bytes)
    version = window.read(4)
    if not any(version[:2]):
        window.order, version = ">", version[::-1]
    number = int.from_bytes(version, "little")
    if number not in _VERSIONS:
        raise FormatError(
            f"{source.name} is a GGUF file of version {number}, and statezoo reads versions 2 and 3. Convert it with "
            "the llama.cpp that wrote it."
        )
    return window


def _once(pairs: Iterator[tuple[str, Any]], what: str) -> Iterator[tuple[str, Any]]:
    """Yield pairs of a name and anything. Raises InvalidError if a name occurs twice."""
    seen: set[str] = set()
    for name, item in pairs:
        if name in seen:
            raise InvalidError(f"the {what} {name!r:.200} occurs twice")
        seen.add(name)
        yield name, item


# --- values


def _values_in(window: Window, count: int) -> Iterator[tuple[str, Any]]:
    """Yield key and value, None for a list. A value takes bytes of the file, so that its count cannot lie for long."""
    for _ in range(count):
        yield _text(window), _value(window, int(window.number("I")))


def _text(window: Window) -> str:
    try:
        return window.read(int(window.number("Q"))).decode()
    except UnicodeDecodeError as error:
        raise InvalidError(f"the text before byte {window.position:,} is not UTF-8") from error


def _value(window: Window, kind: int) -> Any:
    if kind in _NUMBERS:
        return window.number(_NUMBERS[kind])
    if kind == _TEXT:
        return _text(window)
    _skip(window, kind, 0)
    return None


def _skip(window: Window, kind: int, nested: int) -> None:
    """Skip a value of any type."""
    if kind in _NUMBERS:
        window.skip(_SIZES[_NUMBERS[kind]])
    elif kind == _TEXT:
        window.skip(int(window.number("Q")))
    elif kind == _LIST and nested < _MOST_NESTED:
        kind, count = int(window.number("I")), int(window.number("Q"))
        if kind in _NUMBERS:
            window.skip(count * _SIZES[_NUMBERS[kind]])
            return
        for _ in range(count):
            _skip(window, kind, nested + 1)
    else:
        raise InvalidError(f"the value at byte {window.position:,} has the type {kind}, which GGUF does not have")


def _alignment_of(metadata: dict[str, Any]) -> int:
    alignment = metadata.get("general.alignment", _DEFAULT_ALIGNMENT)
    if type(alignment) is not int or alignment < 1 or alignment & (alignment - 1):
        raise InvalidError(f"its alignment is {alignment!r:.200}, not a power of two")
    return alignment


# --- tensors


def _tensors_in(window: Window, count: int, package: ModuleType) -> Iterator[tuple[str, _Stored]]:
    """Yield the name and the entry of each tensor, with the offset in the data."""
    for _ in range(count):
        name, axes = _text(window), int(window.number("I"))
        if axes > _MOST_AXES:
            raise InvalidError(f"tensor {name!r:.200} has {axes:,} axes")
        shape = tuple(int(window.number("Q")) for _ in range(axes))[::-1]
        number, offset = int(window.number("I")), int(window.number("Q"))
        kind, size_bytes = _size_of(shape, number, package, name)
        yield name, _Stored(shape, number, kind, offset, size_bytes)


def _size_of(shape: tuple[int, ...], number: int, package: ModuleType, name: str) -> tuple[str | None, int]:
    """Return the name of a type, and the size of a tensor of it. A block of elements never crosses a row."""
    try:
        kind = package.GGMLQuantizationType(number)
    except ValueError:
        return None, 0
    block, block_bytes = package.GGML_QUANT_SIZES[kind]
    rest = (shape[-1] if shape else 1) % block
    if rest:
        raise InvalidError(f"the rows of tensor {name!r:.200} are not whole blocks of {block} elements")
    return kind.name, math.prod(shape) // block * block_bytes


def _placed(listed: dict[str, _Stored], header_end: int, size_bytes: int, alignment: int) -> dict[str, _Stored]:
    """Return the tensors with offsets in the file. Raises InvalidError if one is beyond its end, or if two overlap."""
    start = -(-header_end // alignment) * alignment
    # The offset of an empty tensor may lead anywhere.
    stored = {
        name: entry._replace(offset=start + entry.offset if entry.size_bytes else 0) for name, entry in listed.items()
    }
    end = start
    for name, entry in sorted(stored.items(), key=lambda item: item[1].offset):
        if entry.size_bytes and entry.offset < end:
            raise InvalidError(f"tensor {name!r:.200} has bytes that belong to another tensor")
        end = max(end, entry.offset + entry.size_bytes)
        if entry.size_bytes and end > size_bytes:
            raise InvalidError(f"tensor {name!r:.200} reaches beyond the end of the file")
    return stored


# --- what is read


def _content_of(
    source: Source,
    stored: dict[str, _Stored],
    metadata: dict[str, str],
    package: ModuleType,
    order: str,
    unpacked: tuple[str, ...],
) -> Opened:
    """Return the content of a file. unpacked: the quantised types that are read as float32."""
    tensors: dict[str, TensorSpec] = {}
    opened = Opened(tensors, {}, metadata)
    for name, entry in stored.items():
        dtype = entry.kind if entry.kind in _PLAIN else "F32" if entry.kind in unpacked else None
        if dtype is None:
            opened.unsupported[name] = _reason(entry, package, order)
        else:
            tensors[name] = TensorSpec(dtype, entry.shape)
            if entry.kind in _PLAIN and order == "<":
                opened.offsets[name] = entry.offset

    def read(name: str) -> np.ndarray:
        entry = stored[name]
        content = np.frombuffer(source.read(entry.offset, entry.size_bytes), np.uint8)
        if entry.kind in _PLAIN:  # big-endian
            dtype = dtypes.numpy_dtype(entry.kind)
            swapped = content.reshape(-1, dtype.itemsize)[:, ::-1]
            return np.ascontiguousarray(swapped).view(dtype).reshape(entry.shape)
        return _unpacked(content, entry, package, source, name)

    def dequantized() -> Opened:
        kinds = {entry.kind for entry in stored.values() if entry.kind and entry.kind not in _PLAIN}
        able = tuple(sorted(kind for kind in kinds if order == "<" and _can_unpack(package, kind)))
        return _content_of(source, stored, metadata, package, order, able)

    opened.read, opened.dequantized = read, dequantized
    return opened


def _reason(entry: _Stored, package: ModuleType, order: str) -> str:
    if entry.kind is None:
        return f"its type is number {entry.number}, which the installed gguf does not know"
    if order == ">":
        return f"its type is {entry.kind}, a quantised one, in a big-endian file"
    if not _can_unpack(package, entry.kind):
        return f"its type is {entry.kind}, which the installed gguf cannot dequantise"
    return f"its type is {entry.kind}, a quantised one: load_file and convert read it as float32 with dequantize=True"


def _can_unpack(package: ModuleType, kind: str) -> bool:
    """Return True if the package can dequantise a type, judging by one block of zeros."""
    number = package.GGMLQuantizationType[kind]
    block, block_bytes = package.GGML_QUANT_SIZES[number]
    try:
        return package.dequantize(np.zeros((1, block_bytes), np.uint8), number).shape == (1, block)
    except Exception:  # it has no class of errors of its own
        return False


def _unpacked(content: np.ndarray, entry: _Stored, package: ModuleType, source: Source, name: str) -> np.ndarray:
    """Return a quantised tensor as float32."""
    number = package.GGMLQuantizationType(entry.number)
    rows = math.prod(entry.shape[:-1])
    if not content.size:
        return np.empty(entry.shape, np.float32)
    try:
        with np.errstate(all="ignore"):  # a damaged scale is infinite or not a number
            values = package.dequantize(content.reshape(rows, -1), number)
        return np.asarray(values, np.float32).reshape(entry.shape)
    except MemoryError:
        raise
    except Exception as error:
        raise CorruptError(
            f"tensor {name!r:.200} of {source.name} cannot be dequantised from {entry.kind}: {error}. Use another copy "
            "of the file, or another version of gguf.",
            (name,),
        ) from error
