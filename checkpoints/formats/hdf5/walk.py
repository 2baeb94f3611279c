"""The search of a file with libhdf5, in a separate process: where the datasets are, and what cannot be read."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import h5py
from h5py import h5, h5a, h5d, h5g, h5l, h5o, h5p, h5s, h5t, h5z  # pyright: ignore[reportAttributeAccessIssue]

STEP = 2000
_MOST_PARTS = 200
_MOST_NOTE_LENGTH = 200
_FILTERS = {h5z.FILTER_DEFLATE, h5z.FILTER_SHUFFLE, h5z.FILTER_FLETCHER32, h5z.FILTER_SZIP, h5z.FILTER_NBIT}
_FILTERS |= {h5z.FILTER_SCALEOFFSET, h5z.FILTER_LZF}
# Filters of the package hdf5plugin, by the numbers that The HDF Group registered.
_PLUGIN_FILTERS = {
    307: "bzip2", 32001: "Blosc", 32004: "LZ4", 32008: "Bitshuffle", 32013: "ZFP", 32015: "Zstandard", 32017: "SZ",
    32024: "SZ3", 32026: "Blosc2",
}  # fmt: skip
# The elements of each class that are not numbers.
_CLASSES = {
    h5t.TIME: "times",
    h5t.STRING: "text",
    h5t.COMPOUND: "records of several fields",
    h5t.REFERENCE: "references to other objects",
    h5t.VLEN: "arrays of different lengths",
    h5t.ARRAY: "elements that are arrays",
}

# The attributes in which Keras 2 lists the layers of a model and the weights of a layer, in order.
_ORDERS = (b"layer_names", b"weight_names")

_Path = tuple[str, ...]


class _UnsupportedError(Exception):
    """An object that cannot be read. The text is the reason, a clause such as "it holds text"."""


class Walk:
    """The datasets in a file, each once, all links to them, and the objects that cannot be read.

    go_on: called after every STEP links and datasets, to tell long work from endless work. is_tolerant: list objects
    that libhdf5 cannot read, instead of failing. has_plugin: whether the filters of hdf5plugin may be used.
    """

    def __init__(self, go_on: Callable[[], None], is_tolerant: bool = False, has_plugin: bool = False) -> None:
        self._go_on, self._steps = go_on, 0
        self._is_tolerant, self._has_plugin = is_tolerant, has_plugin
        self.datasets: list[dict[str, Any]] = []
        self.links: list[tuple[_Path, int]] = []
        self.unsupported: list[tuple[_Path, str]] = []
        # The paths of groups, each with the names of its members in the order that Keras 2 gives them.
        self.orders: list[tuple[_Path, list[str]]] = []
        # The datasets whose values only libhdf5 can return.
        self.opened: dict[int, Any] = {}
        self._types: dict[bytes, tuple[str, int, bool, str]] = {}
        # What is known about an address: the number of a dataset, None for a group, or why it cannot be read.
        self._known: dict[int, int | str | None] = {}
        self._pending: list[tuple[_Path, Any, tuple[bytes, int, int]]] = []

    def from_root(self, root: Any) -> None:
        """List everything in the order of the file."""
        self._enter((), root)
        while self._pending:
            parents, group, link = self._pending.pop()
            path = (*parents, link[0].decode(errors="replace"))
            try:
                self._follow(path, group, link)
            except _UnsupportedError as error:
                self.unsupported.append((path, str(error)))
            except MemoryError:
                raise
            except Exception as error:
                if not self._is_tolerant:
                    raise
                self.unsupported.append((path, f"libhdf5 cannot read it ({error})"))

    def _follow(self, path: _Path, group: Any, link: tuple[bytes, int, int]) -> None:
        """Add the object that a link leads to. Raises _UnsupportedError."""
        leaf, kind, address = link
        if path[-1].encode() != leaf:
            raise _UnsupportedError("its name is not UTF-8 text")
        if kind != h5l.TYPE_HARD:
            raise _UnsupportedError("it is a soft or external link, which is not followed")
        if len(path) > _MOST_PARTS:
            raise _UnsupportedError(f"it is in groups more than {_MOST_PARTS} deep")
        if address not in self._known:
            thing = h5o.open(group, leaf)
            if isinstance(thing, h5g.GroupID):
                self._known[address] = None
                self._enter(path, thing)
                return
            if not isinstance(thing, h5d.DatasetID):
                return
            self._known[address] = self._add(thing, address)
        found = self._known[address]
        if found is None:
            raise _UnsupportedError("it is a second link to a group")
        if isinstance(found, str):
            raise _UnsupportedError(found)
        self.links.append((path, found))

    def _enter(self, path: _Path, group: Any) -> None:
        """Queue the links of a group, in the order of their creation if the file records it."""
        for attribute in _ORDERS:
            if names := _texts_in(group, attribute):
                self.orders.append((path, names))
        tracked = group.get_create_plist().get_link_creation_order() & h5p.CRT_ORDER_TRACKED
        links: list[tuple[bytes, int, int]] = []

        def note(name: bytes, link: Any) -> None:
            links.append((name, link.type, link.u))
            self._step()

        try:
            group.links.iterate(note, info=True, idx_type=h5.INDEX_CRT_ORDER if tracked else h5.INDEX_NAME)
        finally:  # some links may have been read
            self._pending += [(path, group, link) for link in reversed(links)]

    def _add(self, dataset: Any, address: int) -> int | str:
        """Return the number of a new dataset, or why it cannot be read."""
        self._step()
        try:
            _check_storage(dataset)
            self._check_filters(dataset.get_create_plist())
            dtype, item_bytes, is_plain, note = self._type_of(dataset)
        except _UnsupportedError as error:
            return str(error)
        number, shape = len(self.datasets), dataset.get_space().shape
        offset = _offset_of(dataset, math.prod(shape, start=item_bytes)) if is_plain else None
        if offset is None:
            self.opened[number] = dataset
        entry = {"dtype": dtype, "item_bytes": item_bytes, "shape": shape, "offset": offset}
        self.datasets.append(entry | {"address": address, "note": note})
        return number

    def _check_filters(self, properties: Any) -> None:
        """Raise _UnsupportedError for a dataset whose values need a filter that is not available."""
        for number in range(properties.get_nfilters()):
            code = properties.get_filter(number)[0]
            if code in _FILTERS or (self._has_plugin and code in _PLUGIN_FILTERS and h5z.filter_avail(code)):
                continue
            if code in _PLUGIN_FILTERS:
                raise _UnsupportedError(
                    f"it is compressed with {_PLUGIN_FILTERS[code]}, a filter that h5py does not include: install "
                    "hdf5plugin and import it before you load the file"
                )
            raise _UnsupportedError(f"it is compressed with filter {code}, which h5py does not include")

    def _type_of(self, dataset: Any) -> tuple[str, int, bool, str]:
        """Return the name and size of the elements, whether they are stored as they are in memory, and a note."""
        kind = dataset.get_type()
        if kind.get_class() == h5t.OPAQUE:
            name = h5py.Dataset(dataset).attrs.get("dtype")
            name = name.decode("latin-1") if isinstance(name, bytes) else name
            return f"opaque {name}", kind.get_size(), True, ""
        key = kind.encode()
        if key not in self._types:
            self._types[key] = _described(kind)
        return self._types[key]

    def _step(self) -> None:
        self._steps += 1
        if not self._steps % STEP:
            self._go_on()


def _texts_in(group: Any, attribute: bytes) -> list[str]:
    """Return the texts in an attribute, or none if it is missing or holds anything else.

    Keras 2 splits a list of more than 64 KiB into the attributes `layer_names0`, `layer_names1`, ...
    """
    texts: list[str] = []
    part = attribute if h5a.exists(group, attribute) else attribute + b"0"
    number = 0
    while h5a.exists(group, part):
        found = h5a.open(group, part)
        if found.get_type().get_class() != h5t.STRING or found.get_space().get_simple_extent_ndims() != 1:
            break
        values: Any = h5py.Group(group).attrs[part]
        texts += [value.decode(errors="replace") if isinstance(value, bytes) else value for value in values.tolist()]
        if part == attribute:
            break
        number += 1
        part = attribute + b"%d" % number
    return texts


def _check_storage(dataset: Any) -> None:
    """Raise _UnsupportedError for a dataset that is not an array, or whose values are not in the file."""
    space, properties = dataset.get_space(), dataset.get_create_plist()
    if space.get_simple_extent_type() == h5s.NULL:
        raise _UnsupportedError("it is an empty dataspace, not an array")
    if properties.get_layout() == h5d.VIRTUAL or properties.get_external_count():
        raise _UnsupportedError("its values are kept in other files")
    is_defined = properties.fill_value_defined() != h5d.FILL_VALUE_UNDEFINED
    is_filled = is_defined or properties.get_fill_time() == h5d.FILL_TIME_NEVER  # libhdf5 reads zeros then
    is_written = dataset.get_space_status() != h5d.SPACE_STATUS_NOT_ALLOCATED
    if not (is_written or is_filled or space.get_simple_extent_npoints() == 0):
        raise _UnsupportedError("it was never written, and has no fill value")


def _offset_of(dataset: Any, size_bytes: int) -> int | None:
    """Return where the values of a dataset are in the file, or None if they are not there as plain bytes.

    libhdf5 reports an offset even for a dataset that was never written, if the file has a user block. The values are
    in the file only if it has bytes for all of them.
    """
    is_whole = dataset.get_space_status() == h5d.SPACE_STATUS_ALLOCATED and dataset.get_storage_size() == size_bytes
    is_contiguous = dataset.get_create_plist().get_layout() == h5d.CONTIGUOUS
    return dataset.get_offset() if is_contiguous and is_whole else None


def _described(kind: Any) -> tuple[str, int, bool, str]:
    """Return what _type_of returns, for a type that is not opaque. Raises _UnsupportedError for other than numbers."""
    type_class = kind.get_class()
    try:
        dtype = kind.dtype
    except (TypeError, ValueError) as error:
        what = _CLASSES.get(type_class, f"numbers of {8 * kind.get_size()} bits in a format that NumPy does not have")
        raise _UnsupportedError(f"it holds {what}") from error
    if dtype.kind not in "biufc":
        raise _UnsupportedError(f"it holds {_CLASSES.get(type_class, dtype.name)}")
    is_plain = kind.equal(h5t.py_create(dtype.newbyteorder("<"), logical=True))
    is_enumeration = type_class == h5t.ENUM and dtype.kind != "b"
    return dtype.name, dtype.itemsize, is_plain, _members_of(kind) if is_enumeration else ""


def _members_of(kind: Any) -> str:
    """Return the names and values of an enumeration, cut to the length of a note."""
    text = "enumeration:"
    for number in range(kind.get_nmembers()):
        name = kind.get_member_name(number).decode(errors="replace")
        text += f"{',' if number else ''} {name} = {kind.get_member_value(number)}"
        if len(text) > _MOST_NOTE_LENGTH:
            return text[:_MOST_NOTE_LENGTH] + "..."
    return text
