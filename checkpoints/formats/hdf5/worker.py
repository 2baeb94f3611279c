"""The process that reads a foreign HDF5 file: libhdf5 can crash or hang on a damaged one.

process.py starts it. Its standard input is the file, and it can open no other: libhdf5 reads through that descriptor,
and the limits of the process allow no further one. Answers go to standard output; each is a letter, a size (8 bytes,
little-endian), and that many bytes:

    R  ready: everything is imported
    .  still at work on the index: thousands of links and datasets were handled since the last answer
    =  the answer to a request; the first one is the index, which needs no request
    ?  what libhdf5 says is wrong, as text
    M  more memory is needed than the limits allow

The index is JSON:

    datasets     for each its `dtype` (NumPy's name, or `opaque` and the value of its attribute `dtype`), `item_bytes`,
                 `shape`, `offset` (null unless its values are in the file as plain bytes, little-endian and
                 C-contiguous), `address` of its header, and `note`, which is text
    links        [path, number of the dataset], in the order of the file; a path is a list of its parts
    unsupported  [path, reason] of what cannot be read
    orders       [path, names] of the groups in which Keras 2 lists layers or weights in order

A request is a line `number seconds`; the answer is the values of that dataset, little-endian and C-contiguous.
Requests arrive on standard error, the only stream left of the three that every system can pass to a process.

Nothing else of the project is imported, so that the process starts quickly, and wherever h5py can be imported.
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
from h5py import h5f, h5fd, h5g, h5p  # pyright: ignore[reportAttributeAccessIssue]

from .walk import Walk

try:
    import resource
except ImportError:  # Windows
    resource = None


def main(start: int, memory_bytes: int, seconds: int, file_bytes: int, is_tolerant: int, plugin: str) -> None:
    """Serve the file on standard input within limits, until there are no more requests.

    start: where the HDF5 file starts in it. file_bytes: its size, or its size before it was cut off. is_tolerant:
    continue after objects that libhdf5 cannot read. plugin: the name of a package whose filters are used, or "".
    """
    # An interrupt is meant for the process that started this one, which then ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if plugin:
        __import__(plugin)
    with open(1, "wb", closefd=False) as answers, open(2, "rb", closefd=False) as requests:

        def go_on() -> None:
            _allow(seconds)
            _answer(answers, b".", b"")

        _limit(memory_bytes)
        _allow(seconds)
        _answer(answers, b"R", b"")
        walk = Walk(go_on, bool(is_tolerant), bool(plugin))
        serve(File(0, start, file_bytes, bool(is_tolerant)), _numbers(requests), answers, walk)
    # Skip libhdf5's own clean-up, which has nothing to do and can crash too.
    os._exit(0)


def _limit(memory_bytes: int) -> None:
    """Limit the memory that the process can still take, and forbid core dumps, writing and opening files."""
    if resource is None:
        return
    # h5py needs this codec later, and looking it up opens a file.
    codecs.lookup("ascii")
    if sys.platform == "linux":
        with open("/proc/self/statm") as file:
            memory_bytes += int(file.read().split()[0]) * resource.getpagesize()
        memory_bytes = _at_most(resource.RLIMIT_AS, memory_bytes)
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    for kind, most in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_NOFILE, 3)):
        resource.setrlimit(kind, (most, most))


def _allow(seconds: int) -> None:
    """Let the process work for that many more seconds, after which the system ends it."""
    if resource is not None:
        _, most = resource.getrlimit(resource.RLIMIT_CPU)
        seconds = _at_most(resource.RLIMIT_CPU, math.ceil(time.process_time()) + seconds)
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, most))


def _at_most(kind: int, amount: int) -> int:
    """Return a limit, lowered to the one that the process was started with, which it cannot raise."""
    assert resource is not None
    _, most = resource.getrlimit(kind)
    return amount if most == resource.RLIM_INFINITY else min(amount, most)


def _numbers(requests: BinaryIO) -> Iterator[int]:
    """Yield the number in each request, after allowing the time that the request may take."""
    for line in requests:
        number, seconds = map(int, line.split())
        _allow(seconds)
        yield number


def serve(file: File, numbers: Iterable[int], answers: BinaryIO, walk: Walk) -> None:
    """Answer with the index of an open file, then with the values of each requested dataset."""

    def index() -> bytes:
        walk.from_root(root_of(file))
        file.is_padded = False
        content = {"datasets": walk.datasets, "links": walk.links, "unsupported": walk.unsupported}
        content["orders"] = walk.orders
        return json.dumps(content).encode()

    _answer(answers, *_result_of(index))
    for number in numbers:
        _answer(answers, *_result_of(lambda number=number: _values(walk.opened[number])))


def _answer(answers: BinaryIO, letter: bytes, content: bytes | memoryview) -> None:
    answers.write(letter + len(content).to_bytes(8, "little"))
    answers.write(content)
    answers.flush()


def _result_of(make: Callable[[], bytes | memoryview]) -> tuple[bytes, bytes | memoryview]:
    """Return the letter and content of an answer. h5py may raise any exception if a file is damaged."""
    try:
        return b"=", make()
    except MemoryError:
        return b"M", b""
    except Exception as error:
        return b"?", str(error).encode(errors="replace")


class File:
    """A file for libhdf5, read through a descriptor whose position others may move.

    start: where it starts in the descriptor's file. size_bytes: the size that libhdf5 is told. is_padded: read missing
    bytes as zeros, instead of failing: libhdf5 reads ahead, beyond the last structures of a file that was cut off.
    Values are never read in this way.
    """

    def __init__(self, descriptor: int, start: int, size_bytes: int, is_padded: bool = False) -> None:
        self._descriptor, self._start, self._position, self._size = descriptor, start, 0, size_bytes
        self.is_padded = is_padded

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = offset if whence == os.SEEK_SET else self._size + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: memoryview) -> int:
        done = 0
        while done < len(buffer):
            part = self._read_at(self._position + done, len(buffer) - done)
            if not part and self.is_padded:
                part = bytes(len(buffer) - done)
            if not part:
                raise EOFError("the file ends too early")
            buffer[done : done + len(part)] = part
            done += len(part)
        return done

    def _read_at(self, offset: int, size_bytes: int) -> bytes:
        if hasattr(os, "pread"):
            return os.pread(self._descriptor, size_bytes, self._start + offset)
        os.lseek(self._descriptor, self._start + offset, os.SEEK_SET)  # Windows, where nobody else reads this copy
        return os.read(self._descriptor, size_bytes)


def root_of(file: File) -> Any:
    """Return the root group of a file."""
    access = h5p.create(h5p.FILE_ACCESS)
    access.set_fileobj_driver(h5fd.fileobj_driver, file)
    return h5g.open(h5f.open(b"-", h5f.ACC_RDONLY, access), b"/")


def _values(dataset: Any) -> memoryview:
    """Return the bytes of the values of a dataset."""
    values = np.asarray(h5py.Dataset(dataset)[()])
    little = values.astype(values.dtype.newbyteorder("<"), order="C", copy=False)
    return little.reshape(-1).view(np.uint8).data
