"""Verification that an entry still matches its manifest and its card."""

from collections.abc import Mapping
from math import isfinite, nan
from typing import Any, NamedTuple

import numpy as np

from ...checkpoints import CheckpointError, load_file
from ...checkpoints.testing import compare_states
from ...core import Module, ModuleError
from ..entry import GOLDEN, MANIFEST, TRAJECTORY, WEIGHTS, Entry, has_valid_checksum
from ..errors import EntryError, MissingExtraError
from ..loading import find, load_entry
from ..training.recipe import Recipe, get_recipe
from ..training.run.trajectories import load_trajectory
from ..training.train import evaluate
from ..versions import whole
from .golden import golden_differences

_SETTINGS = ("seed", "epochs", "batch_size", "lr")


class Check(NamedTuple):
    """One check: its name, whether it passed, and what was found."""

    name: str
    passed: bool
    found: str


class Metric(NamedTuple):
    """A metric: its value on the card, its value computed again, and how much the two may differ."""

    name: str
    stated: float
    found: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether the two values are close enough."""
        return abs(self.found - self.stated) <= self.tolerance

    def as_dict(self) -> dict[str, Any]:
        """Return the same as a dict for JSON, which has no NaN: a missing metric is null."""
        return {**self._asdict(), "found": self.found if isfinite(self.found) else None, "passed": self.passed}

    def __str__(self) -> str:
        if self.found == self.stated:
            return f"{self.name} {self.found:.6g}"
        return f"{self.name} {self.found:.6g}, {self.found - self.stated:+.1e} from the card"


def verify(name: str, metrics: bool = True, data_folder: str | None = None) -> list[Check]:
    """Check an entry's files, its golden values, its data and the metrics on its card. Return the checks.

    metrics: whether to make the data and evaluate the model again. data_folder: for a recipe that reads data files.
    A failed check is a result, not an error. Raises UnknownNameError or EntryError if there is no entry to check.
    """
    return whole(find(name), lambda entry: _verify(entry, metrics, data_folder))


def _verify(entry: Entry, metrics: bool, data_folder: str | None) -> list[Check]:
    recipe = recipe_of(entry, data_folder)
    checks = verify_files(entry, recipe)
    if metrics and all(check.passed for check in checks):
        checks += _evaluation(entry, recipe)
    return checks


def recipe_of(entry: Entry, data_folder: str | None = None) -> Recipe:
    """Return the recipe of an entry with its recorded settings. Raises UnknownNameError if the recipe is unknown."""
    recorded: dict[str, Any] = {key: entry.manifest["recipe"].get(key) for key in _SETTINGS}
    return get_recipe(entry.name).with_settings(**recorded, data_folder=data_folder)


def compare_metrics(entry: Entry, found: Mapping[str, float], *, retrained: bool = False) -> list[Metric]:
    """Return each metric of an entry with the value found, which is NaN if it is missing.

    retrained: whether `found` comes from a model that was trained again, which has wider tolerances.
    """
    tolerances = entry.manifest["tolerances"]["retrained" if retrained else "metrics"]
    return [
        Metric(name, value, found.get(name, nan), tolerances.get(name, 0.0))
        for name, value in entry.manifest["metrics"].items()
    ]


def verify_files(entry: Entry, recipe: Recipe, original: Module | None = None) -> list[Check]:
    """Check an entry's hashes, its weights in both formats, and its golden values. Return the checks.

    original: the model that was published. If it is given, the weights must equal its state bit for bit.
    """
    try:
        for filename in entry.manifest["files"]:
            entry.path(filename)
        models = [load_entry(entry, format=name) for name in WEIGHTS]
        golden = load_file(entry.path(GOLDEN))
    except (CheckpointError, EntryError) as error:
        return [Check("files", False, str(error))]
    if not has_valid_checksum(entry.manifest):
        return [Check("files", False, f"{entry.folder / MANIFEST} is not what was published: its checksum differs")]
    files = Check("files", True, f"{len(entry.manifest['files'])} files with their sizes and hashes")
    checks = [files, _weights(models, original), _golden(recipe, models[0], golden)]
    if TRAJECTORY in entry.manifest["files"]:
        checks.append(_trajectory(entry, models[0]))
    return checks


def _weights(models: list[Module], original: Module | None) -> Check:
    loaded = models if original is None else [*models, original]
    first, *others = [model.state_dict() for model in loaded]
    differences = [line for other in others for line in compare_states(first, other)]
    return Check("weights", not differences, "; ".join(differences) or "equal in both formats")


def _golden(recipe: Recipe, model: Module, golden: dict[str, np.ndarray]) -> Check:
    differences = golden_differences(recipe, model, golden)
    return Check("golden", not differences, "; ".join(differences) or "output, loss and gradients as published")


def _trajectory(entry: Entry, model: Module) -> Check:
    try:
        found = load_trajectory(entry)
        differences = list(compare_states(model.state_dict(), found[-1].state_dict()))
    except (CheckpointError, EntryError, ModuleError) as error:
        return Check("trajectory", False, str(error))
    if len(found) != entry.manifest["recipe"]["epochs"] + 1:
        differences.append(f"it has {len(found) - 1} epochs")
    return Check("trajectory", not differences, "; ".join(differences) or f"{len(found) - 1} epochs to these weights")


def _evaluation(entry: Entry, recipe: Recipe) -> list[Check]:
    try:
        data = recipe.data()
    except MissingExtraError as error:
        return [Check("data", False, f"not checked: {error}")]
    if data.sha256 != entry.manifest["data"]["sha256"]:
        return [Check("data", False, f"the recipe makes different data here, with SHA-256 {data.sha256}")]
    found = evaluate(recipe, load_entry(entry), data)
    metrics = compare_metrics(entry, found)
    passed = found.keys() == entry.manifest["metrics"].keys() and all(metric.passed for metric in metrics)
    if recipe.target:
        passed = passed and recipe.target.met_by(found) and recipe.target.met_by(entry.manifest["metrics"])
    shown = "; ".join(map(str, metrics))
    return [Check("data", True, f"{data.name}, as published"), Check("metrics", passed, shown)]
