"""Finding an entry by its name and loading it: published weights or an error, never anything between."""

import fnmatch
import json
from pathlib import Path
from typing import Any

from .. import checkpoints
from ..checkpoints.formats import format_named
from ..core import Module, init
from ..core.random import undisturbed_generator
from .entry import MANIFEST, WEIGHTS, Entry, open_entry
from .errors import EntryError, UnknownNameError
from .registry import architectures, build, get_architecture, unknown

HERE = Path(__file__).parent / "models"
FILE = "file:"


def list_models(filter: str | None = None) -> list[str]:
    """The names of the entries that come with statezoo, sorted; filter: a pattern such as "simple-mlp.*"."""
    names = sorted(_published())
    return names if filter is None else fnmatch.filter(names, filter)


def create_model(name: str, **config: Any) -> Module:
    """A fresh, untrained model in training mode: of an architecture, or of an entry's architecture and configuration.

    config overrides: create_model("simple-mlp", in_dim=784). Raises UnknownNameError, EntryError.
    """
    if name in architectures():
        return build(name, config)
    manifest = open_entry(find(name)).manifest
    return build(manifest["architecture"], {**manifest["config"], **config})


def load(name: str, format: str | None = None) -> Module:
    """The model of an entry in eval mode, with its published weights.

    name: an entry's name, or "file:FOLDER" for an entry in a folder of your own. format: "safetensors" (the default)
    or "hdf5", or a suffix such as "h5"; the weights are the same. The file's SHA-256 is checked against the manifest.
    Raises UnknownNameError for an unknown name or architecture, EntryError for an entry that is not what it should be.
    """
    return load_entry(open_entry(find(name)), format or "safetensors")


def card(name: str) -> str:
    """The card of an entry: Markdown with Hugging Face's YAML header."""
    return open_entry(find(name)).card()


def find(name: str) -> Path:
    """The folder of an entry, by its name or as "file:FOLDER". Raises UnknownNameError with the nearest name."""
    if name.startswith(FILE):
        return Path(name[len(FILE) :])
    published = _published()
    if name not in published:
        raise UnknownNameError(unknown("model", name, published))
    return published[name]


def load_entry(entry: Entry, format: str = "safetensors") -> Module:
    """The model of an opened entry in eval mode, with its published weights."""
    try:
        name = WEIGHTS[format_named(format).name]
    except (checkpoints.FormatError, KeyError) as error:
        raise EntryError(f"an entry has no weights in {format!r}; choose one of {', '.join(WEIGHTS)}") from error
    get_architecture(entry.manifest["architecture"])
    weights = entry.path(name)
    _refuse_strangers(entry, weights)
    # Every parameter comes from the file, so none is drawn; and a configuration that is far too large for the file
    # takes no memory before it turns out not to fit.
    with undisturbed_generator(), init.skip_init():
        model = build(entry.manifest["architecture"], entry.manifest["config"])
    checkpoints.load_model(model, weights)
    return model.eval()


def describe(manifest: dict[str, Any]) -> dict[str, str]:
    """The metadata of an entry's weight files: what the weights are, so that no other manifest passes for theirs."""
    config = json.dumps(manifest["config"], sort_keys=True)
    return {"name": manifest["name"], "architecture": manifest["architecture"], "config": config}


def _refuse_strangers(entry: Entry, weights: Path) -> None:
    """Raise EntryError if the weights say that they are of another entry than the manifest does.

    A changed option, such as the number of heads, can leave every shape as it is and give another model.
    """
    with checkpoints.open_checkpoint(weights) as found:
        fingerprint, metadata = found.fingerprint, found.metadata
    if fingerprint != entry.manifest["fingerprint"]:
        raise EntryError(f"{weights} does not hold the state that the manifest says: their fingerprints differ")
    for key, value in describe(entry.manifest).items():
        if metadata.get(key) != value:
            raise EntryError(
                f"the manifest in {entry.folder} says {key} {value:.200}, "
                f"its weights were published with {metadata.get(key)!s:.200}"
            )


def _published() -> dict[str, Path]:
    return {path.parent.name: path.parent for path in HERE.glob(f"*/*/{MANIFEST}")}
