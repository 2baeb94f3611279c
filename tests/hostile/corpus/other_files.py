"""Files that are not checkpoints at all, with the suffix of each format."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import socket
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from corpus.hostile_file import HostileFile, bytes_of

from statezoo.checkpoints import save_file


class TouchesAMarker:
    """An object whose unpickling creates a file, which a test can detect."""

    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self) -> tuple[type[io.FileIO], tuple[str, str]]:
        return io.FileIO, (str(self._marker), "w")


def marker_of(folder: Path) -> Path:
    """Return the path of the file that exists if a pickle of the corpus in `folder` was loaded."""
    return folder / "a-pickle-was-loaded"


def _pickle(protocol: int) -> Callable[[Path], object]:
    def make(path: Path) -> None:
        path.write_bytes(pickle.dumps(TouchesAMarker(marker_of(path.parent)), protocol))

    return make


def _torch_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(TouchesAMarker(marker_of(path.parent))))


def _npz(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, x=np.ones(3))


def _npy(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.ones(3))


def _gzip(path: Path) -> None:
    _good(path)
    path.write_bytes(gzip.compress(path.read_bytes(), mtime=0))


def _tar(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("pickle"), io.BytesIO(b""))


def _good(path: Path) -> None:
    save_file({"layer.weight": np.arange(300.0), "layer.bias": np.arange(3.0)}, path)


def _cut(part: float) -> Callable[[Path], object]:
    def make(path: Path) -> None:
        _good(path)
        path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])

    return make


def _of_format(suffix: str) -> Callable[[Path], object]:
    def make(path: Path) -> None:
        other = path.with_name(f"other{suffix}")
        _good(other)
        other.rename(path)

    return make


def _socket(path: Path) -> None:
    # The address of a socket holds a path of about a hundred bytes at most.
    here = os.getcwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(here)


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1\nsize 12345\n"
INDEX = b'{"metadata":{"total_size":2},"weight_map":{"x":"../../../../etc/passwd"}}'

# Name: how the file is made, and what the error says.
KINDS: dict[str, tuple[Callable[[Path], object], str]] = {
    "an LFS pointer": (bytes_of(LFS), r"is a Git LFS pointer.*`git lfs pull`"),
    "an HTML page": (bytes_of(b"<!DOCTYPE html>\n<html><body>404</body></html>"), r"an HTML or XML page.*[Dd]ownload"),
    "an XML error": (bytes_of(b'\xef\xbb\xbf<?xml version="1.0"?><Error>AccessDenied</Error>'), r"an HTML or XML page"),
    "a download cut at a tenth": (_cut(0.1), r"cut off"),
    "a download cut at a half": (_cut(0.5), r"cut off"),
    "a download without its last byte": (_cut(0.9999), r"cut off"),
    "a pickle": (_pickle(4), r"is a Python pickle, which is never loaded"),
    "an old pickle": (_pickle(2), r"is a Python pickle, which is never loaded"),
    "a pickle in text": (_pickle(0), r"is a Python pickle, which is never loaded"),
    "a zip of torch": (_torch_zip, r"It looks like a file in the torch format. Rename it to end in .pt"),
    "an npz archive": (_npz, r"It looks like a file in the npz format. Rename it to end in .npz"),
    "an npy file": (_npy, r"It looks like a file in the npy format. Rename it to end in .npy"),
    "a gzip archive": (_gzip, r"is a gzip archive.*[Uu]npack"),
    "a tar archive": (_tar, r"is a tar archive.*[Uu]npack"),
    "a bzip2 archive": (bytes_of(b"BZh91AY&SY" + bytes(40)), r"is a bzip2 archive"),
    "an xz archive": (bytes_of(b"\xfd7zXZ\0" + bytes(40)), r"is an xz archive"),
    "a zstandard archive": (bytes_of(b"\x28\xb5\x2f\xfd" + bytes(40)), r"is a Zstandard archive"),
    "a GGUF file": (bytes_of(b"GGUF\3\0\0\0" + bytes(40)), r"looks like a file in the gguf format.*Rename it"),
    "an empty file": (bytes_of(b""), r"is empty.*[Uu]se another copy|[Dd]ownload"),
    "a file of zeros": (bytes_of(bytes(5000)), r"starts with zeros.*another copy"),
    "a file of one zero": (bytes_of(b"\0"), r"starts with zeros.*another copy"),
    "a file of ones": (bytes_of(b"\xff" * 5000), r"damaged or cut off"),
    "a text": (bytes_of("Möchten Sie das wirklich laden?\n".encode() * 9), r"looks like text"),
    "an index of shards": (bytes_of(INDEX), r"looks like JSON"),
    "a symlink loop": (lambda path: path.symlink_to(path.name), r"cannot be opened.*[Ss]ymbolic link"),
    "a symlink to nothing": (lambda path: path.symlink_to("nothing"), r"there is no file"),
    "a missing file": (lambda path: None, r"there is no file"),
    "a folder": (lambda path: path.mkdir(), r"is a folder|holds no"),
    "a pipe": (os.mkfifo, r"not a regular file"),
    "a socket": (_socket, r"not a regular file|cannot be opened"),
    "a device of zeros": (lambda path: path.symlink_to("/dev/zero"), r"not a regular file"),
    "a device of nothing": (lambda path: path.symlink_to("/dev/null"), r"not a regular file"),
    "a terminal": (lambda path: path.symlink_to("/dev/tty"), r"not a regular file|cannot be opened"),
    "a file of the kernel": (lambda path: path.symlink_to("/proc/self/environ"), r"is empty"),
}  # fmt: skip

FILES = [
    *(
        HostileFile(f"{title} as {suffix[1:]}", suffix, make, cause)
        for title, (make, cause) in KINDS.items()
        for suffix in (".safetensors", ".h5", ".npz")
        if (make, suffix) != (_npz, ".npz")
    ),
    HostileFile(
        "an h5 file named so",
        ".safetensors",
        _of_format(".h5"),
        r"It looks like a file in the hdf5 format. Rename it to end in .h5",
    ),
    HostileFile(
        "a safetensors file named so",
        ".h5",
        _of_format(".safetensors"),
        r"It looks like a file in the safetensors format. Rename it to end in",
    ),
]
