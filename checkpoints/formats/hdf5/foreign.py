"""HDF5 files of other libraries, our files after another program changed them, and damaged files.

libhdf5 reads them in a separate process (process.py), because some damaged files make it crash or hang. It returns
where the datasets are, and the values of datasets that are stored differently than in memory. What it returns is
checked against the size of the file.

Plain files of arrays and Keras' `.weights.h5` are read: the dataset `/a/b` is named `a.b`, in the order of the file.
Hard links to one dataset are ties. Chunked and compressed datasets are read with the filters that h5py includes, and
with those of hdf5plugin if it is imported; together they may expand to 128 times the size of the file plus 16 MiB.
Attributes are not read, except `dtype` of opaque elements, where Keras writes NumPy's name for bfloat16 and float8.

Everything else is listed as unsupported, with the reason: text, references, compound types and other elements that are
not numbers; unknown filters; and anything that leads out of the file or in circles, such as soft and external links,
external and virtual storage, and second links to a group. Such links are never followed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from ...errors import CorruptError, FormatError
from ...state import dtypes
from ...state.sharing import Alias
from ...storage.source import Source
from .. import Opened, most_expanded_bytes
from . import matches
from .listing import Found, Listing, Path, listing_of, path_text
from .process import Hdf5Process, invalid
from .structure.names import RESERVED, name_of
from .superblock import refuse_open, written_size_of


def open_foreign(source: Source) -> Opened:
    """Return the content of a file. Raises CorruptError, ReadError, or FormatError if two datasets have one name."""
    process, listing = _asked(source)
    try:
        ours = next((item for path, item in listing.links if path == (RESERVED,)), None)
        if ours is not None:
            raise _changed(source, listing, ours)
        for path, item in listing.links:
            if _is_index(source, path, item):
                raise CorruptError(
                    f"{source.name} is damaged: the name of the dataset {RESERVED} was changed to {path[0]!r}."
                )
        return _opened(source, process, listing)
    except BaseException:
        process.close()
        raise


class Place(NamedTuple):
    """A range of bytes in a file."""

    offset: int
    size_bytes: int


class Remains(NamedTuple):
    """The rest of a damaged file.

    opened: its content. tail: where the dataset `/__statezoo__` is, or None if it is missing. written_bytes: the size
    of the file when it was written, if that is known.
    """

    opened: Opened
    tail: Place | None
    written_bytes: int


def open_remains(source: Source) -> Remains:
    """Return what libhdf5 finds in a damaged or truncated file. Datasets may reach beyond the end of the file.

    Raises CorruptError, ReadError, or FormatError if two datasets have one name.
    """
    written_bytes = written_size_of(source) or source.size_bytes
    process, listing = _asked(source, max(written_bytes, source.size_bytes))
    try:
        found = next((item for path, item in listing.links if _is_tail(source, path, item)), None)
        if found is None:
            return Remains(_opened(source, process, listing), None, written_bytes)
        links = [((name_of(path),), item) for path, item in listing.links if item != found]
        links.sort(key=lambda link: (link[1].address, link[0]))  # headers are in the order of the state
        opened = _opened(source, process, Listing(links, listing.unsupported))
        return Remains(opened, Place(found.offset or 0, found.tensor.size_bytes), written_bytes)
    except BaseException:
        process.close()
        raise


def _asked(source: Source, written_bytes: int | None = None) -> tuple[Hdf5Process, Listing]:
    """Start libhdf5 with a file. Return the process and what it lists."""
    if not matches(source):
        raise invalid(source, "file signature not found")
    if written_bytes is None:
        refuse_open(source)
    most_bytes = most_expanded_bytes(source.size_bytes)
    process = Hdf5Process(source, most_bytes, written_bytes)
    try:
        return process, listing_of(source, process.index(), most_bytes, written_bytes is not None)
    except BaseException:
        process.close()
        raise


def _opened(source: Source, process: Hdf5Process, listing: Listing) -> Opened:
    """Return the content of a file by name. Close the process if it is not needed to read values."""
    found, ties, unsupported = _named(source, listing)
    opened = Opened(
        tensors={name: item.tensor for name, item in found.items()},
        offsets={name: item.offset for name, item in found.items() if item.offset is not None},
        aliases={name: Alias(kept) for name, kept in ties.items()},
        unsupported=unsupported,
        notes={name: item.note for name, item in found.items() if item.note},
    )
    if len(opened.offsets) == len(found):
        process.close()
        return opened

    def read(name: str) -> np.ndarray:
        tensor = opened.tensors[name]
        array = np.empty(tensor.shape, dtypes.numpy_dtype(tensor.dtype))
        process.values(found[name].number, array.reshape(-1).view(np.uint8).data)
        return array

    opened.read, opened.close = read, process.close
    return opened


def _named(source: Source, listing: Listing) -> tuple[dict[str, Found], dict[str, str], dict[str, str]]:
    """Return datasets by name, their other names, and what is unsupported. Raises FormatError if names are equal."""
    paths: dict[str, Path] = {}
    found: dict[str, Found] = {}
    first: dict[int, str] = {}
    ties: dict[str, str] = {}
    for path, item in listing.links:
        name = _name_of(source, path, paths)
        if item.number in first:
            ties[name] = first[item.number]
        else:
            first[item.number], found[name] = name, item
    return found, ties, {_name_of(source, path, paths): reason for path, reason in listing.unsupported}


def _name_of(source: Source, path: Path, paths: dict[str, Path]) -> str:
    """Return the name for a path, and add it to `paths`. Raises FormatError if the name is taken."""
    name = ".".join(path)
    if name in paths:
        raise FormatError(
            f"the datasets {path_text(paths[name])} and {path_text(path)} in {source.name} would both be named "
            f"{name!r:.200}. Rename one of them."
        )
    paths[name] = path
    return name


# --- our files


def _is_index(source: Source, path: Path, item: Found) -> bool:
    """Return True if a dataset is the index of one of our files, whatever its name."""
    if len(path) > 1 or item.tensor.dtype != "U8" or item.offset is None:
        return False
    size_bytes = max(0, min(40, item.tensor.size_bytes, source.size_bytes - item.offset))
    return source.read(item.offset, size_bytes).startswith((b'{"manifest":"version=', b'{"manifest":"{'))


def _is_tail(source: Source, path: Path, item: Found) -> bool:
    is_named = path == (RESERVED,) and item.tensor.dtype == "U8" and item.offset is not None
    return is_named or _is_index(source, path, item)


def _changed(source: Source, listing: Listing, ours: Found) -> CorruptError:
    """Return the error for one of our files whose index is no longer at its end as it was written."""
    names = _names_in(source, ours)
    if names is None:
        return CorruptError(
            f"{source.name} is damaged: {RESERVED} is not what was written. Use another copy of it, or save what is "
            "intact with repair."
        )
    present = {name_of(path): item.number for path, item in listing.links if path != (RESERVED,)}
    missing = [name for name in names if name not in present]
    known = {present[name] for name in names if name in present}
    strangers = [name for name, number in present.items() if number not in known]
    what = f"{RESERVED} is not at its end as it was written"
    if missing or strangers:
        what = f"has no dataset {missing[0]!r:.200}" if missing else f"has the dataset {strangers[0]!r:.200}"
        what = f"it {what}, contrary to {RESERVED}"
    return CorruptError(
        f"{source.name} is damaged, or was changed by another program after it was saved: {what}. If it was changed on "
        f"purpose, save the state again with save_file, or delete {RESERVED} to load the file unchecked.",
        (*missing, *strangers),
    )


def _names_in(source: Source, ours: Found) -> Iterable[str] | None:
    """Return the names of the tensors in an index, or None if the dataset is not an index."""
    if ours.tensor.dtype != "U8" or ours.offset is None:
        return None
    try:
        content, _ = json.JSONDecoder().raw_decode(source.read(ours.offset, ours.tensor.size_bytes).decode())
    except (ValueError, RecursionError):
        return None
    tensors = content.get("tensors") if isinstance(content, dict) else None
    return tensors if isinstance(tensors, dict) else None
