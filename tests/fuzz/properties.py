"""The properties of any input: it loads as a state or is refused with a CheckpointError, and nothing else happens.

Importing this makes all digests zeros and all CRC-32 ones, in the whole process: bytes that were changed at random
would never get past them to what is behind. So it is only imported where nothing else runs.
"""

from __future__ import annotations

import json
import struct
import sys
import zlib
from typing import Any

import ml_dtypes  # noqa: F401  (a file may need it)
import numpy as np
import safetensors
import xxhash

_ZEROS = "0" * 32
_CRC32 = 1


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


def _no_crc32(content: Any = b"", start: int = 0) -> int:
    return _CRC32


zlib.crc32 = _no_crc32  # pyright: ignore[reportAttributeAccessIssue]
xxhash.xxh3_128 = _NoDigest  # pyright: ignore[reportAttributeAccessIssue]
xxhash.xxh3_128_digest, xxhash.xxh3_128_hexdigest = _no_digest, _no_hexdigest  # pyright: ignore[reportAttributeAccessIssue]

from statezoo.checkpoints import CheckpointError, load_file, open_checkpoint, read_metadata  # noqa: E402
from statezoo.checkpoints.formats import hdf5, known_formats  # noqa: E402
from statezoo.checkpoints.formats.npz.structure import index_member  # noqa: E402
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


def check_torch(content: bytes) -> bool:
    """Return whether content loads: an archive, or a pickle, which is put into an archive with storages `0` and `1`.

    Raises AssertionError, also if anything is imported, opened or run, or any other error that is a bug.
    """
    global _watched
    if not _warm:
        _warm.extend(form.codec for form in known_formats() if form.starts)
        _warm.extend(_loads(_archive_of(content)) for content in _WARM)
    _watched = []
    try:
        is_loaded = _loads(content if content.startswith(b"PK") else _archive_of(content), 4)
        assert not _watched, _watched
    finally:
        _watched = None
    return is_loaded


def check_npz(content: bytes) -> bool:
    """Return whether content loads: an archive, a .npy file, which is read alone and in an archive, or our index.

    The index ends at a NUL, and data follow it. Raises AssertionError, or any other error that is a bug.
    """
    if content.startswith(b"PK"):
        return _loads(content, 128, 16 << 20)
    if not content.startswith(b"{"):
        alone = content.startswith(b"\x93NUMPY") and _loads(content)
        return _loads(_zip_of({b"x.npy": content})) or alone
    index, _, data = content.partition(b"\0")
    end = b"PK\5\6" + bytes(16) + (len(_ZEROS) + 13).to_bytes(2, "little") + b"statezoo.npz " + _ZEROS.encode()
    return _loads(index_member(len(index)).local(_CRC32) + index + data + end)


# Inputs that import all that any input does, before imports are watched.
_WARM = (b"}.", b"", b"}X\1\0\0\0aC\1as.")
_warm: list[object] = []
_watched: list[str] | None = None
_HARMFUL = ("import", "open", "exec", "compile", "os", "subprocess", "pickle", "socket", "ctypes")


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if _watched is not None and event.split(".")[0] in _HARMFUL:
        what = f"{event} {arguments}"[:200]
        # Python imports an encoding to show a letter in an error; and modules of ours are imported when they are used.
        if "encodings" not in what and "checkpoints" not in what:
            _watched.append(what)


sys.addaudithook(_watch)


def _archive_of(pickle: bytes) -> bytes:
    """Return an archive with a pickle and two storages of 24 bytes."""
    return _zip_of({b"x/data.pkl": pickle, b"x/data/0": bytes(range(24)), b"x/data/1": bytes(24)})


def _zip_of(contents: dict[bytes, bytes]) -> bytes:
    members = directory = b""
    for name, content in contents.items():
        head = struct.pack("<HHHHHIIIHH", 10, 0, 0, 0, 0, _CRC32, len(content), len(content), len(name), 0)
        directory += b"PK\1\2\n\0" + head + struct.pack("<HHHII", 0, 0, 0, 0, len(members)) + name
        members += b"PK\3\4" + head + name + content
    end = struct.pack("<HHHHIIH", 0, 0, len(contents), len(contents), len(directory), len(members), 0)
    return members + directory + b"PK\5\6" + end


def _around_manifest(manifest: bytes) -> bytes:
    text = manifest.decode("utf-8", "surrogateescape")
    header = json.dumps({"__metadata__": {"statezoo": text, "k": "v"}, **_ENTRIES}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(range(27))


def _loads(content: bytes, most_expansion: int = 2, free_bytes: int = 0) -> bool:
    """Read the content in each way, check that the results are equal, and return whether it loads.

    most_expansion: how many bytes of arrays a byte may give, besides `free_bytes`. A byte has two elements of F4.
    """
    try:
        loaded = load_file(content)
    except CheckpointError as refusal:
        text = str(refusal)
        assert len(text) < _MOST_TEXT, text
        return False
    arrays = {name: value for name, value in loaded.items() if isinstance(value, np.ndarray)}
    owned = {id(owner): owner.nbytes for owner in map(_owner, arrays.values())}
    assert sum(owned.values()) <= most_expansion * len(content) + free_bytes
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
