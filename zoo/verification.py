"""Verification: is an entry still what its manifest and card say it is?"""

from typing import Any, NamedTuple

import numpy as np

from ..checkpoints import CheckpointError, load_file
from ..checkpoints.testing import compare_states
from ..core import Module
from .entry import GOLDEN, WEIGHTS, Entry, open_entry
from .errors import EntryError, MissingExtraError
from .golden import golden_differences
from .loading import find, load_entry
from .recipe import Recipe, get_recipe
from .training import evaluate

_SETTINGS = ("seed", "epochs", "batch_size", "lr")
# By how much a metric without a tolerance of its own may differ: a thousandth of itself, and rounding near zero.
_RELATIVE_TOLERANCE, _ABSOLUTE_TOLERANCE = 1e-3, 1e-6


class Check(NamedTuple):
    """One thing that was checked, whether it holds, and what was found."""

    name: str
    passed: bool
    found: str


def verify(name: str) -> list[Check]:
    """Check an entry's files, its golden values, its data and the metrics on its card, these by evaluating it again.

    A failed check is an answer, not an error. Raises UnknownNameError or EntryError if there is no entry to check.
    """
    entry = open_entry(find(name))
    recorded: dict[str, Any] = {key: entry.manifest["recipe"].get(key) for key in _SETTINGS}
    recipe = get_recipe(entry.name).with_settings(**recorded)
    checks = verify_files(entry, recipe)
    if all(check.passed for check in checks):
        checks += _evaluation(entry, recipe)
    return checks


def verify_files(entry: Entry, recipe: Recipe, original: Module | None = None) -> list[Check]:
    """Check an entry's hashes, its weights in both formats, and its golden values.

    original: the model that was published; the weights must then equal its state bit for bit.
    """
    try:
        for filename in entry.manifest["files"]:
            entry.path(filename)
        models = [load_entry(entry, format=name) for name in WEIGHTS]
        golden = load_file(entry.path(GOLDEN))
    except (CheckpointError, EntryError) as error:
        return [Check("files", False, str(error))]
    files = Check("files", True, f"{len(entry.manifest['files'])} files with their sizes and hashes")
    return [files, _weights(models, original), _golden(recipe, models[0], golden)]


def _weights(models: list[Module], original: Module | None) -> Check:
    loaded = models if original is None else [*models, original]
    first, *others = [model.state_dict() for model in loaded]
    differences = [line for other in others for line in compare_states(first, other)]
    return Check("weights", not differences, "; ".join(differences) or "equal in both formats")


def _golden(recipe: Recipe, model: Module, golden: dict[str, np.ndarray]) -> Check:
    differences = golden_differences(recipe, model, golden)
    return Check("golden", not differences, "; ".join(differences) or "output, loss and gradients as published")


def _evaluation(entry: Entry, recipe: Recipe) -> list[Check]:
    try:
        data = recipe.data()
    except MissingExtraError as error:
        return [Check("data", False, f"not checked: {error}")]
    if data.sha256 != entry.manifest["data"]["sha256"]:
        return [Check("data", False, f"the recipe makes other data here: SHA-256 {data.sha256}")]
    stated = entry.manifest["metrics"]
    found = evaluate(recipe, load_entry(entry), data)
    passed = found.keys() == stated.keys() and all(
        abs(found[name] - value) <= _tolerance(recipe, name, value) for name, value in stated.items()
    )
    if recipe.target:
        passed = passed and recipe.target.met_by(found) and recipe.target.met_by(stated)
    metrics = ", ".join(f"{name} {value:.6g}" for name, value in found.items())
    return [Check("data", True, f"{data.name}, as published"), Check("metrics", passed, metrics)]


def _tolerance(recipe: Recipe, name: str, value: float) -> float:
    return recipe.tolerances.get(name, _ABSOLUTE_TOLERANCE + _RELATIVE_TOLERANCE * abs(value))
