"""The properties of any input: it loads as a state or is refused with a CheckpointError, and nothing else happens.

Importing this makes all digests zeros, in the whole process: bytes that were changed at random would never get past
them to what is behind. So it is only imported where nothing else runs.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import safetensors
import xxhash

_ZEROS = "0" * 32


class _NoDigest:
    def __init__(self, content: Any = b"") -> None:
        pass

    def update(self, content: Any) -> None:
        pass

    def hexdigest(self) -> str:
        return _ZEROS

    def digest(self) -> bytes:
        return bytes(16)


def _no_hexdigest(content: Any = b"") -> str:
    return _ZEROS


def _no_digest(content: Any = b"") -> bytes:
    return bytes(16)


xxhash.xxh3_128 = _NoDigest  # pyright: ignore[reportAttributeAccessIssue]
xxhash.xxh3_128_digest, xxhash.xxh3_128_hexdigest = _no_digest, _no_hexdigest  # pyright: ignore[reportAttributeAccessIssue]

from statezoo.checkpoints import CheckpointError, load_file, open_checkpoint, read_metadata  # noqa: E402
from statezoo.checkpoints.formats import hdf5  # noqa: E402
from statezoo.checkpoints.formats.safetensors import packing  # noqa: E402

_SIGNATURE = b"\x89HDF\r\n\x1a\n"

_MOST_TEXT = 4000
_ENTRIES = {
    "w": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
    "b": {"dtype": "U8", "shape": [3], "data_offsets": [24, 27]},
}


def check_safetensors(content: bytes) -> bool:
    """Return whether content loads; a manifest, of version 1 in braces or of a later one, is put into a file.

    What starts like HDF5 is not for this reader. Raises AssertionError, or what else it should not raise.
    """
    if content.startswith(_SIGNATURE):
        return False
    if content.startswith((b"{", b"version=")):
        return _loads(_around_manifest(content))
    if not _loads(content):
        return False
    # If we accept a file, the stock reader returns the same.
    loaded = load_file(content)
    with open_checkpoint(content) as opened:
        hidden = opened.ties.keys()
    for name, entry in safetensors.deserialize(content):
        if name in loaded and name not in hidden and entry["dtype"] not in packing.BITS:
            assert np.asarray(loaded[name]).tobytes() == bytes(entry["data"]), name
    return True


def check_hdf5(content: bytes) -> bool:
    """Return whether content loads: an index, a NUL, and data, which become a file; or `#` and a footer.

    Content without our footer is not for this reader. Raises AssertionError, or any other error that is a bug.
    """
    if content[:1] == b"#":
        whole = _SIGNATURE + bytes(500) + content[1:]
        return bool(hdf5._FOOTER.search(whole[-hdf5.FOOTER_BYTES :])) and _loads(whole)
    index, _, data = content.partition(b"\0")
    footer = f"\nstatezoo.hdf5 {_ZEROS} {len(_SIGNATURE):016x} {_ZEROS} {len(index):016x}\n"
    return _loads(_SIGNATURE + data + index + footer.encode())


def _around_manifest(manifest: bytes) -> bytes:
    text = manifest.decode("utf-8", "surrogateescape")
    header = json.dumps({"__metadata__": {"statezoo": text, "k": "v"}, **_ENTRIES}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(range(27))


def _loads(content: bytes) -> bool:
    """Read the content in each way, check that the results are equal, and return whether it loads."""
    try:
        loaded = load_file(content)
    except CheckpointError as refusal:
        text = str(refusal)
        assert len(text) < _MOST_TEXT, text
        return False
    arrays = {name: value for name, value in loaded.items() if isinstance(value, np.ndarray)}
    owned = {id(owner): owner.nbytes for owner in map(_owner, arrays.values())}
    assert sum(owned.values()) <= 2 * len(content)  # two elements of F4 are packed into a byte
    mapped = load_file(content, mmap=True)
    read_metadata(content)
    with open_checkpoint(content) as opened:
        assert [*opened] == [*loaded] == [*mapped]
        for name, value in arrays.items():
            if value.nbytes <= len(content):  # a view may repeat its elements
                assert value.tobytes() == mapped[name].tobytes() == np.asarray(opened[name]).tobytes()
                assert not value.ndim or value[1::2].tobytes() == opened[name][1::2].tobytes()
    return True


def _owner(array: np.ndarray) -> np.ndarray:
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array
