"""safetensors: a JSON header and the memory of the tensors.

    8 bytes        N, little-endian, at most 100,000,000
    N bytes        a JSON object, starting with "{", and spaces, so that the data start at a multiple of 64
    the rest       the tensors, little-endian, C-contiguous, without gaps

The header has `name: {"dtype": ..., "shape": [...], "data_offsets": [begin, end]}` for each stored tensor, in the
order of the state, the offsets counting from the end of the header. The data are in descending size of an element, so
that each tensor is aligned; in the order of the state within a size.

`__metadata__` comes first, with sorted keys and strings as values: the user's entries; for each alias that the user
has no entry of the same name for, `alias: kept`, as safetensors.torch.save_model writes it; and `statezoo`, the
manifest.

Limitations. The format has no complex128. No tensor can be called `__metadata__`. The header ends at 100,000,000 bytes,
which is about a million tensors. Names are Unicode text without lone surrogates.

Of other writers every valid file is read. In it, a metadata entry `name: kept` where kept is a tensor and name is not
makes name a tie of kept. Refused are: a name given twice; the dtypes F4, F6_E2M3 and F6_E3M2, which NumPy has not.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO

from .. import dtypes
from ..errors import CorruptError, FormatError, StateError, UnsupportedTypeError
from ..manifest import Tensor, looks_like_manifest
from ..sharing import Alias
from . import Layout, Opened
from .recognise import cause_of

NAME = "safetensors"
_METADATA = "__metadata__"
_MANIFEST = "statezoo"
_MOST_HEADER_BYTES = 100_000_000
# More than NumPy allows. Without a limit a header of a few megabytes, all of it one shape, takes hours to multiply.
_MOST_AXES = 1000
_ALIGNMENT_BYTES = 64


def lay_out(
    file: BinaryIO,
    tensors: Mapping[str, Tensor],
    aliases: Mapping[str, Alias],
    metadata: Mapping[str, str],
    manifest: str,
) -> Layout:
    """Return where things go; nothing is written yet, as the header, which comes first, holds the manifest."""
    _refuse_unsupported(tensors)
    offsets, end = {}, 0
    for name in sorted(tensors, key=lambda name: -dtypes.numpy_dtype(tensors[name].dtype).itemsize):
        offsets[name] = end
        end += tensors[name].size_bytes

    strings = {name: alias.kept for name, alias in aliases.items()} | dict(metadata)
    entries = {
        name: {"dtype": t.dtype, "shape": t.shape, "data_offsets": (offsets[name], offsets[name] + t.size_bytes)}
        for name, t in tensors.items()
    }

    def seal(manifest: str) -> tuple[int, bytes]:
        metadata = dict(sorted((strings | {_MANIFEST: manifest}).items()))
        text = json.dumps({_METADATA: metadata} | entries, separators=(",", ":"), ensure_ascii=False).encode()
        text += b" " * (-(8 + len(text)) % _ALIGNMENT_BYTES)
        return 0, len(text).to_bytes(8, "little") + text

    start = len(seal(manifest)[1])
    if start - 8 > _MOST_HEADER_BYTES:
        raise StateError(
            f"the header would take {start - 8:,} bytes, and safetensors allows {_MOST_HEADER_BYTES:,}. "
            "Shorten the names or the metadata, or save to .h5."
        )
    return Layout({name: start + offset for name, offset in offsets.items()}, seal)


def _refuse_unsupported(tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if tensor.dtype == "C128":
            raise UnsupportedTypeError(
                f"tensor {name!r} is complex128, which safetensors does not have. Save to .h5, or as complex64, or "
                "save its real and imaginary parts."
            )
    if _METADATA in tensors:
        raise StateError(f"a safetensors file cannot hold a tensor named {_METADATA!r}. Rename it, or save to .h5.")


@contextmanager
def open_file(path: str) -> Iterator[Opened]:
    """Give the opened file, its header having been checked against the size of the file."""
    with open(path, "rb", buffering=0) as file:
        try:
            yield _read_header(file, path)
        except _InvalidError as error:
            file.seek(0)
            cause = cause_of(file.read(64), os.fstat(file.fileno()).st_size, NAME)
            raise CorruptError(f"{path} is not a valid safetensors file: {error}. {cause}") from error


class _InvalidError(Exception):
    """What in the header breaks the rules of the format."""


def _read_header(file: BinaryIO, path: str) -> Opened:
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > min(_MOST_HEADER_BYTES, size - 8):
        raise _InvalidError(f"its header should take {length:,} bytes, and the file has {size:,}")
    text = file.read(length)
    if len(text) < length:
        raise _InvalidError("its header could not be read whole")
    header = _parsed(text)
    metadata = _checked_metadata(header.pop(_METADATA, None))
    tensors, offsets = {}, {}
    spans = []
    for name, entry in header.items():
        tensors[name], begin, end = _checked_entry(name, entry, path)
        offsets[name] = 8 + length + begin
        spans.append((begin, end))
    _check_spans(spans, size - 8 - length)
    manifest = metadata.pop(_MANIFEST, None)
    if manifest is None and any(looks_like_manifest(value) for value in metadata.values()):
        raise _InvalidError(f"the metadata key {_MANIFEST!r} was changed")
    ties = {name: kept for name, kept in metadata.items() if kept in tensors and name not in tensors}
    if manifest is None:
        metadata = {key: value for key, value in metadata.items() if key not in ties}
    return Opened(file, tensors, offsets, metadata, manifest, ties)


def _parsed(text: bytes) -> dict[str, Any]:
    """Return the JSON object in text. Raises _InvalidError."""
    try:
        header = json.loads(text.decode(), object_pairs_hook=_without_duplicates, parse_constant=_refuse_constant)
        if not text.startswith(b"{"):
            raise ValueError("it starts with something else than an object")
        # Python's JSON lets lone surrogates through.
        json.dumps(header, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise _InvalidError(f"its header is not the JSON it should be ({error})") from error
    return header


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(name for name, times in Counter(name for name, _ in pairs).items() if times > 1)
        raise ValueError(f"{twice!r} occurs twice")
    return found


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _checked_metadata(metadata: Any) -> dict[str, str]:
    # Some writers put null where there is none.
    if metadata is None:
        return {}
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _InvalidError("its metadata are not strings by name")
    return metadata


def _checked_entry(name: str, entry: Any, path: str) -> tuple[Tensor, int, int]:
    """Return what an entry of the header says, having made sure that it says so of itself consistently."""
    try:
        dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        whole = all(type(number) is int and 0 <= number < 1 << 63 for number in (*shape, begin, end))
    except (KeyError, TypeError, ValueError):
        whole, dtype, shape, begin, end = False, None, [], 0, 0
    if not whole or not isinstance(dtype, str) or not isinstance(shape, list) or len(shape) > _MOST_AXES:
        raise _InvalidError(f"the entry of tensor {name!r} is not a dtype, a shape and two offsets")
    if (dtype not in dtypes.NUMPY and dtype not in dtypes.ML_DTYPES) or dtype == "C128":
        raise FormatError(
            f"tensor {name!r} in {path} has the dtype {dtype!r}, which NumPy has not. Convert it with the library that "
            "wrote it."
        )
    tensor = Tensor(dtype, tuple(shape))
    if tensor.size_bytes != end - begin:
        raise _InvalidError(f"tensor {name!r} takes {tensor.size_bytes} bytes, and its entry gives it {end - begin}")
    return tensor, begin, end


def _check_spans(spans: list[tuple[int, int]], size_bytes: int) -> None:
    """Make sure that the tensors follow each other without gap or overlap up to the end of the file."""
    position = 0
    for begin, end in sorted(spans):
        if begin != position:
            raise _InvalidError(f"its tensors leave a gap or overlap at byte {min(begin, position):,} of the data")
        position = end
    if position != size_bytes:
        raise _InvalidError(f"its tensors take {position:,} bytes, and {size_bytes:,} follow the header")
