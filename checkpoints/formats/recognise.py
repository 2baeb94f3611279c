"""Guesses at what a file is if it is not in the format of its suffix, and advice on what to do about it."""

from __future__ import annotations

import codecs
import re

from ..errors import CorruptError
from ..storage.source import Source
from . import format_like
from .entries import InvalidError

_HEAD_BYTES = 512
# The record that ends a zip archive starts at most this far from the end of the file, with the longest comment.
_ZIP_START, _ZIP_END, _ZIP_END_BYTES = b"PK\3\4", b"PK\5\6", 22 + 0xFFFF

_CONVERT = "Load it with the library that wrote it, and pass the arrays to save_file."
_PICKLE = "A pickle can run any code. If you trust it, load it with pickle, and pass the arrays to save_file."
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
    (rb"PK\x03\x04", "is a zip archive", _CONVERT),
    (
        rb"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19\.",
        "is a file of torch.save in its old format, a series of pickles, which are never loaded",
        "If you trust it, load it with torch.load(path, weights_only=True), and save the tensors of the state again: "
        "torch.save(model.state_dict(), path).",
    ),
    # Protocol 2 and later; before that, in text: the name of a class, or a memoized dict or list.
    (rb"\x80[\x02-\x05]|c[\w.]+\n[\w.]+\n|\([dl]p\d", "is a Python pickle, which is never loaded", _PICKLE),
    (rb"\x1f\x8b", "is a gzip archive", _UNPACK),
    (rb"BZh[1-9]", "is a bzip2 archive", _UNPACK),
    (rb"\xfd7zXZ\0", "is an xz archive", _UNPACK),
    (rb"\x28\xb5\x2f\xfd", "is a Zstandard archive", _UNPACK),
    (rb"7z\xbc\xaf\x27\x1c", "is a 7-Zip archive", _UNPACK),
    (rb".{257}ustar", "is a tar archive", _UNPACK),
    (rb"\0+\Z", "starts with zeros, like a file whose copy or download was not finished", AGAIN),
)
_MISTAKES = 2  # the first signs, of files that are not what their names say
_PATTERNS = [(re.compile(pattern, re.DOTALL), what, advice) for pattern, what, advice in _SIGNS]


def cause_of(source: Source, expected: str = "") -> str:
    """Return what a file seems to be, judging by its content, and what to do about it.

    expected: the name of what it should be, such as the format of its suffix. "": it may be anything.
    """
    from .unread import text_by_content, text_by_name  # only an error needs it

    if source.size_bytes == 0:
        return f"It is empty. {AGAIN}"
    try:
        unread = text_by_content(source)
        if unread is not None:
            return f"It {unread}"
        form = format_like(source)
        head = source.read(0, min(_HEAD_BYTES, source.size_bytes))
        tail_bytes = min(_ZIP_END_BYTES, source.size_bytes) if head.startswith(_ZIP_START) else 0
        tail = source.read(source.size_bytes - tail_bytes, tail_bytes)
    except EOFError:
        return f"It was cut off while it was read. {AGAIN}"
    if form is not None and form.name != expected:
        return f"It looks like a file in the {form.name} format. Rename it to end in {form.suffix}."
    if form is not None:
        return f"It may be damaged or cut off. {AGAIN}"
    if tail and _ZIP_END not in tail:
        return f"It is a zip archive without its end, as after a download that was cut off. {AGAIN}"
    for number, (pattern, what, advice) in enumerate(_PATTERNS):
        if number == _MISTAKES and not expected and (unread := text_by_name(source.name)) is not None:
            return f"It {unread}"
        if pattern.match(head):
            return f"It {what}. {advice}"
    if _is_text(head):
        what = "JSON, such as the index of a sharded checkpoint" if head.lstrip()[:1] in (b"{", b"[") else "text"
        return f"It looks like {what}. Pass the file that holds the tensors."
    return f"It may be damaged or cut off. {AGAIN}" if expected else f"Its content is of no known format. {_CONVERT}"


def not_valid(source: Source, error: InvalidError | EOFError, what: str, expected: str) -> CorruptError:
    """Return the error for a file that breaks a rule of its format.

    error: says which one; EOFError if the file became shorter. what: what it should be, such as "GGUF file". expected:
    the name of the format.
    """
    reason = str(error) or "it was cut off while it was read"
    return CorruptError(f"{source.name} is not a valid {what}: {reason}. {cause_of(source, expected)}")


def _is_text(head: bytes) -> bool:
    """Return True if the bytes are readable UTF-8 text."""
    try:
        # Incremental: the last character may be cut off.
        text = codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return all(char.isprintable() or char.isspace() for char in text)
