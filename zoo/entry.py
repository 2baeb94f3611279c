"""A published entry: a folder that holds a model's weights, golden values, card and a manifest that describes them.

    tense-mlp/
      manifest.json         what the entry is: architecture, configuration, files with SHA-256, metrics, recipe
      model.safetensors     the weights
      model.h5              the same weights in HDF5
      golden.safetensors    an input with the output, loss and gradients that the weights gave for it
      README.md             the card, with its pictures beside it

A manifest can come from anywhere. It names an architecture, which must be registered in the process, and files, which
must stand in the entry's own folder: nothing a manifest says makes `load` import, run or read anything else.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import EntryError

MANIFEST = "manifest.json"
MANIFEST_VERSION = 1
CARD = "README.md"
GOLDEN = "golden.safetensors"
WEIGHTS = {"safetensors": "model.safetensors", "hdf5": "model.h5"}

# A manifest is a few KB; what is far larger is no manifest and is not worth the memory.
_MAX_MANIFEST_BYTES = 1 << 20
_REQUIRED: dict[str, type] = {
    "manifest_version": int,
    "name": str,
    "architecture": str,
    "config": dict,
    "files": dict,
    "metrics": dict,
    "recipe": dict,
    "data": dict,
    "environment": dict,
    "licence": str,
    "fingerprint": str,
}


@dataclass(frozen=True)
class Entry:
    """A published folder and its manifest, checked for form. `path` gives its files, checked for content."""

    folder: Path
    manifest: dict[str, Any]

    @property
    def name(self) -> str:
        return self.manifest["name"]

    def path(self, filename: str) -> Path:
        """The path of a file that the manifest lists, once its size and SHA-256 are what the manifest says.

        Raises EntryError if the file is not listed, is missing, lies outside the folder, or is another one.
        """
        if filename not in self.manifest["files"]:
            raise EntryError(f"{self.folder / MANIFEST} lists no file {filename!r}")
        expected = self.manifest["files"][filename]
        path = self.folder / filename
        if Path(filename).name != filename or "\\" in filename or path.resolve().parent != self.folder.resolve():
            raise EntryError(f"{self.folder / MANIFEST} names {filename!r}, which is not in the entry's own folder")
        if not path.is_file():
            raise EntryError(f"{path} is missing; publish or download the entry again")
        if path.stat().st_size != expected["bytes"]:
            raise EntryError(
                f"{path} has {path.stat().st_size} bytes, the manifest says {expected['bytes']}: "
                "it was cut or changed; publish or download the entry again"
            )
        if sha256_of_file(path) != expected["sha256"]:
            raise EntryError(
                f"{path} is not the published file: its SHA-256 differs from the manifest's; "
                "publish or download the entry again"
            )
        return path


def open_entry(folder: Path) -> Entry:
    """The entry in a folder, its manifest read and checked for form.

    Raises EntryError if there is no manifest, or one that this version cannot read.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise EntryError(f"{folder} is no zoo entry: it holds no {MANIFEST}")
    if path.stat().st_size > _MAX_MANIFEST_BYTES:
        raise EntryError(f"{path} has {path.stat().st_size} bytes; a manifest has at most {_MAX_MANIFEST_BYTES}")
    try:
        manifest = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise EntryError(f"{path} is not JSON: {error}") from None
    _check_form(path, manifest)
    return Entry(folder, manifest)


def describe_files(folder: Path, filenames: list[str]) -> dict[str, dict[str, Any]]:
    """The manifest's `files` table: bytes and SHA-256 of each file."""
    return {
        name: {"bytes": (folder / name).stat().st_size, "sha256": sha256_of_file(folder / name)} for name in filenames
    }


def sha256_of_file(path: Path) -> str:
    """The SHA-256 of a file's content, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_form(path: Path, manifest: object) -> None:
    if not isinstance(manifest, dict):
        raise EntryError(f"{path} is not a manifest: it holds a {type(manifest).__name__}, not an object")
    for key, kind in _REQUIRED.items():
        if not isinstance(manifest.get(key), kind):
            raise EntryError(f"{path} is not a manifest: {key!r} is missing or not of type {kind.__name__}")
    if manifest["manifest_version"] > MANIFEST_VERSION:
        raise EntryError(
            f"{path} has manifest version {manifest['manifest_version']}, written by a newer statezoo; "
            "run pip install --upgrade statezoo"
        )
    for name, file in manifest["files"].items():
        if not (isinstance(file, dict) and isinstance(file.get("bytes"), int) and isinstance(file.get("sha256"), str)):
            raise EntryError(f"{path} is not a manifest: the file {name!r} lacks its 'bytes' or 'sha256'")
