"""The datasets that libhdf5 lists in a file, checked against the size of the file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn

from ...errors import CheckpointError, CorruptError
from ...state import dtypes
from ...state.manifest import TensorSpec
from ...storage.source import Source
from .order import in_order
from .process import nonsense

_MOST_AXES = 32
_MOST_REASON_LENGTH = 300
_BEYOND, _OVERLAPS = "reaches beyond the end of the file", "has bytes that belong to another dataset"
_DTYPES = {numpy_name: name for name, numpy_name in dtypes.NUMPY.items()}
_DTYPES |= {f"opaque {numpy_name}": name for name, numpy_name in dtypes.ML_DTYPES.items()}

Path = tuple[str, ...]


class Found(NamedTuple):
    """A dataset: what it holds, and where.

    offset: None if only libhdf5 can read it. number: its number in requests to libhdf5. address: that of its header.
    note: what its dtype does not say.
    """

    tensor: TensorSpec
    offset: int | None
    number: int
    address: int
    note: str


class Listing(NamedTuple):
    """The datasets of a file by path, in the order of the file, and the objects that cannot be read, with the reason.

    A dataset with two links occurs twice. Files of Keras are in the order that order.py describes.
    """

    links: list[tuple[Path, Found]]
    unsupported: list[tuple[Path, str]]


def listing_of(source: Source, index: bytes, most_bytes: int, is_cut_off: bool = False) -> Listing:
    """Check the index that libhdf5 returns for a file, and return its content.

    most_bytes: the most bytes that the values libhdf5 has to unpack may take. is_cut_off: keep datasets that reach
    beyond the end of the file, instead of refusing the file.
    Raises CorruptError if something cannot be right.
    """
    try:
        content = json.loads(index)
        unsupported = [(_path(parts), _reason(reason)) for parts, reason in content["unsupported"]]
        checks = _Checks(source, most_bytes, is_cut_off)
        entries = dict(enumerate(content["datasets"]))
        found: dict[int, Found | str] = {}
        links = []
        for parts, number in content["links"]:
            path = _path(parts)
            if number not in found:
                found[number] = checks.checked(entries[number], number, path)
            item = found[number]
            if isinstance(item, str):
                unsupported.append((path, item))
            else:
                links.append((path, item))
        orders = [(_path(parts), list(_path(names))) for parts, names in content["orders"]]
        return Listing(in_order(links, orders), unsupported)
    except CheckpointError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise nonsense(source) from error


class _Checks:
    """A check that all datasets of a file fit into it together."""

    def __init__(self, source: Source, most_bytes: int, is_cut_off: bool) -> None:
        self._source, self._budget, self._is_cut_off = source, most_bytes, is_cut_off
        self._contiguous_bytes = 0

    def checked(self, entry: dict[str, Any], number: int, path: Path) -> Found | str:
        """Return a dataset, or the reason why it cannot be read. Raises CorruptError if it cannot be in the file."""
        dtype = _DTYPES.get(entry["dtype"])
        if dtype is None or dtypes.ITEM_BYTES[dtype] != entry["item_bytes"]:
            return _refusal_of(entry["dtype"])
        tensor = TensorSpec(dtype, _shape(entry["shape"]))
        address, note = _count(entry["address"]), _reason(entry["note"])
        if not tensor.size_bytes:
            return Found(tensor, 0, number, address, note)
        if entry["offset"] is None:
            if tensor.size_bytes > self._budget:
                return f"its values would take {tensor.size_bytes:,} bytes, far more than the file has"
            self._budget -= tensor.size_bytes
            return Found(tensor, None, number, address, note)
        offset = _count(entry["offset"])
        end = offset + tensor.size_bytes
        if end > self._source.size_bytes:
            return Found(tensor, offset, number, address, note) if self._is_cut_off else self._refuse(path, _BEYOND)
        self._contiguous_bytes += tensor.size_bytes
        if self._contiguous_bytes > self._source.size_bytes:
            return f"it {_OVERLAPS}" if self._is_cut_off else self._refuse(path, _OVERLAPS)
        return Found(tensor, offset, number, address, note)

    def _refuse(self, path: Path, what: str) -> NoReturn:
        raise CorruptError(
            f"{self._source.name} is damaged: the dataset {path_text(path)} {what}. Use another copy of it, or save "
            "what is intact with repair.",
            (".".join(path),),
        )


def _refusal_of(dtype: str) -> str:
    if dtype.startswith("opaque"):
        return "it holds opaque bytes, and its attribute `dtype` does not name a supported dtype"
    return f"it holds {dtype:.80}, which this version does not support"


def path_text(path: Sequence[str]) -> str:
    """Return a path as text for messages."""
    return f"{'/' + '/'.join(path)!r:.200}"


def _path(parts: Any) -> Path:
    if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
        raise TypeError
    return tuple(parts)


def _reason(text: Any) -> str:
    if not isinstance(text, str):
        raise TypeError
    return text[:_MOST_REASON_LENGTH]


def _shape(lengths: Any) -> tuple[int, ...]:
    if len(lengths) > _MOST_AXES:
        raise ValueError
    return tuple(map(_count, lengths))


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise ValueError
    return value
