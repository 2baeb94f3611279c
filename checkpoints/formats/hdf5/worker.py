"""What runs in a process of its own to read an HDF5 file of another writer: on damaged ones libhdf5 crashes or hangs.

hdf5_process.py starts it. Its standard input is the file, and no other one can be opened: libhdf5 reads through that
descriptor, and the limits of the process allow no further one. Answers go to standard output, each a letter, a size
(8 bytes, little-endian) and so many bytes:

    R  ready: everything is imported
    .  still at work on the index: thousands of links and datasets were dealt with since the last answer
    =  what was asked for; first, unasked, the index
    !  what is not loaded: JSON [path, reason]
    ?  what libhdf5 says is wrong: text
    M  it takes more memory than the limits allow: nothing

The index is JSON: `datasets`, of each its `dtype` (NumPy's name, or `opaque` and what its attribute `dtype` says),
`item_bytes`, `shape`, and `offset`, null unless its values stand in the file as they are, little-endian and
C-contiguous; and `links`, [path, number of the dataset], in the order of the file. A path is a list of its parts.

Requests are lines `number seconds`, answered by the values of that dataset, little-endian and C-contiguous. They come
by standard error, the last of the streams that every system can pass on.

Nothing of the project is imported, so that this starts quickly and wherever h5py does.
"""

from __future__ import annotations

import codecs
import json
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO

import h5py
import numpy as np
from h5py import h5, h5d, h5f, h5fd, h5g, h5l, h5o, h5p, h5s, h5t, h5z  # pyright: ignore[reportAttributeAccessIssue]

try:
    import resource
except ImportError:  # Windows
    resource = None

_MOST_PARTS = 200
_FILTERS = {h5z.FILTER_DEFLATE, h5z.FILTER_SHUFFLE, h5z.FILTER_FLETCHER32, h5z.FILTER_SZIP, h5z.FILTER_NBIT}
_FILTERS |= {h5z.FILTER_SCALEOFFSET, h5z.FILTER_LZF}

STEP = 2000

_Path = tuple[str, ...]


def main(memory_bytes: int, seconds: int) -> None:
    """Serve the file that is standard input within limits, until there are no more requests."""
    # An interrupt is for the process that started this one, which then ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with open(1, "wb", closefd=False) as answers, open(2, "rb", closefd=False) as requests:

        def go_on() -> None:
            _allow(seconds)
            _answer(answers, b".", b"")

        _limit(memory_bytes)
        _allow(seconds)
        _answer(answers, b"R", b"")
        serve(0, _numbers(requests), answers, go_on)
    # Not by the way of libhdf5's own clean-up, which has nothing to do and can crash as well.
    os._exit(0)


def _limit(memory_bytes: int) -> None:
    """Allow the process so much further memory, and neither a core dump nor writing to or opening any file."""
    if resource is None:
        return
    # h5py asks for it, and Python opens a file then.
    codecs.lookup("ascii")
    if sys.platform == "linux":
        with open("/proc/self/statm") as file:
            memory_bytes += int(file.read().split()[0]) * resource.getpagesize()
        memory_bytes = _at_most(resource.RLIMIT_AS, memory_bytes)
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    for kind, most in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_NOFILE, 3)):
        resource.setrlimit(kind, (most, most))


def _allow(seconds: int) -> None:
    """Let the process be ended when it has worked for so many more seconds."""
    if resource is not None:
        _, most = resource.getrlimit(resource.RLIMIT_CPU)
        seconds = _at_most(resource.RLIMIT_CPU, math.ceil(time.process_time()) + seconds)
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, most))


def _at_most(kind: int, amount: int) -> int:
    """Return a limit of the process, or the one that it was started with if that is less, which it cannot raise."""
    assert resource is not None
    _, most = resource.getrlimit(kind)
    return amount if most == resource.RLIM_INFINITY else min(amount, most)


def _numbers(requests: BinaryIO) -> Iterator[int]:
    """Give the numbers in the requests, each with the time it may take."""
    for line in requests:
        number, seconds = map(int, line.split())
        _allow(seconds)
        yield number


def serve(descriptor: int, numbers: Iterable[int], answers: BinaryIO, go_on: Callable[[], None]) -> None:
    """Answer with the index of an open file, then with the values of each dataset asked for.

    go_on: called whenever STEP links and datasets were dealt with, so that a long work is told from an endless one.
    """
    walk = _Walk(go_on)

    def index() -> bytes:
        walk.from_root(_opened(_File(descriptor)))
        return json.dumps({"datasets": walk.datasets, "links": walk.links}).encode()

    _answer(answers, *_result_of(index))
    for number in numbers:
        _answer(answers, *_result_of(lambda number=number: _values(walk.opened[number])))


def _answer(answers: BinaryIO, letter: bytes, content: bytes | memoryview) -> None:
    answers.write(letter + len(content).to_bytes(8, "little"))
    answers.write(content)
    answers.flush()


def _result_of(make: Callable[[], bytes | memoryview]) -> tuple[bytes, bytes | memoryview]:
    """Return the letter and content of an answer; h5py may raise any exception where a file is damaged."""
    try:
        return b"=", make()
    except _RefusedError as error:
        return b"!", json.dumps(error.args).encode()
    except MemoryError:
        return b"M", b""
    except Exception as error:
        return b"?", str(error).encode(errors="replace")


class _RefusedError(Exception):
    """What is not loaded: a path, and why."""


class _File:
    """A file as libhdf5 reads it: from a descriptor whose position others may move."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._position = descriptor, 0
        self._size = os.fstat(descriptor).st_size

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = offset if whence == os.SEEK_SET else self._size + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: memoryview) -> int:
        done = 0
        while done < len(buffer):
            part = self._read_at(self._position + done, len(buffer) - done)
            if not part:
                raise EOFError("it ends within what is to be read")
            buffer[done : done + len(part)] = part
            done += len(part)
        return done

    def _read_at(self, offset: int, size_bytes: int) -> bytes:
        if hasattr(os, "pread"):
            return os.pread(self._descriptor, size_bytes, offset)
        os.lseek(self._descriptor, offset, os.SEEK_SET)  # Windows, where the file is a copy that nobody else reads
        return os.read(self._descriptor, size_bytes)


def _opened(file: _File) -> Any:
    """Return the root group of a file."""
    access = h5p.create(h5p.FILE_ACCESS)
    access.set_fileobj_driver(h5fd.fileobj_driver, file)
    return h5g.open(h5f.open(b"-", h5f.ACC_RDONLY, access), b"/")


class _Walk:
    """The datasets in a file, those with several links once, and all links to them."""

    def __init__(self, go_on: Callable[[], None]) -> None:
        self._go_on, self._steps = go_on, 0
        self.datasets: list[dict[str, Any]] = []
        self.links: list[tuple[_Path, int]] = []
        # Those whose values only libhdf5 can give.
        self.opened: dict[int, Any] = {}
        self._types: dict[bytes, tuple[str, int, bool]] = {}

    def from_root(self, root: Any) -> None:
        """Note all there is, in the order of the file."""
        groups: set[int] = set()
        numbers: dict[int, int] = {}
        pending = [((), root, link) for link in reversed(self._links(root))]
        while pending:
            parents, group, (leaf, kind, address) = pending.pop()
            path = (*parents, leaf.decode())
            if kind != h5l.TYPE_HARD:
                raise _RefusedError(path, "is a soft or external link")
            if len(path) > _MOST_PARTS:
                raise _RefusedError(path[:3], f"leads into groups more than {_MOST_PARTS} deep")
            if address in groups:
                raise _RefusedError(path, "is a second link to a group")
            if address not in numbers:
                thing = h5o.open(group, leaf)
                if isinstance(thing, h5g.GroupID):
                    groups.add(address)
                    pending += [(path, thing, link) for link in reversed(self._links(thing))]
                if not isinstance(thing, h5d.DatasetID):
                    continue
                numbers[address] = self._add(thing, path)
            self.links.append((path, numbers[address]))

    def _add(self, dataset: Any, path: _Path) -> int:
        """Return the number of a new dataset, having refused what is no array or not in this file."""
        space, properties = dataset.get_space(), dataset.get_create_plist()
        if space.get_simple_extent_type() == h5s.NULL:
            raise _RefusedError(path, "is an empty dataspace, not an array")
        layout = properties.get_layout()
        if layout == h5d.VIRTUAL or properties.get_external_count():
            raise _RefusedError(path, "is kept in other files")
        if any(properties.get_filter(n)[0] not in _FILTERS for n in range(properties.get_nfilters())):
            raise _RefusedError(path, "is compressed with a filter that h5py does not bring")
        self._step()
        dtype, item_bytes, is_plain = self._type_of(dataset, path)
        number = len(self.datasets)
        offset = dataset.get_offset() if layout == h5d.CONTIGUOUS and is_plain else None
        if offset is None:
            self.opened[number] = dataset
        entry = {"dtype": dtype, "item_bytes": item_bytes, "shape": space.shape, "offset": offset}
        self.datasets.append(entry)
        return number

    def _type_of(self, dataset: Any, path: _Path) -> tuple[str, int, bool]:
        """Return what the elements are called, their size, and whether they stand in the file as in memory."""
        kind = dataset.get_type()
        if kind.get_class() == h5t.OPAQUE:
            name = h5py.Dataset(dataset).attrs.get("dtype")
            name = name.decode("latin-1") if isinstance(name, bytes) else name
            return f"opaque {name}", kind.get_size(), True
        key = kind.encode()
        if key not in self._types:
            try:
                dtype = kind.dtype
            except TypeError as error:
                raise _RefusedError(path, f"holds what is no array of numbers ({str(error)[:80]})") from error
            is_plain = dtype.kind in "biufc" and kind.equal(h5t.py_create(dtype.newbyteorder("<"), logical=True))
            self._types[key] = dtype.name, dtype.itemsize, is_plain
        return self._types[key]

    def _links(self, group: Any) -> list[tuple[bytes, int, int]]:
        """Return the name, kind and address of each link in a group, in the order of their making if that is kept."""
        tracked = group.get_create_plist().get_link_creation_order() & h5p.CRT_ORDER_TRACKED
        links: list[tuple[bytes, int, int]] = []

        def note(name: bytes, link: Any) -> None:
            links.append((name, link.type, link.u))
            self._step()

        group.links.iterate(note, info=True, idx_type=h5.INDEX_CRT_ORDER if tracked else h5.INDEX_NAME)
        return links

    def _step(self) -> None:
        self._steps += 1
        if not self._steps % STEP:
            self._go_on()


def _values(dataset: Any) -> memoryview:
    """Return the bytes of the values of a dataset."""
    values = np.asarray(h5py.Dataset(dataset)[()])
    little = values.astype(values.dtype.newbyteorder("<"), order="C", copy=False)
    return little.reshape(-1).view(np.uint8).data
