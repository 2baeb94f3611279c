"""HDF5: a dataset for each tensor, in groups that follow the module tree.

`fc1.weight` is the dataset `/fc1/weight`, contiguous and at a multiple of 64 bytes, so that it can be mapped. A tie is a hard
link to the dataset of the kept tensor. A view is only in the manifest. bfloat16 and float8 are opaque elements of their
size, with NumPy's name for them in the attribute `dtype`, as Keras does it; complex numbers and booleans are as h5py does
them. `/__statezoo__` is a uint8 dataset of JSON, keys sorted: `{"manifest": text, "metadata": {...}, "names": [...]}`, the
names being those of the stored tensors in their order. The file is in the format of HDF5 1.8, whose structures carry
checksums, and holds no times.

Names become paths by their dots. In a part of a name, `%`, `/` and NUL are written `%25`, `%2F` and `%00`; an empty part is
`%`; a dot that follows what is itself the name of a tensor (`a` beside `a.b`) is `%2E`; the first character of a first part
`__statezoo__` is `%5F`.

Limitations. A name has at most 200 parts, and 60,000 bytes; an array at most 32 axes. libhdf5 is written in C and has
crashed on files made for that: do not open files of people you do not trust, use safetensors for them.

Of other writers, plain files of arrays and Keras' `.weights.h5` are read: `/a/b` is named `a.b`, in the order of the file;
hard links to one dataset are ties. Chunked and compressed datasets are read with the filters that come with h5py, as long
as they do not expand to more than 128 times the file and 16 MiB. Refused, by name, is what could lead out of the file or
in circles: soft and external links, external and virtual storage, references, a group linked twice; and what is no array
of numbers: text, compounds, empty dataspaces. Attributes are not read.
"""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO, NamedTuple, NoReturn

import h5py
import numpy as np
from h5py import h5, h5d, h5f, h5fd, h5g, h5l, h5o, h5p, h5s, h5t, h5z

from .. import dtypes
from ..errors import CheckpointError, CorruptError, FormatError, StateError
from ..manifest import Tensor, looks_like_manifest
from ..sharing import Alias
from . import Layout, Opened
from .memory_file import MemoryFile
from .recognise import cause_of

NAME = "hdf5"
_OURS = "__statezoo__"
_ALIGNMENT_BYTES = 64
_MOST_PARTS = 200
_MOST_NAME_BYTES = 60_000
_MOST_AXES = 32
_MOST_EXPANSION, _FREE_EXPANSION_BYTES = 128, 16 << 20
_FILTERS = {h5z.FILTER_DEFLATE, h5z.FILTER_SHUFFLE, h5z.FILTER_FLETCHER32, h5z.FILTER_SZIP, h5z.FILTER_NBIT}
_FILTERS |= {h5z.FILTER_SCALEOFFSET, h5z.FILTER_LZF}


def lay_out(
    file: BinaryIO,
    tensors: Mapping[str, Tensor],
    aliases: Mapping[str, Alias],
    metadata: Mapping[str, str],
    manifest: str,
) -> Layout:
    """Return where things go, having written the structure of the file: superblock, groups and datasets without bytes."""
    ties = {name: alias.kept for name, alias in aliases.items() if alias.view is None}
    paths = _paths([*tensors, *ties])
    for name, tensor in tensors.items():
        if len(tensor.shape) > _MOST_AXES:
            raise StateError(f"tensor {name!r} has {len(tensor.shape)} axes, and HDF5 allows {_MOST_AXES}. Reshape it.")

    def seal(manifest: str) -> tuple[int, bytes]:
        return offset, _content(manifest, metadata, tensors)

    memory = MemoryFile()
    with _new_file(memory) as root:
        groups: dict[tuple[bytes, ...], Any] = {(): root}
        datasets = {name: _create(_group(groups, paths[name]), paths[name][-1], t) for name, t in tensors.items()}
        for name, kept in ties.items():
            origin, target = _group(groups, paths[kept]), _group(groups, paths[name])
            target.links.create_hard(paths[name][-1], origin, paths[kept][-1], lcpl=_LINKS)
        size = len(_content(manifest, metadata, tensors))
        offset = _create(root, _OURS.encode(), Tensor("U8", (size,))).get_offset()
        offsets = {name: dataset.get_offset() or 0 for name, dataset in datasets.items()}
    for start, piece in memory.pieces():
        file.seek(start)
        file.write(piece)
    return Layout(offsets, seal)


@contextmanager
def _new_file(memory: MemoryFile) -> Iterator[Any]:
    """Give the root group of a new file, complete in memory when the block ends."""
    access = h5p.create(h5p.FILE_ACCESS)
    access.set_libver_bounds(h5f.LIBVER_V18, h5f.LIBVER_V18)
    access.set_alignment(1, _ALIGNMENT_BYTES)
    access.set_fclose_degree(h5f.CLOSE_STRONG)
    access.set_fileobj_driver(h5fd.fileobj_driver, memory)
    file = h5f.create(b"-", h5f.ACC_TRUNC, _plist(h5p.FILE_CREATE), access)
    try:
        yield h5g.open(file, b"/")
    finally:
        file.close()


def _plist(kind: Any) -> Any:
    """Return creation properties without times, which would make each save differ."""
    properties = h5p.create(kind)
    properties.set_obj_track_times(False)
    return properties


def _contiguous() -> Any:
    properties = _plist(h5p.DATASET_CREATE)
    properties.set_layout(h5d.CONTIGUOUS)
    # The place is fixed at once, and nothing is put there: the bytes are written past libhdf5.
    properties.set_alloc_time(h5d.ALLOC_TIME_EARLY)
    properties.set_fill_time(h5d.FILL_TIME_NEVER)
    return properties


def _unicode_links() -> Any:
    properties = h5p.create(h5p.LINK_CREATE)
    properties.set_char_encoding(h5t.CSET_UTF8)
    return properties


_LINKS, _CONTIGUOUS, _GROUP = _unicode_links(), _contiguous(), _plist(h5p.GROUP_CREATE)


def _create(group: Any, leaf: bytes, tensor: Tensor) -> Any:
    """Return a new dataset for a tensor, its bytes not yet written."""
    space = h5s.create_simple(tensor.shape) if tensor.shape else h5s.create(h5s.SCALAR)
    dataset = h5d.create(group, leaf, _type_of(tensor.dtype), space, _CONTIGUOUS, _LINKS)
    if tensor.dtype in dtypes.ML_DTYPES:
        h5py.Dataset(dataset).attrs["dtype"] = dtypes.ML_DTYPES[tensor.dtype]
    return dataset


def _group(groups: dict[tuple[bytes, ...], Any], path: tuple[bytes, ...]) -> Any:
    """Return the group that the dataset at path belongs into, made if it is not in groups yet."""
    depth = len(path) - 1
    while path[:depth] not in groups:
        depth -= 1
    for end in range(depth, len(path) - 1):
        groups[path[: end + 1]] = h5g.create(groups[path[:end]], path[end], _LINKS, _GROUP)
    return groups[path[:-1]]


@functools.cache
def _type_of(dtype: str) -> Any:
    if dtype in dtypes.ML_DTYPES:
        return h5t.py_create(np.dtype(f"V{dtypes.numpy_dtype(dtype).itemsize}"))
    return h5t.py_create(dtypes.numpy_dtype(dtype), logical=True)


def _content(manifest: str, metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> bytes:
    """Return what `/__statezoo__` holds."""
    content = {"manifest": manifest, "metadata": dict(sorted(metadata.items())), "names": list(tensors)}
    return json.dumps(content, separators=(",", ":")).encode()


def _paths(names: list[str]) -> dict[str, tuple[bytes, ...]]:
    """Return the path of each name. Raises StateError naming what HDF5 cannot hold."""
    known = set(names)
    paths: dict[str, tuple[bytes, ...]] = {}
    for name in names:
        if name.count(".") >= _MOST_PARTS or len(name.encode()) > _MOST_NAME_BYTES:
            raise StateError(
                f"tensor {name[:40]!r}... has {name.count('.') + 1:,} parts and {len(name.encode()):,} bytes in its name; "
                f"an HDF5 file holds names of {_MOST_PARTS} parts and {_MOST_NAME_BYTES:,} bytes. Shorten it, or save to "
                ".safetensors."
            )
        parts = [_escaped(part) for part in name.split(".")]
        # From the end, so that positions of parts still to be looked at stay.
        for end in range(len(parts) - 1, 0, -1):
            if ".".join(name.split(".")[:end]) in known:
                parts[end - 1 : end + 1] = [f"{parts[end - 1]}%2E{parts[end]}"]
        if parts[0] == _OURS:
            parts[0] = "%5F" + _OURS[1:]
        paths[name] = tuple(part.encode() for part in parts)
    return paths


def _escaped(part: str) -> str:
    return part.replace("%", "%25").replace("/", "%2F").replace("\0", "%00") or "%"


def _unescaped(part: str) -> str:
    return re.sub("%(25|2F|00|2E|5F)?", lambda match: chr(int(match[1], 16)) if match[1] else "", part)


@contextmanager
def open_file(path: str) -> Iterator[Opened]:
    """Give the opened file, its links and datasets having been checked."""
    with open(path, "rb") as file:
        head, size = file.read(64), os.fstat(file.fileno()).st_size
    access = h5p.create(h5p.FILE_ACCESS)
    access.set_fclose_degree(h5f.CLOSE_STRONG)
    with _explaining(path, cause_of(head, size)):
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
        self._budget = _MOST_EXPANSION * self._size + _FREE_EXPANSION_BYTES
        self._types: dict[bytes, str] = {}

    def opened(self, file: Any) -> Opened:
        """Return all tensors, ours by the names in `/__statezoo__`, those of others by their paths."""
        found = self._walk(h5g.open(file, b"/"))
        ours = found.pop((_OURS,), None)
        if ours is None:
            return self._foreign(found)
        content = json.loads(self._bytes_of(ours))
        by_name = {".".join(map(_unescaped, parts)): item for parts, item in found.items()}
        tensors = {name: by_name.pop(name) for name in content["names"]}
        known = {id(item) for item in tensors.values()}
        strangers = [name for name, item in by_name.items() if id(item) not in known]
        if strangers:
            raise CorruptError(
                f"{self._path} was changed by another program after it was saved: it has the dataset {strangers[0]!r}, "
                f"which {_OURS} does not list. Save the state anew with save_file.",
                tuple(strangers),
            )
        return self._result(tensors, dict(content["metadata"]), content["manifest"])

    def _foreign(self, found: dict[tuple[str, ...], _Found]) -> Opened:
        paths: dict[str, tuple[str, ...]] = {}
        for parts, item in found.items():
            name = ".".join(parts)
            if name in paths:
                raise FormatError(
                    f"the datasets {_text(paths[name])} and {_text(parts)} in {self._path} would both be named {name!r}. "
                    "Rename one of them."
                )
            paths[name] = parts
            is_text = len(parts) == 1 and item.tensor.dtype == "U8" and item.offset is not None
            if is_text and self._bytes_of(item, 40).startswith(b'{"manifest":"{'):
                raise CorruptError(f"{self._path} is damaged: the name of the dataset {_OURS} was changed to {name!r}.")
        first: dict[int, str] = {}
        for name, parts in paths.items():
            first.setdefault(id(found[parts]), name)
        ties = {name: first[id(found[parts])] for name, parts in paths.items()}
        tensors = {name: found[paths[name]] for name in first.values()}
        return self._result(tensors, {}, None, {name: kept for name, kept in ties.items() if name != kept})

    def _result(
        self, found: dict[str, _Found], metadata: dict[str, str], manifest: str | None, ties: dict[str, str] | None = None
    ) -> Opened:
        def read(name: str) -> np.ndarray:
            with _explaining(self._path, "Use another copy of it."):
                values = np.asarray(h5py.Dataset(found[name].dataset)[()])
                return values.view(dtypes.numpy_dtype(tensors[name].dtype)) if values.dtype.kind == "V" else values

        tensors = {name: item.tensor for name, item in found.items()}
        offsets = {name: item.offset for name, item in found.items() if item.offset is not None}
        return Opened(self._raw, tensors, offsets, metadata, manifest, ties or {}, read)

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
            if len(path) > _MOST_PARTS:
                self._refuse(path[:3], f"leads into groups more than {_MOST_PARTS} deep")
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
        offset = dataset.get_offset() if layout == h5d.CONTIGUOUS and kind.equal(_type_of(tensor.dtype)) else None
        if not tensor.size_bytes:
            offset = 0
        if offset is not None and offset + tensor.size_bytes > self._size:
            self._refuse(path, "reaches beyond the end of the file")
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
        raise FormatError(f"{_text(path)} in {self._path} {what}, which is not loaded. Remove it, or read it with h5py.")

    def _bytes_of(self, item: _Found, most: int | None = None) -> bytes:
        if item.tensor.dtype != "U8" or item.offset is None:
            raise CorruptError(f"{self._path} is damaged: {_OURS} is not what was written. Use another copy of it.")
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
