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
from collections import Counter
from collections.abc import Container, Mapping
from itertools import chain, repeat
from json.encoder import encode_basestring as json_text
from operator import add, itemgetter, sub
from typing import Any, NoReturn

from ..errors import CorruptError, FormatError, StateError, UnsupportedTypeError
from ..state import dtypes
from ..state.manifest import Tensor
from ..state.sharing import Alias
from ..storage.source import Source
from . import Layout, Opened
from .recognise import HEAD_BYTES, cause_of

NAME = "safetensors"
_METADATA = "__metadata__"
_MANIFEST = "statezoo"
# How a header shows that it had a manifest, even where damage has made it part of another value.
_MANIFEST_PIECES = tuple(
    rf"\"{key}\":".encode() for key in ("aliases", "checksum", "digests", "fingerprint", "layouts", "storages")
)
_MOST_HEADER_BYTES = 100_000_000
# More than NumPy allows. Without a limit a header of a few megabytes, all of it one shape, takes hours to multiply.
_MOST_AXES = 1000
_ALIGNMENT_BYTES = 64
_ITEM_BYTES = {dtype: size for dtype, size in dtypes.ITEM_BYTES.items() if dtype != "C128"}  # which is HDF5's alone


def lay_out(
    tensors: Mapping[str, Tensor], aliases: Mapping[str, Alias], metadata: Mapping[str, str], manifest: str
) -> Layout:
    """Return where things go. The header comes first, and its length depends on that of the manifest alone."""
    _refuse_unsupported(tensors)
    offsets = data_offsets(tensors)
    strings = {name: alias.kept for name, alias in aliases.items()} | dict(metadata)
    entries = entries_text(tensors, offsets)

    def seal(manifest: str) -> list[tuple[int, bytes]]:
        metadata = dict(sorted((strings | {_MANIFEST: manifest}).items()))
        text = f'{{"{_METADATA}":{_json(metadata)}{"," if entries else ""}{entries}}}'.encode()
        text += b" " * (-(8 + len(text)) % _ALIGNMENT_BYTES)
        return [(0, len(text).to_bytes(8, "little") + text)]

    start = len(seal(manifest)[0][1])
    if start - 8 > _MOST_HEADER_BYTES:
        raise StateError(
            f"the header would take {start - 8:,} bytes, and safetensors allows {_MOST_HEADER_BYTES:,}. "
            "Shorten the names or the metadata, or save to .h5."
        )
    return Layout({name: start + offset for name, offset in offsets.items()}, seal)


_json = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


def _refuse_unsupported(tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if tensor.dtype == "C128":
            raise UnsupportedTypeError(
                f"tensor {name!r} is complex128, which safetensors does not have. Save to .h5, or as complex64, or "
                "save its real and imaginary parts."
            )
    if _METADATA in tensors:
        raise StateError(f"a safetensors file cannot hold a tensor named {_METADATA!r}. Rename it, or save to .h5.")


def data_offsets(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """Return where each tensor begins, counted from the first: in descending size of an element, without gaps."""
    offsets, end = {}, 0
    for name, tensor in sorted(tensors.items(), key=lambda item: -dtypes.ITEM_BYTES[item[1].dtype]):
        offsets[name] = end
        end += tensor.size_bytes
    return offsets


def entries_text(tensors: Mapping[str, Tensor], offsets: Mapping[str, int]) -> str:
    """Return the JSON of the entries, without braces; the encoder of the standard library takes far longer."""
    kinds = {tensor: f'{{"dtype":"{tensor.dtype}","shape":{tensor.shape_text}' for tensor in set(tensors.values())}
    sizes = {tensor: tensor.size_bytes for tensor in kinds}
    entries = []
    for name, tensor in tensors.items():
        begin = offsets[name]
        entries.append(f'{json_text(name)}:{kinds[tensor]},"data_offsets":[{begin},{begin + sizes[tensor]}]}}')
    return ",".join(entries)


def open_source(source: Source) -> Opened:
    """Return what the header says, checked against the size of the file."""
    try:
        return _read_header(source)
    except (InvalidError, EOFError) as error:
        cause = cause_of(source.read(0, min(HEAD_BYTES, source.size_bytes)), source.size_bytes, NAME)
        reason = str(error) or "it was cut off while it was read"
        raise CorruptError(f"{source.name} is not a valid safetensors file: {reason}. {cause}") from error


class InvalidError(Exception):
    """What in the header breaks the rules of the format."""


def _read_header(source: Source) -> Opened:
    size = source.size_bytes
    length = int.from_bytes(source.read(0, min(8, size)), "little")
    if size < 8 or length > min(_MOST_HEADER_BYTES, size - 8):
        raise InvalidError(f"its header should take {length:,} bytes, and the file has {size:,}")
    text = source.read(8, length)
    header = parsed(text)
    metadata = checked_metadata(header.pop(_METADATA, None))
    start = 8 + length
    tensors, offsets = checked_entries(header, start, size - start, source.name, _ITEM_BYTES)
    manifest = metadata.pop(_MANIFEST, None)
    if manifest is None and sum(piece in text for piece in _MANIFEST_PIECES) > 1:
        raise InvalidError(f"the metadata key {_MANIFEST!r} was changed")
    ties = {name: kept for name, kept in metadata.items() if kept in tensors and name not in tensors}
    if manifest is None and ties:
        metadata = {key: value for key, value in metadata.items() if key not in ties}
    return Opened(tensors, offsets, metadata, manifest, ties)


def parsed(text: bytes) -> dict[str, Any]:
    """Return the JSON object in text. Raises InvalidError, also if a name occurs twice in an object of it."""
    try:
        header = _DECODER.decode(text.decode())
        if not text.startswith(b"{"):
            raise ValueError("it starts with something else than an object")
        if b"\\u" in text:  # Python's JSON lets lone surrogates through, which only an escape can give
            json.dumps(header, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise InvalidError(f"its header is not the JSON it should be ({error})") from error
    return header


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(name for name, times in Counter(name for name, _ in pairs).items() if times > 1)
        raise ValueError(f"{twice!r:.200} occurs twice")
    return found


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_without_duplicates, parse_constant=_refuse_constant)


def checked_metadata(metadata: Any) -> dict[str, str]:
    """Return metadata from a header, which may be anything. Raises InvalidError."""
    # Some writers put null where there is none.
    if metadata is None:
        return {}
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise InvalidError("its metadata are not strings by name")
    return metadata


def checked_entries(
    entries: Mapping[str, Any],
    start: int,
    size_bytes: int,
    source: str,
    item_bytes: Mapping[str, int] = dtypes.ITEM_BYTES,
) -> tuple[dict[str, Tensor], dict[str, int]]:
    """Return what the entries of a header say: tensors, and the offset of each in the file.

    start, size_bytes: where in the file its data are. source: the name of the file, for messages. item_bytes: the
    bytes of an element of each dtype that the format has. The entries may be anything that JSON can hold.
    Raises InvalidError, or FormatError for a dtype that NumPy has not.
    """
    if not entries:
        _check_spans([], size_bytes)
        return {}, {}
    try:
        kinds, shapes, spans = zip(*map(_FIELDS, entries.values()), strict=True)
        flat = list(chain.from_iterable(spans))
        _check_counts(spans, shapes, flat)
        tensors = _tensors_of(kinds, shapes, item_bytes)
    except (LookupError, TypeError, ValueError):
        _refuse_bad_entry(entries, source, item_bytes)
    begins, ends = flat[::2], flat[1::2]
    sizes = {tensor: tensor.size_bytes for tensor in set(tensors)}
    taken, given = list(map(sizes.__getitem__, tensors)), list(map(sub, ends, begins))
    if taken != given:
        name, *amounts = next(entry for entry in zip(entries, taken, given, strict=True) if entry[1] != entry[2])
        takes, gives = (_amount(amount, "") for amount in amounts)
        raise InvalidError(f"tensor {name!r:.200} takes {takes} bytes, and its entry gives it {gives}")
    _check_spans(sorted(zip(begins, ends, strict=True)), size_bytes)
    offsets = map(add, begins, repeat(start))
    return dict(zip(entries, tensors, strict=True)), dict(zip(entries, offsets, strict=True))


# From here on whole columns are looked at, each in one call: a header can have a hundred thousand entries.
_FIELDS = itemgetter("dtype", "shape", "data_offsets")


def _check_counts(spans: tuple[Any, ...], shapes: tuple[Any, ...], flat: list[Any]) -> None:
    """Raise ValueError or TypeError unless spans are pairs, and both they and shapes lists of integers from 0 on.

    JSON's true and 1.0 are no integers, though Python takes them for some.
    """
    if set(map(len, spans)) != {2} or {*map(type, spans), *map(type, shapes)} != {list}:
        raise ValueError
    numbers = set(chain.from_iterable(shapes))
    if set(map(type, chain(flat, chain.from_iterable(shapes)))) - {int} or min(flat) < 0:
        raise ValueError
    if max(map(len, shapes)) > _MOST_AXES or min(numbers, default=0) < 0 or max(numbers, default=0) >= 1 << 63:
        raise ValueError


def _tensors_of(kinds: tuple[Any, ...], shapes: tuple[Any, ...], item_bytes: Mapping[str, int]) -> list[Tensor]:
    """Return the tensors; equal ones are one object. Raises ValueError or TypeError for an unknown dtype."""
    pairs = list(zip(kinds, map(tuple, shapes), strict=True))
    if set(kinds) - item_bytes.keys():
        raise ValueError
    distinct = {pair: Tensor(*pair) for pair in set(pairs)}
    return list(map(distinct.__getitem__, pairs))


def _refuse_bad_entry(entries: Mapping[str, Any], source: str, item_bytes: Mapping[str, int]) -> NoReturn:
    """Raise an error that names the first entry that is none."""
    for name, entry in entries.items():
        try:
            dtype, shape, span = _FIELDS(entry)
            _check_counts((span,), (shape,), list(span))
            _tensors_of((dtype,), (shape,), item_bytes)
        except (LookupError, TypeError, ValueError):
            _refuse_entry(name, entry, source, item_bytes)
    raise InvalidError("its entries are not what they should be")


def _refuse_entry(name: str, entry: Any, source: str, known: Container[str]) -> NoReturn:
    dtype = entry.get("dtype") if isinstance(entry, dict) else None
    if isinstance(dtype, str) and dtype not in known:
        raise FormatError(
            f"tensor {name!r:.200} in {source} has the dtype {dtype!r:.200}, which NumPy has not. Convert it with the "
            "library that wrote it."
        )
    raise InvalidError(f"the entry of tensor {name!r:.200} is not a dtype, a shape and two offsets")


def _check_spans(spans: list[tuple[int, int]], size_bytes: int) -> None:
    """Make sure that the tensors, sorted, follow each other without gap or overlap up to the end of the file."""
    position = 0
    for begin, end in spans:
        if begin != position:
            place = _amount(min(begin, position))
            raise InvalidError(f"its tensors leave a gap or overlap at byte {place} of the data")
        position = end
    if position != size_bytes:
        raise InvalidError(f"its tensors take {_amount(position)} bytes, and {size_bytes:,} follow the header")


def _amount(number: int, grouping: str = ",") -> str:
    """Return a number as text: a header can give one of more digits than Python prints."""
    return format(number, grouping) if abs(number) < 1 << 128 else "far too many"
