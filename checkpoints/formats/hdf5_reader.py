"""Reading the structure of an HDF5 file, ours or another writer's; what is accepted is said in hdf5.py."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, NamedTuple, NoReturn

import h5py
import numpy as np
from h5py import h5, h5d, h5f, h5g, h5l, h5o, h5p, h5s, h5t, h5z  # pyright: ignore[reportAttributeAccessIssue]

from .. import dtypes
from ..errors import CheckpointError, CorruptError, FormatError
from ..manifest import Tensor
from . import Opened
from .hdf5_names import MOST_PARTS, RESERVED, name_of
from .hdf5_types import type_of
from .recognise import cause_of

_MOST_EXPANSION, _FREE_EXPANSION_BYTES = 128, 16 << 20
_FILTERS = {h5z.FILTER_DEFLATE, h5z.FILTER_SHUFFLE, h5z.FILTER_FLETCHER32, h5z.FILTER_SZIP, h5z.FILTER_NBIT}
_FILTERS |= {h5z.FILTER_SCALEOFFSET, h5z.FILTER_LZF}


@contextmanager
def open_file(path: str) -> Iterator[Opened]:
    """Give the opened file, its links and datasets having been checked."""
    with open(path, "rb") as file:
        head, size = file.read(64), os.fstat(file.fileno()).st_size
    access = h5p.create(h5p.FILE_ACCESS)
    access.set_fclose_degree(h5f.CLOSE_STRONG)
    with _explaining(path, cause_of(head, size, "hdf5")):
        file = h5f.open(os.fsencode(path), h5f.ACC_RDONLY, access)
    try:
        # The same open file as libhdf5 reads, whatever is renamed to the path meanwhile.
        with open(file.get_vfd_handle(), "rb", buffering=0, closefd=False) as raw:
            with _explaining(path, "Use another copy of it."):
                opened = _Reader(path, raw).opened(file)
            yield opened
    finally:
        file.close()


@contextmanager
def _explaining(path: str, cause: str) -> Iterator[None]:
    """Turn what h5py raises, which may be any exception where a file is damaged, into CorruptError."""
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:
        raise CorruptError(f"{path} is not a valid HDF5 file: {str(error)[:200]}. {cause}") from error


class _Found(NamedTuple):
    """A dataset: what it holds, and where; offset is None if only libhdf5 can read it."""

    tensor: Tensor
    offset: int | None
    dataset: Any


class _Reader:
    """Reads the structure of one open file."""

    def __init__(self, path: str, raw: BinaryIO) -> None:
        self._path, self._raw = path, raw
        self._size = os.fstat(raw.fileno()).st_size
        self._contiguous_bytes = 0
        self._budget = _MOST_EXPANSION * self._size + _FREE_EXPANSION_BYTES
        self._types: dict[bytes, str] = {}

    def opened(self, file: Any) -> Opened:
        """Return all tensors, ours by the names in `/__statezoo__`, those of others by their paths."""
        found = self._walk(h5g.open(file, b"/"))
        ours = found.pop((RESERVED,), None)
        if ours is None:
            return self._foreign(found)
        content = json.loads(self._bytes_of(ours))
        by_name = {name_of(parts): item for parts, item in found.items()}
        missing = [name for name in content["names"] if name not in by_name]
        tensors = {name: by_name.pop(name) for name in content["names"] if name in by_name}
        kept = {id(item): name for name, item in tensors.items()}
        strangers = [name for name, item in by_name.items() if id(item) not in kept]
        if missing or strangers:
            what = f"has no dataset {missing[0]!r}" if missing else f"has the dataset {strangers[0]!r}"
            raise CorruptError(
                f"{self._path} was changed by another program after it was saved: it {what}, other than {RESERVED} "
                f"says. Save the state anew with save_file, or delete {RESERVED} to load the file unchecked.",
                tuple(missing or strangers),
            )
        opened = self._result(tensors, dict(content["metadata"]), content["manifest"])
        opened.links = {name: kept[id(item)] for name, item in by_name.items()}
        return opened

    def _foreign(self, found: dict[tuple[str, ...], _Found]) -> Opened:
        paths: dict[str, tuple[str, ...]] = {}
        for parts, item in found.items():
            name = ".".join(parts)
            if name in paths:
                raise FormatError(
                    f"the datasets {_text(paths[name])} and {_text(parts)} in {self._path} would both be named "
                    f"{name!r}. Rename one of them."
                )
            paths[name] = parts
            is_text = len(parts) == 1 and item.tensor.dtype == "U8" and item.offset is not None
            if is_text and self._bytes_of(item, 40).startswith(b'{"manifest":"{'):
                raise CorruptError(
                    f"{self._path} is damaged: the name of the dataset {RESERVED} was changed to {name!r}."
                )
        first: dict[int, str] = {}
        for name, parts in paths.items():
            first.setdefault(id(found[parts]), name)
        ties = {name: first[id(found[parts])] for name, parts in paths.items()}
        tensors = {name: found[paths[name]] for name in first.values()}
        return self._result(tensors, {}, None, {name: kept for name, kept in ties.items() if name != kept})

    def _result(
        self,
        found: dict[str, _Found],
        metadata: dict[str, str],
        manifest: str | None,
        ties: dict[str, str] | None = None,
    ) -> Opened:
        def read(name: str) -> np.ndarray:
            with _explaining(self._path, "Use another copy of it."):
                values = np.asarray(h5py.Dataset(found[name].dataset)[()])
                return values.view(dtypes.numpy_dtype(tensors[name].dtype)) if values.dtype.kind == "V" else values

        tensors = {name: item.tensor for name, item in found.items()}
        offsets = {name: item.offset for name, item in found.items() if item.offset is not None}
        return Opened(self._raw, tensors, offsets, metadata, manifest, ties or {}, read=read)

    def _walk(self, root: Any) -> dict[tuple[str, ...], _Found]:
        """Return the datasets by their paths, in the order of the file; one with two links is the same object twice."""
        found: dict[tuple[str, ...], _Found] = {}
        seen: dict[int, _Found | None] = {}
        pending = [((), root, link) for link in reversed(_links(root))]
        while pending:
            parents, group, (leaf, kind, address) = pending.pop()
            path = (*parents, leaf.decode())
            if kind != h5l.TYPE_HARD:
                self._refuse(path, "is a soft or external link")
            if len(path) > MOST_PARTS:
                self._refuse(path[:3], f"leads into groups more than {MOST_PARTS} deep")
            item = seen.get(address)
            if address in seen and item is None:
                self._refuse(path, "is a second link to a group")
            if item is None:
                thing = h5o.open(group, leaf)
                if isinstance(thing, h5g.GroupID):
                    seen[address] = None
                    pending += [(path, thing, link) for link in reversed(_links(thing))]
                if not isinstance(thing, h5d.DatasetID):
                    continue
                seen[address] = item = self._look_at(thing, path)
            found[path] = item
        return found

    def _look_at(self, dataset: Any, path: tuple[str, ...]) -> _Found:
        """Return what a dataset holds, having refused what is no array of numbers or not in this file."""
        space, properties = dataset.get_space(), dataset.get_create_plist()
        if space.get_simple_extent_type() == h5s.NULL:
            self._refuse(path, "is an empty dataspace, not an array")
        layout = properties.get_layout()
        if layout == h5d.VIRTUAL or properties.get_external_count():
            self._refuse(path, "is kept in other files")
        kind = dataset.get_type()
        tensor = Tensor(self._dtype_of(kind, dataset, path), space.shape)
        offset = dataset.get_offset() if layout == h5d.CONTIGUOUS and kind.equal(type_of(tensor.dtype)) else None
        if not tensor.size_bytes:
            offset = 0
        if offset is not None and offset + tensor.size_bytes > self._size:
            self._refuse(path, "reaches beyond the end of the file")
        if offset is not None:
            self._contiguous_bytes += tensor.size_bytes
            if self._contiguous_bytes > self._size:
                self._refuse(path, "lies where another dataset lies")
        if offset is None:
            self._refuse_explosive(tensor, properties, path)
        return _Found(tensor, offset, dataset if offset is None else None)

    def _refuse_explosive(self, tensor: Tensor, properties: Any, path: tuple[str, ...]) -> None:
        if any(properties.get_filter(n)[0] not in _FILTERS for n in range(properties.get_nfilters())):
            self._refuse(path, "is compressed with a filter that h5py does not bring")
        self._budget -= tensor.size_bytes
        if self._budget < 0:
            self._refuse(path, f"would take {tensor.size_bytes:,} bytes, far more than the file has")

    def _dtype_of(self, kind: Any, dataset: Any, path: tuple[str, ...]) -> str:
        if kind.get_class() == h5t.OPAQUE:
            name = h5py.Dataset(dataset).attrs.get("dtype")
            name = name.decode("latin-1") if isinstance(name, bytes) else name
            for dtype, numpy_name in dtypes.ML_DTYPES.items():
                if name == numpy_name and kind.get_size() == dtypes.numpy_dtype(dtype).itemsize:
                    return dtype
            self._refuse(path, "holds opaque bytes whose attribute `dtype` names no known one")
        key = kind.encode()
        if key not in self._types:
            try:
                self._types[key] = dtypes.name_of(kind.dtype, _text(path))
            except (CheckpointError, TypeError) as error:
                self._refuse(path, f"holds what is no array of numbers ({str(error)[:80]})")
        return self._types[key]

    def _refuse(self, path: tuple[str, ...], what: str) -> NoReturn:
        raise FormatError(
            f"{_text(path)} in {self._path} {what}, which is not loaded. Remove it, or read it with h5py."
        )

    def _bytes_of(self, item: _Found, most: int | None = None) -> bytes:
        if item.tensor.dtype != "U8" or item.offset is None:
            raise CorruptError(f"{self._path} is damaged: {RESERVED} is not what was written. Use another copy of it.")
        self._raw.seek(item.offset)
        size = item.tensor.size_bytes if most is None else min(most, item.tensor.size_bytes)
        return self._raw.read(size)


def _links(group: Any) -> list[tuple[bytes, int, int]]:
    """Return the name, kind and address of each link in a group, in the order of their making where that is kept."""
    tracked = group.get_create_plist().get_link_creation_order() & h5p.CRT_ORDER_TRACKED
    links: list[tuple[bytes, int, int]] = []
    group.links.iterate(
        lambda name, link: links.append((name, link.type, link.u)),
        info=True,
        idx_type=h5.INDEX_CRT_ORDER if tracked else h5.INDEX_NAME,
    )
    return links


def _text(path: tuple[str, ...]) -> str:
    return repr("/" + "/".join(path))
