"""What a format is to the rest of the library, and the table of them.

A format knows where things stand in a file; it knows nothing of sharing, digests or models, nor does it move the bytes
of tensors. A further one is a module with what Format says, and a row in the table.
"""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, Protocol, cast

import numpy as np

from ..errors import FormatError
from ..state.manifest import Tensor
from ..state.sharing import Alias
from ..storage.source import Source


class Layout(NamedTuple):
    """Where the bytes of a file that is to be written go.

    offsets: of each tensor in the file. seal: gives, for the final manifest, all the rest of the file as offsets and
    bytes.
    """

    offsets: dict[str, int]
    seal: Callable[[str], list[tuple[int, bytes]]]


def _nothing() -> None:
    pass


@dataclass(slots=True)
class Opened:
    """What the header of a file says.

    tensors: those stored, in order. offsets: where the bytes of each are, C-contiguous and little-endian; a tensor that
    is kept in another way is not in it, but comes from read(name). metadata: all there are but the manifest.
    manifest: its text, None in a file of another writer, whose own ties are in ties, a kept name for each further one.
    links: the same in a file of ours, if the format has ties of its own, to be compared with the manifest; None if they
    were compared already. close: ends what read needs.
    """

    tensors: dict[str, Tensor]
    offsets: dict[str, int]
    metadata: dict[str, str] = field(default_factory=dict)
    manifest: str | None = None
    ties: dict[str, str] = field(default_factory=dict)
    links: dict[str, str] | None = None
    read: Callable[[str], np.ndarray] | None = None
    close: Callable[[], None] = _nothing


class Format(Protocol):
    """What the module of a format offers."""

    NAME: str

    def lay_out(
        self,
        tensors: Mapping[str, Tensor],
        aliases: Mapping[str, Alias],
        metadata: Mapping[str, str],
        manifest: str,
    ) -> Layout:
        """Return where things go. manifest: a text as long as the final one.

        Raises StateError for what the format cannot hold.
        """
        ...

    def open_source(self, source: Source) -> Opened:
        """Return what the header says, checked. Raises FormatError or CorruptError."""
        ...


# The suffixes of a format, and its module, which is imported when a file of it is met.
_TABLE = {
    ".safetensors": ".safetensors_",
    ".h5": ".hdf5",
    ".hdf5": ".hdf5",
}
# The suffix that a format is saved under, by its name.
SUFFIX_OF = {"safetensors": ".safetensors", "hdf5": ".h5"}
SUFFIXES = tuple(SUFFIX_OF.values())


def format_of(path: str) -> Format:
    """Return the format that the suffix of path names. Raises FormatError listing the known suffixes."""
    if "\0" in path:
        raise FormatError(f"{path!r} is no path: it has a NUL character in it.")
    suffix = os.path.splitext(path)[1].lower()
    if suffix not in _TABLE:
        known = ", ".join(_TABLE)
        raise FormatError(f"{path} names no format: its suffix is {suffix!r}, and the known ones are {known}.")
    return _module_of(suffix)


def format_of_content(source: Source) -> Format:
    """Return the format of what has no path, from its bytes: safetensors unless it is HDF5."""
    return format_named("hdf5" if any(map(partial(_has_signature, source), _starts(source))) else "safetensors")


def _starts(source: Source) -> Iterator[int]:
    """Give the places where HDF5 may begin, after whatever a user put before it: 0, 512, 1024, 2048, ..."""
    yield 0
    # A header of safetensors begins with a brace; what looks like HDF5 in its tensors is none.
    start = 512 if source.size_bytes > 9 and source.read(8, 1) != b"{" else source.size_bytes
    while start < source.size_bytes:
        yield start
        start *= 2


def _has_signature(source: Source, start: int) -> bool:
    return source.read(start, min(8, source.size_bytes - start)) == b"\x89HDF\r\n\x1a\n"


def format_named(name: str) -> Format:
    """Return a format by its name, "safetensors" or "hdf5". Raises FormatError for another."""
    if name not in SUFFIX_OF:
        raise FormatError(f"{name!r} names no format; the known ones are {', '.join(SUFFIX_OF)}.")
    return _module_of(SUFFIX_OF[name])


@functools.cache
def _module_of(suffix: str) -> Format:
    return cast(Format, importlib.import_module(_TABLE[suffix], __package__))
