"""Entries by name. Loading one gives its published weights or an error, never anything in between."""

import fnmatch
import json
from pathlib import Path
from typing import Any

from .. import checkpoints
from ..checkpoints.formats import format_named
from ..core import Module, init
from ..core.random import undisturbed_generator
from .entry import WEIGHTS, Entry
from .errors import EntryError, UnknownNameError
from .registry import architectures, build, get_architecture, unknown
from .versions import entries_in, whole

HERE = Path(__file__).parent / "models"
FILE = "file:"


def list_models(filter: str | None = None) -> list[str]:
    """Return the names of the entries that come with statezoo, sorted. filter: a pattern such as "simple-mlp.*"."""
    names = sorted(_published())
    return names if filter is None else fnmatch.filter(names, filter)


def create_model(name: str, **config: Any) -> Module:
    """Return an untrained model in training mode, by the name of an architecture or of an entry with its configuration.

    config overrides options: create_model("simple-mlp", in_dim=784). Raises UnknownNameError if the name is unknown,
    and EntryError if the architecture does not accept the configuration.
    """
    if name in architectures():
        return build(name, config)
    manifest = whole(find(name), lambda entry: entry.manifest)
    return build(manifest["architecture"], {**manifest["config"], **config})


def load(name: str, format: str | None = None) -> Module:
    """Load the model of an entry in eval mode, with its published weights.

    name: an entry's name, or "file:FOLDER" for an entry in a folder. format: "safetensors" (the default) or "hdf5", or
    a suffix such as "h5"; the weights are the same. The SHA-256 of the file is checked against the manifest.

    Raises UnknownNameError if the name or architecture is unknown, and EntryError if the entry is invalid or changed.
    """
    return whole(find(name), lambda entry: load_entry(entry, format or "safetensors"))


def card(name: str) -> str:
    """Return the card of an entry: Markdown with Hugging Face's YAML header."""
    return whole(find(name), Entry.card)


def find(name: str) -> Path:
    """Return the folder of an entry, by name or as "file:FOLDER". Raises UnknownNameError if it is unknown."""
    if name.startswith(FILE):
        return Path(name[len(FILE) :])
    published = _published()
    if name not in published:
        raise UnknownNameError(unknown("model", name, published))
    return published[name]


def load_entry(entry: Entry, format: str = "safetensors") -> Module:
    """Load the model of an opened entry in eval mode, with its published weights."""
    try:
        filename = WEIGHTS[format_named(format).name]
    except (checkpoints.FormatError, KeyError):
        raise EntryError(f"An entry has no weights in {format!r}. Choose one of {', '.join(WEIGHTS)}.") from None
    get_architecture(entry.manifest["architecture"])
    weights = entry.path(filename)
    _refuse_strangers(entry, weights)
    # Every parameter comes from the file, so none is initialized, and a configuration far too large for the file is
    # refused before it uses memory.
    with undisturbed_generator(), init.skip_init():
        model = build(entry.manifest["architecture"], entry.manifest["config"])
    checkpoints.load_model(model, weights)
    return model.eval()


def describe(manifest: dict[str, Any]) -> dict[str, str]:
    """Return the metadata of the weight files. It identifies the entry, so no other manifest matches the files."""
    config = json.dumps(manifest["config"], sort_keys=True)
    return {"name": manifest["name"], "architecture": manifest["architecture"], "config": config}


def _refuse_strangers(entry: Entry, weights: Path) -> None:
    """Raise EntryError if the weights and the manifest describe different entries.

    A changed option, such as the number of heads, can leave every shape unchanged and still give a different model.
    """
    with checkpoints.open_checkpoint(weights) as found:
        fingerprint, metadata = found.fingerprint, found.metadata
    if fingerprint != entry.manifest["fingerprint"]:
        raise EntryError(f"{weights} does not hold the state that the manifest describes: their fingerprints differ.")
    for key, value in describe(entry.manifest).items():
        if metadata.get(key) != value:
            raise EntryError(
                f"The manifest in {entry.folder} says {key} {value:.200}, "
                f"but its weights were published with {metadata.get(key)!s:.200}."
            )


def _published() -> dict[str, Path]:
    return {
        folder.name: folder
        for architecture in HERE.iterdir()
        if architecture.is_dir()
        for folder in entries_in(architecture)
    }
