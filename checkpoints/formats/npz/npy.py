"""npy: the file of a single array, as numpy.save writes it. It is only read.

An array in such a file has no name. The state has it under `arr_0`, the name that numpy.savez gives to an array without
one. The file has no place for digests, ties or metadata, so no state is saved in it. What holds for the members of .npz
files of other programs holds here (see listing.py). NumPy ignores bytes after the array; here they are an error.
"""

from __future__ import annotations

from ...storage.source import Source
from .. import Opened
from ..entries import InvalidError
from ..recognise import not_valid
from .header import SIGNATURE, parsed_header, values_of

NAME = "arr_0"


def matches(source: Source) -> bool:
    """Return True if a file starts as a .npy file does."""
    return source.read(0, min(len(SIGNATURE), source.size_bytes)) == SIGNATURE


def open_source(source: Source) -> Opened:
    """Parse the header and check it against the size of the file. Raises CorruptError."""
    try:
        array = parsed_header(lambda size_bytes: source.read(0, min(size_bytes, source.size_bytes)))
        tensor = array.tensor
        if tensor is None:
            return Opened({}, {}, unsupported={NAME: array.reason})
        if array.start + tensor.size_bytes != source.size_bytes:
            raise InvalidError("it does not have the size that its header gives")
    except (InvalidError, EOFError) as error:
        raise not_valid(source, error, ".npy file", "npy") from error
    opened = Opened({NAME: tensor}, {NAME: array.start} if array.is_in_place else {})
    opened.read = lambda _: values_of(source.read(0, source.size_bytes), array, tensor)
    return opened
