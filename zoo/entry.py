"""A published entry: a folder with a model's weights, golden values, card, and a manifest that describes them.

    tense-mlp/
      manifest.json             what the entry is: architecture, configuration, files with SHA-256, metrics, recipe; and
                                a checksum of all this, which tells a damaged version number from a later version
      model.safetensors         the weights
      model.h5                  the same weights in HDF5
      model.onnx                the model for other runtimes, if it was published with the extra onnx
      golden.safetensors        an input, and the output, loss and gradients that the weights give for it
      trajectory.safetensors    the weights after each epoch, if the recipe keeps them
      README.md                 the card, made from the manifest alone, with its pictures in the same folder

A manifest can come from anywhere. It names an architecture, which must be registered in the process, and files, which
must be in the entry's own folder: nothing in a manifest makes `load` import, run or read anything else. In a snapshot
of Hugging Face's cache, the files may be links to the blobs of the same repository.
"""

import hashlib
import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from .errors import EntryError
from .interface.checking import problem_of_interface

MANIFEST = "manifest.json"
MANIFEST_VERSION = 3
CARD = "README.md"
GOLDEN = "golden.safetensors"
TRAJECTORY = "trajectory.safetensors"
ONNX = "model.onnx"
WEIGHTS = {"safetensors": "model.safetensors", "hdf5": "model.h5"}

# A manifest is a few KB. A much larger file cannot be one, and is refused before it is read.
_MAX_MANIFEST_BYTES = 1 << 20
_WITHOUT_CHECKSUM = (1, 2)
_AGAIN = "Publish or download the entry again."
_TEXTS = ("name", "architecture", "summary", "licence", "fingerprint", "task", "details", "prediction", "target")
_OBJECTS = ("config", "files", "metrics", "tolerances", "recipe", "training", "data", "environment", "pictures")
_OBJECTS += ("input", "output", "onnx")
_LISTS = ("example", "labels", "preprocessing", "postprocessing")
_COUNTS = ("manifest_version", "parameters")


class Entry(NamedTuple):
    """A published folder and its validated manifest. `path` returns its files, checked by size and SHA-256."""

    folder: Path
    manifest: dict[str, Any]

    @property
    def name(self) -> str:
        return self.manifest["name"]

    def path(self, filename: str) -> Path:
        """Return the path of a listed file, after checking its size and SHA-256 against the manifest.

        Raises EntryError if the file is not listed, missing, unreadable, outside the folder, or changed.
        """
        if filename not in self.manifest["files"]:
            raise EntryError(f"{self.folder / MANIFEST} does not list a file {filename!r}.")
        expected = self.manifest["files"][filename]
        path = _inside(self.folder, filename)
        with _readable(path):
            size_bytes = path.stat().st_size
            if size_bytes != expected["bytes"]:  # before its bytes are read, which may be far too many
                raise EntryError(
                    f"{path} has {size_bytes} bytes, the manifest says {expected['bytes']}: it is truncated or "
                    f"changed. {_AGAIN}"
                )
            sha256 = sha256_of_file(path)
        if sha256 != expected["sha256"]:
            raise EntryError(f"{path} is not the published file: its SHA-256 differs from the manifest. {_AGAIN}")
        return path

    def card(self) -> str:
        """Return the text of the card, checked in the same way. Raises EntryError if it is not the published card."""
        try:
            return self.path(CARD).read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise EntryError(f"{self.folder / CARD} is not UTF-8 text: {error}.") from None


def open_entry(folder: Path) -> Entry:
    """Open the entry in a folder and validate its manifest.

    Raises EntryError if the manifest is missing, unreadable, invalid, or has another version.
    """
    try:
        path = _inside(folder, MANIFEST)
    except EntryError as error:
        raise EntryError(f"{folder!s:.200} is not a zoo entry: {error}") from None
    manifest = _read_manifest(path)
    _refuse_other_version(path, manifest)
    problem = _problem(manifest)
    if problem:
        raise EntryError(f"{path} is not a manifest: {problem}. {_AGAIN}")
    return Entry(folder, manifest)


def _read_manifest(path: Path) -> Any:
    with _readable(path):
        size_bytes = path.stat().st_size
        if size_bytes > _MAX_MANIFEST_BYTES:
            raise EntryError(f"{path} has {size_bytes} bytes; a manifest has at most {_MAX_MANIFEST_BYTES}.")
        content = path.read_bytes()
    try:
        return json.loads(content, object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:
        raise EntryError(f"{path} is not JSON: {error}. {_AGAIN}") from None


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object. Raises ValueError if a name occurs twice: other readers might see the other value."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name occurs twice in an object")
    return found


def _refuse_other_version(path: Path, manifest: Any) -> None:
    """Raise EntryError if the manifest has another version, or if its version number is damaged.

    Every later version must therefore keep "checksum" as it is now.
    """
    version = manifest.get("manifest_version") if isinstance(manifest, dict) else None
    if type(version) is not int or version == MANIFEST_VERSION:
        return
    is_old = version in _WITHOUT_CHECKSUM and "checksum" not in manifest
    if not is_old and not has_valid_checksum(manifest):
        raise EntryError(f"{path} is damaged: its version or its content is not what was published. {_AGAIN}")
    advice = "Run pip install --upgrade statezoo." if version > MANIFEST_VERSION else _AGAIN
    raise EntryError(f"{path} has manifest version {version}; this statezoo reads {MANIFEST_VERSION}. {advice}")


def manifest_text(manifest: dict[str, Any]) -> str:
    """Return the text of a manifest, with its checksum."""
    return json.dumps({**manifest, "checksum": _checksum_of(manifest)}, indent=1, ensure_ascii=False) + "\n"


def has_valid_checksum(manifest: dict[str, Any]) -> bool:
    """Return True if a manifest has the content that was published, by its checksum."""
    try:
        return manifest.get("checksum") == _checksum_of(manifest)
    except (RecursionError, UnicodeEncodeError):
        return False


def _checksum_of(manifest: dict[str, Any]) -> str:
    """Return the SHA-256 of a manifest without its checksum, as JSON with sorted keys."""
    content = {key: value for key, value in manifest.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def listed_files(folder: Path) -> set[str] | None:
    """Return the names of the files that the manifest in a folder lists, or None if there is no manifest.

    Raises EntryError if the manifest cannot be read, or lists no files.
    """
    if not os.path.lexists(folder / MANIFEST):
        return None
    manifest = _read_manifest(_inside(folder, MANIFEST))
    files = manifest.get("files") if isinstance(manifest, dict) else None
    if not isinstance(files, dict):
        raise EntryError(f"{folder / MANIFEST} is not a manifest: it lists no files. {_AGAIN}")
    return set(files)


def describe_files(folder: Path, filenames: list[str]) -> dict[str, dict[str, Any]]:
    """Return the `files` table of a manifest: size and SHA-256 of each file."""
    return {
        name: {"bytes": (folder / name).stat().st_size, "sha256": sha256_of_file(folder / name)} for name in filenames
    }


def sha256_of_file(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _inside(folder: Path, filename: str) -> Path:
    """Return the path of a regular file in the folder. Raises EntryError if it is missing or outside the folder."""
    path = folder / filename
    try:
        if Path(filename).name != filename or "\\" in filename or not _is_own(path.resolve(), folder.resolve()):
            raise EntryError(f"{filename!r:.200} is not in the entry's own folder {folder}.")
        if not path.is_file():
            raise EntryError(f"{path} is missing. {_AGAIN}")
    except (OSError, RuntimeError, ValueError) as error:  # a name that is too long, a circular link, a NUL
        if isinstance(error, EntryError):
            raise
        raise EntryError(f"{filename!r:.200} cannot be opened: {error}.") from None
    return path


def _is_own(file: Path, folder: Path) -> bool:
    """Return whether a resolved file belongs to the entry in a resolved folder.

    It does if it is in the folder, or if the folder is REPOSITORY/snapshots/REVISION/... and the file is in
    REPOSITORY/blobs, where Hugging Face's cache stores each file once for all revisions.
    """
    if file.parent == folder:
        return True
    return any(file.parent == parent.parent / "blobs" for parent in folder.parents if parent.name == "snapshots")


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Raise EntryError if the system refuses to read the file."""
    try:
        yield
    except OSError as error:
        raise EntryError(f"{path} cannot be read: {error.strerror}. Check its permissions.") from error


def _problem(manifest: object) -> str | None:
    """Return why this is not a valid manifest, or None if it is one."""
    if not isinstance(manifest, dict):
        return f"it holds a {type(manifest).__name__}, not an object"
    for keys, kind in ((_TEXTS, str), (_OBJECTS, dict), (_LISTS, list), (_COUNTS, int)):
        for key in keys:
            if type(manifest.get(key)) is not kind:
                return f"{key!r} is missing or not of type {kind.__name__}"
    if not all(map(str.isidentifier, manifest["config"])):
        return "'config' names an option that is no identifier"
    for name, file in manifest["files"].items():
        if not isinstance(file, dict) or type(file.get("bytes")) is not int or type(file.get("sha256")) is not str:
            return f"the file {name!r:.200} has no 'bytes' or no 'sha256'"
    for key in ("environment", "pictures", "onnx"):
        if not all(isinstance(text, str) for text in manifest[key].values()):
            return f"{key!r} holds a value that is not text"
    for key, field in (("recipe", "command"), ("recipe", "first_epoch"), ("data", "source"), ("data", "sha256")):
        if type(manifest[key].get(field)) is not str:
            return f"{key!r} has no {field!r}"
    return problem_of_interface(manifest) or _problem_of_numbers(manifest)


def _problem_of_numbers(manifest: dict[str, Any]) -> str | None:
    """Return which value of a manifest is not a finite number although it must be, or None if all are."""
    metrics, tolerances, training = manifest["metrics"], manifest["tolerances"], manifest["training"]
    numbers = {f"the metric {name!r:.200}": value for name, value in metrics.items()}
    for kind in ("metrics", "retrained"):
        if type(tolerances.get(kind)) is not dict:
            return f"'tolerances' has no {kind!r}"
        numbers |= {f"the tolerance of {name!r:.200}": value for name, value in tolerances[kind].items()}
    if tolerances.get("weights", "") is not None:  # None: no bound on the weights
        numbers |= {"the tolerance of the weights": tolerances.get("weights")}
    numbers |= {f"the training's {key!r}": training.get(key) for key in ("steps", "wall_time_s")}
    for what, value in numbers.items():
        if not _is_finite(value):
            return f"{what} is not a finite number"
    return None


def _is_finite(value: Any) -> bool:
    try:
        return type(value) in (int, float) and math.isfinite(value)
    except OverflowError:  # JSON has integers that no float can hold
        return False
