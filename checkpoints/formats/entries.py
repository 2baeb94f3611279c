"""The JSON header that all formats share: the entries of the tensors, and metadata of strings.

An entry is `name: {"dtype": ..., "shape": [...], "data_offsets": [begin, end]}`, as in safetensors. The offsets count
from the start of the data; the tensors fill the data without gaps.

A header with a manifest may be sealed: the value of the key `statezoo` then starts with `seal=`, the xxh3-128 of all
other bytes of the header in hexadecimal, and a space. A header whose seal does not fit is damaged, or was rewritten by
another program.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import chain, repeat
from json.encoder import encode_basestring as json_text
from operator import add, itemgetter, sub
from typing import Any, NamedTuple, NoReturn

from xxhash import xxh3_128

from ..state import dtypes
from ..state.manifest import TensorSpec

# More than NumPy allows. Without a limit, the product of one shape that fills a few megabytes takes hours to compute.
_MOST_AXES = 1000
BITS = {dtype: 8 * size for dtype, size in dtypes.ITEM_BYTES.items()}

encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


# The key of the manifest in the metadata.
MANIFEST = "statezoo"
_SEAL = re.compile(rb'"statezoo": ?"seal=([0-9a-f]{32}) ')
_SEAL_KEY = "seal="
_BLANK_SEAL = f"{_SEAL_KEY}{32 * '0'} "


class InvalidError(Exception):
    """Something in a file that breaks the rules of its format."""


class Entries(NamedTuple):
    """The tensors that a header lists.

    offsets: where each tensor starts in the file. unsupported: the names whose dtype cannot be read, each with the
    reason; these are not in `tensors`.
    """

    tensors: dict[str, TensorSpec]
    offsets: dict[str, int]
    unsupported: dict[str, str]


def sealable(manifest: str) -> str:
    """Return the value of the key for a manifest in a header that seal() will complete."""
    return _BLANK_SEAL + manifest


def sealed(header: bytes) -> bytes:
    """Return a header with its seal filled in."""
    found = _SEAL.search(header)
    assert found is not None  # see sealable()
    return header[: found.start(1)] + _seal_of(header, found).encode() + header[found.end(1) :]


def unsealed(manifest: str, header: bytes) -> tuple[str, bool]:
    """Return the manifest from the value of the key, and whether the header has a seal that fits."""
    found = _SEAL.search(header) if manifest.startswith(_SEAL_KEY) else None
    is_sealed = found is not None and found[1].decode() == _seal_of(header, found)
    return without_seal(manifest), is_sealed


def without_seal(manifest: str) -> str:
    """Return the manifest from the value of the key, whether its seal fits or not."""
    return manifest[len(_BLANK_SEAL) :] if manifest.startswith(_SEAL_KEY) else manifest


def _seal_of(header: bytes, found: re.Match[bytes]) -> str:
    memory = memoryview(header)
    digest = xxh3_128(memory[: found.start(1)])
    digest.update(memory[found.end(1) :])
    return digest.hexdigest()


def data_offsets(tensors: Mapping[str, TensorSpec]) -> dict[str, int]:
    """Return where each tensor starts in the data: larger elements first, without gaps."""
    offsets, end = {}, 0
    for name, tensor in sorted(tensors.items(), key=lambda item: -dtypes.ITEM_BYTES[item[1].dtype]):
        offsets[name] = end
        end += tensor.size_bytes
    return offsets


def entries_text(tensors: Mapping[str, TensorSpec], offsets: Mapping[str, int]) -> str:
    """Return the JSON of the entries, without the outer braces. The standard encoder takes far longer."""
    kinds = {tensor: f'{{"dtype":"{tensor.dtype}","shape":{tensor.shape_text}' for tensor in set(tensors.values())}
    sizes = {tensor: tensor.size_bytes for tensor in kinds}
    entries = []
    for name, tensor in tensors.items():
        begin = offsets[name]
        entries.append(f'{json_text(name)}:{kinds[tensor]},"data_offsets":[{begin},{begin + sizes[tensor]}]}}')
    return ",".join(entries)


def strings_text(strings: Mapping[str, str]) -> str:
    """Return strings as a JSON object with sorted keys. The standard encoder takes far longer."""
    return f"{{{','.join([f'{json_text(key)}:{json_text(value)}' for key, value in sorted(strings.items())])}}}"


def parsed(text: bytes) -> dict[str, Any]:
    """Return the JSON object in `text`. Raises InvalidError for any other text, and if a name occurs twice."""
    try:
        header = _DECODER.decode(text.decode())
        if not isinstance(header, dict):
            raise ValueError("it is not an object")
        # Python's JSON accepts lone surrogates, which only an escape can give. A single byte is found far faster.
        if b"\\" in text and b"\\u" in text:
            json.dumps(header, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise InvalidError(f"its header is not valid JSON ({error})") from error
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
    """Return the metadata of a header, which may be any JSON value. Raises InvalidError unless it maps str to str."""
    # Some libraries write null instead of no metadata.
    if metadata is None:
        return {}
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise InvalidError("its metadata are not strings by name")
    return metadata


def checked_entries(
    entries: Mapping[str, Any], start: int, size_bytes: int, bits: Mapping[str, int] = BITS, *, gaps: bool = False
) -> Entries:
    """Check the entries of a header, whose values may be any JSON, and return its tensors.

    start, size_bytes: where the data is in the file. bits: the size of an element of each dtype, in bits. An entry with
    any other dtype is valid but unsupported. gaps: whether the tensors may leave bytes between and after them.
    Raises InvalidError if an entry is malformed, if tensors overlap, or if they do not fill the data exactly.
    """
    if not entries:
        _check_spans([], size_bytes, gaps)
        return Entries({}, {}, {})
    try:
        kinds, shapes, spans = zip(*map(_FIELDS, entries.values()), strict=True)
        flat = list(chain.from_iterable(spans))
        _check_fields(kinds, spans, shapes, flat)
    except (LookupError, TypeError, ValueError):
        _refuse_bad_entry(entries)
    tensors = _tensors_of(kinds, shapes)
    begins, ends = flat[::2], flat[1::2]
    _check_sizes(entries, tensors, list(map(sub, ends, begins)), bits)
    _check_spans(sorted(zip(begins, ends, strict=True)), size_bytes, gaps)
    offsets = map(add, begins, repeat(start))
    found = Entries(dict(zip(entries, tensors, strict=True)), dict(zip(entries, offsets, strict=True)), {})
    return found if bits.keys() >= set(kinds) else _without_unsupported(found, bits)


# Whole columns are checked, each in one call: a header can have a hundred thousand entries.
_FIELDS = itemgetter("dtype", "shape", "data_offsets")


def _check_fields(kinds: Iterable[Any], spans: tuple[Any, ...], shapes: tuple[Any, ...], flat: list[Any]) -> None:
    """Raise ValueError or TypeError unless kinds are strings, spans are pairs, and numbers are integers of at least 0.

    JSON's true and 1.0 are not integers, though Python compares them as equal to 1.
    """
    if {*map(type, kinds)} != {str}:
        raise ValueError
    if set(map(len, spans)) != {2} or {*map(type, spans), *map(type, shapes)} != {list}:
        raise ValueError
    numbers = set(chain.from_iterable(shapes))
    if set(map(type, chain(flat, chain.from_iterable(shapes)))) - {int} or min(flat) < 0:
        raise ValueError
    if max(map(len, shapes)) > _MOST_AXES or min(numbers, default=0) < 0 or max(numbers, default=0) >= 1 << 63:
        raise ValueError


def _refuse_bad_entry(entries: Mapping[str, Any]) -> NoReturn:
    """Raise InvalidError naming the first malformed entry."""
    for name, entry in entries.items():
        try:
            dtype, shape, span = _FIELDS(entry)
            _check_fields((dtype,), (span,), (shape,), list(span))
        except (LookupError, TypeError, ValueError) as error:
            raise InvalidError(f"the entry of tensor {name!r:.200} is not a dtype, a shape and two offsets") from error
    raise InvalidError("its entries are malformed")


def _tensors_of(kinds: tuple[str, ...], shapes: tuple[list[int], ...]) -> list[TensorSpec]:
    """Return the tensors, with equal ones as one object."""
    pairs = list(zip(kinds, map(tuple, shapes), strict=True))
    distinct = {pair: TensorSpec(*pair) for pair in set(pairs)}
    return list(map(distinct.__getitem__, pairs))


def _check_sizes(names: Iterable[str], tensors: list[TensorSpec], given: list[int], bits: Mapping[str, int]) -> None:
    """Raise InvalidError unless each tensor has the size that its entry gives. An unknown dtype may have any size."""
    sizes = {tensor: _size_in_file(tensor, bits) for tensor in set(tensors)}
    taken = list(map(sizes.__getitem__, tensors))
    if taken == given:
        return
    for name, size, amount in zip(names, taken, given, strict=True):
        if amount < 0 or size not in (amount, None):
            takes, gives = ("no whole number of" if n == -1 else _amount(n, "") for n in (size or 0, amount))
            raise InvalidError(f"tensor {name!r:.200} takes {takes} bytes, and its entry gives it {gives}")


def _size_in_file(tensor: TensorSpec, bits: Mapping[str, int]) -> int | None:
    """Return the size of a tensor in the file, None if its dtype is unknown, or -1 if it would end within a byte."""
    if tensor.dtype not in bits:
        return None
    size_bytes, rest = divmod(math.prod(tensor.shape) * bits[tensor.dtype], 8)
    return -1 if rest else size_bytes


def _without_unsupported(found: Entries, bits: Mapping[str, int]) -> Entries:
    unsupported = {
        name: f"its dtype is {tensor.dtype!r:.200}, which this version does not support"
        for name, tensor in found.tensors.items()
        if tensor.dtype not in bits
    }
    tensors = {name: tensor for name, tensor in found.tensors.items() if name not in unsupported}
    return Entries(tensors, {name: found.offsets[name] for name in tensors}, unsupported)


def _check_spans(spans: list[tuple[int, int]], size_bytes: int, gaps: bool) -> None:
    """Raise InvalidError unless the sorted spans follow each other without overlap, or gap, to the end of the file."""
    position = 0
    for begin, end in spans:
        if begin < position or (begin > position and not gaps):
            place = _amount(min(begin, position))
            raise InvalidError(f"its tensors leave a gap or overlap at byte {place} of the data")
        position = end
    if position > size_bytes or (position < size_bytes and not gaps):
        raise InvalidError(f"its tensors take {_amount(position)} bytes, and {size_bytes:,} follow the header")


def _amount(number: int, grouping: str = ",") -> str:
    """Return a number as text. A header may contain numbers with more digits than Python prints."""
    return format(number, grouping) if abs(number) < 1 << 128 else "far too many"
