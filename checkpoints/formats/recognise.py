"""Guesses at what a file is if it is not in the format of its suffix, and advice on what to do about it."""

from __future__ import annotations

import codecs
import re

from ..storage.source import MemorySource
from . import known_formats

# The number of bytes at the start of a file that cause_of looks at.
HEAD_BYTES = 512

_CONVERT = "Convert it with the library that wrote it."
_UNPACK = "Unpack it first."
AGAIN = "Use another copy of it."

# A pattern for the first bytes, what such a file is, and what to do. The first match counts.
_SIGNS = (
    (rb"version https://git-lfs", "is a Git LFS pointer, not the file itself", "Run `git lfs pull` in its repository."),
    (
        rb"(\xef\xbb\xbf)?\s*<",
        "looks like an HTML or XML page, such as the error page of a download",
        "Download the file again.",
    ),
    (rb"PK\x03\x04", "is a zip archive, such as those of torch.save and numpy.savez", _CONVERT),
    # Protocol 2 and later; before that, in text: the name of a class, or a memoized dict or list.
    (rb"\x80[\x02-\x05]|c[\w.]+\n[\w.]+\n|\([dl]p\d", "is a Python pickle, which is never loaded", _CONVERT),
    (rb"\x93NUMPY", "is a NumPy .npy file", "Read it with numpy.load."),
    (rb"GGUF", "is a GGUF file", _CONVERT),
    (rb"\x1f\x8b", "is a gzip archive", _UNPACK),
    (rb"BZh[1-9]", "is a bzip2 archive", _UNPACK),
    (rb"\xfd7zXZ\0", "is an xz archive", _UNPACK),
    (rb"\x28\xb5\x2f\xfd", "is a Zstandard archive", _UNPACK),
    (rb"7z\xbc\xaf\x27\x1c", "is a 7-Zip archive", _UNPACK),
    (rb".{257}ustar", "is a tar archive", _UNPACK),
    (rb"\0+\Z", "starts with zeros, like a file whose copy or download was not finished", AGAIN),
)
_PATTERNS = [(re.compile(pattern, re.DOTALL), what, advice) for pattern, what, advice in _SIGNS]


def cause_of(head: bytes, size_bytes: int, expected: str) -> str:
    """Return what the file seems to be, judging by its first HEAD_BYTES, and what to do about it.

    expected: the name of the format that its suffix stands for.
    """
    if size_bytes == 0:
        return f"It is empty. {AGAIN}"
    source = MemorySource(memoryview(head), "")
    found = [form for form in known_formats() if form.codec.matches(source)]
    if found and found[0].name != expected:
        return f"It looks like {found[0].name}. Rename it to end in {found[0].suffix}."
    for pattern, what, advice in _PATTERNS:
        if pattern.match(head):
            return f"It {what}. {advice}"
    if _is_text(head):
        what = "JSON, such as the index of a sharded checkpoint" if head.lstrip()[:1] in (b"{", b"[") else "text"
        return f"It looks like {what}. Pass the file that holds the tensors."
    return f"It may be damaged or cut off. {AGAIN}"


def _is_text(head: bytes) -> bool:
    """Return True if the bytes are readable UTF-8 text."""
    try:
        # Incremental: the last character may be cut off.
        text = codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return all(char.isprintable() or char.isspace() for char in text)
