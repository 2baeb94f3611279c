"""Verification: is an entry still what its manifest and card say it is?"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..checkpoints import inspect, load_file
from ..core import Module
from .entry import GOLDEN, WEIGHTS, open_entry
from .errors import EntryError
from .golden import golden_differences
from .loading import find, load_entry
from .recipe import get_recipe
from .training import evaluate

# A metric that counts whole examples moves by one of them where a sum rounds the other way.
METRIC_TOLERANCE = 0.005


class Check(NamedTuple):
    """One thing that was checked, whether it holds, and what was found."""

    name: str
    passed: bool
    found: str


def verify(name: str) -> list[Check]:
    """Check an entry's files, its golden values and the metrics on its card, the last by evaluating the model again."""
    folder = find(name)
    checks = verify_files(folder)
    if all(check.passed for check in checks):
        checks.append(_metrics(folder))
    return checks


def verify_files(folder: Path, original: Module | None = None) -> list[Check]:
    """Check an entry's hashes, its weights in both formats, and its golden values.

    original: the model that was published; the weights must then equal its state bit for bit.
    """
    hashes = _hashes(folder)
    return [hashes, _weights(folder, original), _golden(folder)] if hashes.passed else [hashes]


def _hashes(folder: Path) -> Check:
    entry = open_entry(folder)
    try:
        for filename in entry.manifest["files"]:
            entry.path(filename)
    except EntryError as error:
        return Check("hashes", False, str(error))
    return Check("hashes", True, f"{len(entry.manifest['files'])} files")


def _weights(folder: Path, original: Module | None) -> Check:
    entry = open_entry(folder)
    fingerprints = {inspect(folder / filename).fingerprint for filename in WEIGHTS.values()}
    states = [load_entry(entry, format=format).state_dict() for format in WEIGHTS]
    if original is not None:
        states.append(original.state_dict())
    same = all(_same_bits(states[0], state) for state in states[1:])
    passed = same and fingerprints == {entry.manifest["fingerprint"]}
    return Check("weights", passed, "equal in both formats" if passed else "the formats do not hold the same state")


def _golden(folder: Path) -> Check:
    entry = open_entry(folder)
    recipe = get_recipe(entry.name)
    differences = golden_differences(recipe, load_entry(entry), load_file(entry.path(GOLDEN)))
    return Check("golden", not differences, "; ".join(differences) or "output, loss and gradients as published")


def _metrics(folder: Path) -> Check:
    entry = open_entry(folder)
    recipe = get_recipe(entry.name)
    stated = entry.manifest["metrics"]
    found = evaluate(recipe, load_entry(entry), recipe.data())
    passed = found.keys() == stated.keys() and all(
        abs(found[name] - value) <= METRIC_TOLERANCE * max(1.0, abs(value)) for name, value in stated.items()
    )
    return Check("metrics", passed, ", ".join(f"{name} {value:.6g}" for name, value in found.items()))


def _same_bits(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return list(one) == list(other) and all(
        one[name].dtype == other[name].dtype
        and one[name].shape == other[name].shape
        and one[name].tobytes() == other[name].tobytes()
        for name in one
    )
