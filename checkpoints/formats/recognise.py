"""What a file that is not what its suffix says is instead, and what to do about it."""

from __future__ import annotations

import codecs
import re

# How many bytes from the start of a file cause_of looks at.
HEAD_BYTES = 512

_OTHER_FORMAT = {
    "hdf5": "It looks like an HDF5 file. Rename it to end in .h5.",
    "safetensors": "It looks like a safetensors file. Rename it to end in .safetensors.",
}
_CONVERT = "Convert it with the library that wrote it."
_UNPACK = "Unpack it first."
_AGAIN = "Use another copy of it."

# What the first bytes match, what such a file is, what to do. The first that matches counts.
_SIGNS = (
    (rb"version https://git-lfs", "is a Git LFS pointer, not the file itself", "Run `git lfs pull` in its repository."),
    (
        rb"(\xef\xbb\xbf)?\s*<",
        "looks like an HTML or XML page, such as the error page of a download",
        "Download the file again.",
    ),
    (rb"PK\x03\x04", "is a zip archive, such as those of torch.save and numpy.savez", _CONVERT),
    # Protocol 2 and later; and before, in text: the name of a class, or a dict or list that is remembered.
    (rb"\x80[\x02-\x05]|c[\w.]+\n[\w.]+\n|\([dl]p\d", "is a Python pickle, which is never loaded", _CONVERT),
    (rb"\x93NUMPY", "is a NumPy .npy file", "Read it with numpy.load."),
    (rb"GGUF", "is a GGUF file", _CONVERT),
    (rb"\x1f\x8b", "is a gzip archive", _UNPACK),
    (rb"BZh[1-9]", "is a bzip2 archive", _UNPACK),
    (rb"\xfd7zXZ\0", "is an xz archive", _UNPACK),
    (rb"\x28\xb5\x2f\xfd", "is a Zstandard archive", _UNPACK),
    (rb"7z\xbc\xaf\x27\x1c", "is a 7-Zip archive", _UNPACK),
    (rb".{257}ustar", "is a tar archive", _UNPACK),
    (rb"\0+\Z", "starts with zeros, as a file does whose copy or download was not finished", _AGAIN),
)
_PATTERNS = [(re.compile(pattern, re.DOTALL), what, advice) for pattern, what, advice in _SIGNS]


def cause_of(head: bytes, size_bytes: int, expected: str) -> str:
    """Return a sentence on what the file seems to be, and what to do, from its first HEAD_BYTES.

    expected: the NAME of the format that it was to be in.
    """
    if size_bytes == 0:
        return f"It is empty. {_AGAIN}"
    found = _format_of(head)
    if found and found != expected:
        return _OTHER_FORMAT[found]
    if found == "hdf5" and (whole_bytes := _size_said_by_hdf5(head)) > size_bytes:
        return f"It was cut off: {whole_bytes:,} bytes were written, and {size_bytes:,} are there. {_AGAIN}"
    for pattern, what, advice in _PATTERNS:
        if pattern.match(head):
            return f"It {what}. {advice}"
    if _is_text(head):
        what = "JSON, such as the index of a sharded checkpoint" if head.lstrip()[:1] in (b"{", b"[") else "text"
        return f"It looks like {what}. Give the file that holds the tensors."
    return f"It may be damaged or cut off. {_AGAIN}"


def _format_of(head: bytes) -> str | None:
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return "hdf5"
    is_safetensors = head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= 100_000_000
    return "safetensors" if is_safetensors else None


def _size_said_by_hdf5(head: bytes) -> int:
    """Return the end of file that the superblock says, 0 if it is of a kind that nobody writes."""
    # Where it stands in each version of the superblock, with offsets of 8 bytes.
    place = {0: 40, 1: 44, 2: 28, 3: 28}.get(head[8]) if len(head) > 8 else None
    return int.from_bytes(head[place : place + 8], "little") if place else 0


def _is_text(head: bytes) -> bool:
    """Whether the bytes are readable text in UTF-8."""
    try:
        # Incremental, since the last letter may be cut.
        text = codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return all(char.isprintable() or char.isspace() for char in text)
