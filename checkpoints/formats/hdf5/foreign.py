"""HDF5 files that are not of our version 2: those of other writers, those of our version 1, and damaged ones.

libhdf5 reads them, in a process of its own (hdf5_process.py), as some damaged files make it crash or loop for ever. It
is asked where the datasets are, and for the values of those that do not stand in the file as in memory; what it says is
checked against the size of the file.

Of other writers, plain files of arrays and Keras' `.weights.h5` are read: `/a/b` is named `a.b`, in the order of the
file; hard links to one dataset are ties. Chunked and compressed datasets are read with the filters that come with
h5py, as long as they do not expand to more than 128 times the file and 16 MiB. Refused, by name, is what could lead
out of the file or in circles: soft and external links, external and virtual storage, references, a group linked
twice; and what is no array of numbers: text, compounds, empty dataspaces. Attributes are not read, but for `dtype` of
opaque elements, where Keras has NumPy's name for bfloat16 and float8.

Files of our version 1 are laid out by libhdf5, and else as in hdf5.py, but that `/__statezoo__` is only the JSON
`{"manifest": text, "metadata": {...}, "names": [...]}`, the names being those of the stored tensors in their order.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ...errors import CheckpointError, CorruptError, FormatError
from ...state import dtypes
from ...state.manifest import Tensor
from ...storage.source import Source
from .. import Opened
from . import matches
from .names import RESERVED, name_of
from .process import Hdf5Process, invalid, nonsense, not_loaded, path_text

_MOST_EXPANSION, _FREE_EXPANSION_BYTES = 128, 16 << 20
_MOST_AXES = 32
_DTYPES = {numpy_name: name for name, numpy_name in dtypes.NUMPY.items()}
_DTYPES |= {f"opaque {numpy_name}": name for name, numpy_name in dtypes.ML_DTYPES.items()}

_Path = tuple[str, ...]


class _Found(NamedTuple):
    """A dataset: what it holds, and where; offset is None if only libhdf5 can read it, by its number."""

    tensor: Tensor
    offset: int | None
    number: int


def open_foreign(source: Source) -> Opened:
    """Return what is in a file. Raises FormatError for what is not loaded, CorruptError, ReadError."""
    if not matches(source):
        raise invalid(source, "file signature not found")
    most_bytes = _MOST_EXPANSION * source.size_bytes + _FREE_EXPANSION_BYTES
    process = Hdf5Process(source, most_bytes)
    try:
        links = _Links(source, most_bytes).of(process.index())
        ours = next((item for path, item in links if path == (RESERVED,)), None)
        found, opened = _foreign(source, links) if ours is None else _version1(source, links, ours)
    except BaseException:
        process.close()
        raise
    if len(opened.offsets) == len(opened.tensors):
        process.close()
        return opened

    def read(name: str) -> np.ndarray:
        tensor = opened.tensors[name]
        array = np.empty(tensor.shape, dtypes.numpy_dtype(tensor.dtype))
        process.values(found[name].number, array.reshape(-1).view(np.uint8).data)
        return array

    opened.read, opened.close = read, process.close
    return opened


class _Links:
    """Checks what libhdf5 says of the datasets in a file."""

    def __init__(self, source: Source, most_bytes: int) -> None:
        self._source = source
        self._contiguous_bytes = 0
        self._budget = most_bytes

    def of(self, index: bytes) -> list[tuple[_Path, _Found]]:
        """Return the datasets by their paths, in the order of the file; one with two links is the same item twice."""
        try:
            content = json.loads(index)
            entries = dict(enumerate(content["datasets"]))
            found: dict[int, _Found] = {}
            links = []
            for parts, number in content["links"]:
                path = _path(parts)
                if number not in found:
                    found[number] = self._checked(entries[number], number, path)
                links.append((path, found[number]))
        except CheckpointError:
            raise
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise nonsense(self._source) from error
        return links

    def _checked(self, entry: dict[str, Any], number: int, path: _Path) -> _Found:
        """Return what a dataset holds, having refused what is no array of numbers or cannot be in this file."""
        tensor = Tensor(self._dtype_of(entry, path), _shape(entry["shape"]))
        if not tensor.size_bytes:
            return _Found(tensor, 0, number)
        if entry["offset"] is None:
            self._budget -= tensor.size_bytes
            if self._budget < 0:
                reason = f"would take {tensor.size_bytes:,} bytes, far more than the file has"
                raise not_loaded(self._source, path, reason)
            return _Found(tensor, None, number)
        offset = _count(entry["offset"])
        if offset + tensor.size_bytes > self._source.size_bytes:
            raise not_loaded(self._source, path, "reaches beyond the end of the file")
        self._contiguous_bytes += tensor.size_bytes
        if self._contiguous_bytes > self._source.size_bytes:
            raise not_loaded(self._source, path, "lies where another dataset lies")
        return _Found(tensor, offset, number)

    def _dtype_of(self, entry: dict[str, Any], path: _Path) -> str:
        dtype = _DTYPES.get(entry["dtype"])
        if dtype is not None and dtypes.ITEM_BYTES[dtype] == entry["item_bytes"]:
            return dtype
        if entry["dtype"].startswith("opaque"):
            reason = "holds opaque bytes whose attribute `dtype` names no known one"
        else:
            reason = f"holds what is no array of numbers ({entry['dtype']:.80})"
        raise not_loaded(self._source, path, reason)


def _path(parts: Any) -> _Path:
    if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
        raise TypeError
    return tuple(parts)


def _shape(lengths: Any) -> tuple[int, ...]:
    if len(lengths) > _MOST_AXES:
        raise ValueError
    return tuple(map(_count, lengths))


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise ValueError
    return value


def _foreign(source: Source, links: Sequence[tuple[_Path, _Found]]) -> tuple[dict[str, _Found], Opened]:
    """Return the tensors of another writer's file by their names, and what is in it."""
    paths: dict[str, _Path] = {}
    found: dict[str, _Found] = {}
    first: dict[int, str] = {}
    ties: dict[str, str] = {}
    for path, item in links:
        name = ".".join(path)
        if name in paths:
            raise FormatError(
                f"the datasets {path_text(paths[name])} and {path_text(path)} in {source.name} would both be named "
                f"{name!r}. Rename one of them."
            )
        paths[name] = path
        if item.number in first:
            ties[name] = first[item.number]
            continue
        if _is_index(source, path, item):
            raise CorruptError(f"{source.name} is damaged: the name of the dataset {RESERVED} was changed to {name!r}.")
        first[item.number], found[name] = name, item
    return found, _opened(found, ties=ties)


def _is_index(source: Source, path: _Path, item: _Found) -> bool:
    """Whether a dataset is `/__statezoo__`, of either version, under another name."""
    if len(path) > 1 or item.tensor.dtype != "U8" or item.offset is None:
        return False
    start = source.read(item.offset, min(40, item.tensor.size_bytes))
    return start.startswith(b'{"manifest":"{')


def _version1(source: Source, links: Sequence[tuple[_Path, _Found]], ours: _Found) -> tuple[dict[str, _Found], Opened]:
    """Return the tensors of a file of ours by their names, and what is in it."""
    content, is_whole = _content_of(source, ours)
    by_name = {name_of(path): item for path, item in links if path != (RESERVED,)}
    try:
        names = dict.fromkeys(content["names"] if "names" in content else content["tensors"])
        metadata = dict(content["metadata"])
        manifest = content["manifest"]
    except (ValueError, LookupError, TypeError) as error:
        raise _damaged(source) from error
    found = {name: by_name.pop(name) for name in names if name in by_name}
    kept = {item.number: name for name, item in found.items()}
    missing = [name for name in names if name not in found]
    strangers = [name for name, item in by_name.items() if item.number not in kept]
    if missing or strangers:
        what = f"has no dataset {missing[0]!r}" if missing else f"has the dataset {strangers[0]!r}"
        raise _changed(source, f"it {what}, other than {RESERVED} says", (*missing, *strangers))
    if not is_whole or "names" not in content:
        raise _changed(source, f"{RESERVED} is not at its end as it was written")
    links_of_ties = {name: kept[item.number] for name, item in by_name.items()}
    return found, _opened(found, metadata=metadata, manifest=manifest, links=links_of_ties)


def _content_of(source: Source, ours: _Found) -> tuple[dict[str, Any], bool]:
    """Return the JSON in `/__statezoo__`, and whether there is nothing behind it, as in version 1."""
    if ours.tensor.dtype != "U8" or ours.offset is None:
        raise _damaged(source)
    try:
        text = source.read(ours.offset, ours.tensor.size_bytes).decode()
        content, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError) as error:
        raise _damaged(source) from error
    if not isinstance(content, dict):
        raise _damaged(source)
    return content, end == len(text)


def _damaged(source: Source) -> CorruptError:
    return CorruptError(f"{source.name} is damaged: {RESERVED} is not what was written. Use another copy of it.")


def _changed(source: Source, what: str, names: tuple[str, ...] = ()) -> CorruptError:
    return CorruptError(
        f"{source.name} is damaged, or was changed by another program after it was saved: {what}. Save the state anew "
        f"with save_file, or delete {RESERVED} to load the file unchecked.",
        names,
    )


def _opened(found: dict[str, _Found], **rest: Any) -> Opened:
    tensors = {name: item.tensor for name, item in found.items()}
    offsets = {name: item.offset for name, item in found.items() if item.offset is not None}
    return Opened(tensors, offsets, **rest)
