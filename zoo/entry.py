"""A published entry: a folder that holds a model's weights, golden values, card and a manifest that describes them.

    tense-mlp/
      manifest.json             what the entry is: architecture, configuration, files with SHA-256, metrics, recipe
      model.safetensors         the weights
      model.h5                  the same weights in HDF5
      golden.safetensors        an input with the output, loss and gradients that the weights gave for it
      trajectory.safetensors    the weights after each epoch, where the recipe keeps them
      README.md                 the card, made from the manifest alone, with its pictures beside it

A manifest can come from anywhere. It names an architecture, which must be registered in the process, and files, which
must stand in the entry's own folder: nothing a manifest says makes `load` import, run or read anything else.
"""

import hashlib
import json
import math
from pathlib import Path
from typing import Any, NamedTuple

from .errors import EntryError

MANIFEST = "manifest.json"
MANIFEST_VERSION = 2
CARD = "README.md"
GOLDEN = "golden.safetensors"
TRAJECTORY = "trajectory.safetensors"
WEIGHTS = {"safetensors": "model.safetensors", "hdf5": "model.h5"}

# A manifest is a few KB; what is far larger is no manifest and is not worth the memory.
_MAX_MANIFEST_BYTES = 1 << 20
_AGAIN = "publish or download the entry again"
_TEXTS = ("name", "architecture", "summary", "licence", "fingerprint", "task", "details", "prediction", "target")
_OBJECTS = ("config", "files", "metrics", "tolerances", "recipe", "training", "data", "environment", "pictures")
_LISTS = ("example", "labels")
_COUNTS = ("manifest_version", "parameters")
# What manifests say since version 2, and what is taken for it in one of version 1.
_SINCE_2: dict[str, Any] = {
    "task": "other",
    "details": "",
    "prediction": "",
    "target": "",
    "tolerances": {"weights": 0.0, "metrics": {}},
    "training": {"steps": 0, "wall_time_s": 0.0},
}


class Entry(NamedTuple):
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
        path = _inside(self.folder, filename)
        if path.stat().st_size != expected["bytes"]:
            raise EntryError(
                f"{path} has {path.stat().st_size} bytes, the manifest says {expected['bytes']}: "
                f"it was cut or changed; {_AGAIN}"
            )
        if sha256_of_file(path) != expected["sha256"]:
            raise EntryError(f"{path} is not the published file: its SHA-256 differs from the manifest's; {_AGAIN}")
        return path

    def card(self) -> str:
        """The card's text, checked. Raises EntryError."""
        try:
            return self.path(CARD).read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise EntryError(f"{self.folder / CARD} is not UTF-8 text: {error}") from None


def open_entry(folder: Path) -> Entry:
    """The entry in a folder, its manifest read and checked for form.

    Raises EntryError if there is no manifest, or one that this version cannot read.
    """
    try:
        path = _inside(folder, MANIFEST)
    except EntryError as error:
        raise EntryError(f"{folder!s:.200} is no zoo entry: {error}") from None
    if path.stat().st_size > _MAX_MANIFEST_BYTES:
        raise EntryError(f"{path} has {path.stat().st_size} bytes; a manifest has at most {_MAX_MANIFEST_BYTES}")
    try:
        manifest = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise EntryError(f"{path} is not JSON: {error}; {_AGAIN}") from None
    if isinstance(manifest, dict) and manifest.get("manifest_version") == 1:
        manifest = _SINCE_2 | manifest
    problem = _problem(manifest)
    if problem:
        raise EntryError(f"{path} is not a manifest: {problem}; {_AGAIN}")
    if manifest["manifest_version"] > MANIFEST_VERSION:
        raise EntryError(
            f"{path} has manifest version {manifest['manifest_version']}, written by a newer statezoo; "
            "run pip install --upgrade statezoo"
        )
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


def _inside(folder: Path, filename: str) -> Path:
    """The path of a regular file that really stands in the folder. Raises EntryError."""
    path = folder / filename
    try:
        if Path(filename).name != filename or "\\" in filename or path.resolve().parent != folder.resolve():
            raise EntryError(f"{filename!r:.200} is not in the entry's own folder {folder}")
        if not path.is_file():
            raise EntryError(f"{path} is missing; {_AGAIN}")
    except (OSError, RuntimeError, ValueError) as error:  # a name too long, links in a circle, a NUL
        if isinstance(error, EntryError):
            raise
        raise EntryError(f"{filename!r:.200} cannot be opened: {error}") from None
    return path


def _problem(manifest: object) -> str | None:
    """What keeps this from being a manifest, None if nothing does."""
    if not isinstance(manifest, dict):
        return f"it holds a {type(manifest).__name__}, not an object"
    for keys, kind in ((_TEXTS, str), (_OBJECTS, dict), (_LISTS, list), (_COUNTS, int)):
        for key in keys:
            if type(manifest.get(key)) is not kind:
                return f"{key!r} is missing or not of type {kind.__name__}"
    for name, file in manifest["files"].items():
        if not isinstance(file, dict) or type(file.get("bytes")) is not int or type(file.get("sha256")) is not str:
            return f"the file {name!r:.200} lacks its 'bytes' or 'sha256'"
    for key in ("environment", "pictures"):
        if not all(isinstance(text, str) for text in manifest[key].values()):
            return f"{key!r} holds what is no text"
    for key, field in (("recipe", "command"), ("data", "source"), ("data", "sha256")):
        if type(manifest[key].get(field)) is not str:
            return f"{key!r} lacks its {field!r}"
    return _no_number(manifest)


def _no_number(manifest: dict[str, Any]) -> str | None:
    """What of a manifest should be a finite number and is none."""
    metrics, tolerances, training = manifest["metrics"], manifest["tolerances"], manifest["training"]
    if type(tolerances.get("metrics")) is not dict:
        return "'tolerances' lacks its 'metrics'"
    numbers = {f"the metric {name!r:.200}": value for name, value in metrics.items()}
    numbers |= {f"the tolerance of {name!r:.200}": value for name, value in tolerances["metrics"].items()}
    numbers |= {"the tolerance of the weights": tolerances.get("weights")}
    numbers |= {f"the training's {key!r}": training.get(key) for key in ("steps", "wall_time_s")}
    for what, value in numbers.items():
        if not _is_finite(value):
            return f"{what} is no finite number"
    return None


def _is_finite(value: Any) -> bool:
    try:
        return type(value) in (int, float) and math.isfinite(value)
    except OverflowError:  # JSON has integers that no float can hold
        return False
