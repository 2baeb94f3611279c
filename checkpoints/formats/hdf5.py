"""HDF5: a dataset for each tensor, in groups that follow the module tree.

`fc1.weight` is the dataset `/fc1/weight`, contiguous, so that it can be mapped, and from 64 bytes on at a multiple of
64. A tie is a hard link to the dataset of the kept tensor. A view is only in the manifest. bfloat16 and float8 are
opaque elements of their size, with NumPy's name for them in the attribute `dtype`, as Keras does it, but of fixed
length (a string of variable length would stand in a heap that has no checksum, and libhdf5 loops for ever in a
damaged one); complex numbers and booleans are as h5py does them. `/__statezoo__` is a uint8 dataset of JSON, keys
sorted: `{"manifest": text, "metadata": {...}, "names": [...]}`, the names being those of the stored tensors in their
order. The file is in the format of HDF5 1.8, whose structures carry checksums, and holds no times.

Names become paths by their dots. In a part of a name, `%`, `/` and NUL are written `%25`, `%2F` and `%00`; an empty
part is `%`; a dot that follows what is itself the name of a tensor (`a` beside `a.b`) is `%2E`; the first character
of a first part `__statezoo__` is `%5F`.

Limitations. A name has at most 200 parts, and 60,000 bytes; an array at most 32 axes. libhdf5 is written in C: on
files made for that it has crashed, or looped for ever. Use safetensors for files of people you do not trust.

Of other writers, plain files of arrays and Keras' `.weights.h5` are read: `/a/b` is named `a.b`, in the order of the
file; hard links to one dataset are ties. Chunked and compressed datasets are read with the filters that come with
h5py, as long as they do not expand to more than 128 times the file and 16 MiB. Refused, by name, is what could lead
out of the file or in circles: soft and external links, external and virtual storage, references, a group linked
twice; and what is no array of numbers: text, compounds, empty dataspaces. Attributes are not read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO

import h5py
import numpy as np
from h5py import h5d, h5f, h5fd, h5g, h5p, h5s, h5t  # pyright: ignore[reportAttributeAccessIssue]

from .. import dtypes
from ..errors import StateError
from ..manifest import Tensor
from ..sharing import Alias
from . import Layout
from .hdf5_names import RESERVED, paths_of
from .hdf5_reader import open_file
from .hdf5_types import type_of
from .memory_file import MemoryFile

__all__ = ["NAME", "lay_out", "open_file"]

NAME = "hdf5"
_ALIGNMENT_BYTES = 64
_MOST_AXES = 32


def lay_out(
    file: BinaryIO,
    tensors: Mapping[str, Tensor],
    aliases: Mapping[str, Alias],
    metadata: Mapping[str, str],
    manifest: str,
) -> Layout:
    """Return where things go, having written the structure of the file: groups, and datasets without bytes."""
    ties = {name: alias.kept for name, alias in aliases.items() if alias.view is None}
    paths = paths_of([*tensors, *ties])
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
        offset = _create(root, RESERVED.encode(), Tensor("U8", (size,))).get_offset()
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
    # What is smaller goes anywhere: its gaps would fill libhdf5's list of free space, which is searched each time.
    access.set_alignment(_ALIGNMENT_BYTES, _ALIGNMENT_BYTES)
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
    dataset = h5d.create(group, leaf, type_of(tensor.dtype), space, _CONTIGUOUS, _LINKS)
    if tensor.dtype in dtypes.ML_DTYPES:
        name = dtypes.ML_DTYPES[tensor.dtype].encode()
        h5py.Dataset(dataset).attrs.create("dtype", np.array(name), dtype=f"S{len(name)}")
    return dataset


def _group(groups: dict[tuple[bytes, ...], Any], path: tuple[bytes, ...]) -> Any:
    """Return the group that the dataset at path belongs into, made if it is not in groups yet."""
    depth = len(path) - 1
    while path[:depth] not in groups:
        depth -= 1
    for end in range(depth, len(path) - 1):
        groups[path[: end + 1]] = h5g.create(groups[path[:end]], path[end], _LINKS, _GROUP)
    return groups[path[:-1]]


def _content(manifest: str, metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> bytes:
    """Return what `/__statezoo__` holds."""
    content = {"manifest": manifest, "metadata": dict(sorted(metadata.items())), "names": list(tensors)}
    return json.dumps(content, separators=(",", ":")).encode()
