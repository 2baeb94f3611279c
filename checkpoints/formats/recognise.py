"""What a file that is not what its suffix says seems to be, and what to do about it."""

from __future__ import annotations

_OTHER_FORMAT = {
    "hdf5": "It looks like an HDF5 file. Rename it to end in .h5.",
    "safetensors": "It looks like a safetensors file. Rename it to end in .safetensors.",
}

# The first bytes of a file, what it is, what to do.
_SIGNATURES = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself", "Run `git lfs pull` in its repository."),
    (b"<", "an HTML or XML page, such as the error page of a download", "Download the file again."),
    (
        b"PK\x03\x04",
        "a zip archive, such as those of torch.save and numpy.savez",
        "Convert it with the library that wrote it.",
    ),
    (b"\x93NUMPY", "a NumPy .npy file", "Read it with numpy.load."),
    (b"\x1f\x8b", "a gzip archive", "Unpack it first."),
    (b"\x80", "a Python pickle, which is never loaded", "Convert it with the library that wrote it."),
    (b"GGUF", "a GGUF file", "Convert it with the library that wrote it."),
)


def cause_of(head: bytes, size_bytes: int, expected: str) -> str:
    """Return a sentence on what the file seems to be, and what to do, from its first bytes.

    expected: the NAME of the format that it was to be in.
    """
    if size_bytes == 0:
        return "It is empty. Use another copy of it."
    found = _format_of(head)
    if found and found != expected:
        return _OTHER_FORMAT[found]
    for signature, what, advice in _SIGNATURES:
        if head.lstrip().startswith(signature) if signature == b"<" else head.startswith(signature):
            return f"It looks like {what}. {advice}"
    return "It may be damaged or cut off. Use another copy of it."


def _format_of(head: bytes) -> str | None:
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return "hdf5"
    is_safetensors = head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= 100_000_000
    return "safetensors" if is_safetensors else None
