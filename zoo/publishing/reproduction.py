"""Reproduction: run the recipe of an entry again in a fresh process and compare with the published weights."""

import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ... import checkpoints
from ...checkpoints.tools.compare.difference import Difference
from ..entry import Entry
from ..errors import DataError
from ..loading import find, load_entry
from ..training.child import train_apart
from ..training.run.environment import changes, is_pinned, same_bits
from ..versions import whole
from .text import table
from .verification import Metric, compare_metrics, recipe_of


@dataclass(frozen=True)
class Reproduction:
    """The result of running the recipe of an entry again.

    weights: how the new state differs from the published one. weight_tolerance: how much each weight may differ in
    another environment; None if no bound was measured to hold. metrics: those of the new weights beside those on the
    card. environment: key -> (as published, here), for each difference. comparable: whether both environments must give
    the same bits.
    """

    name: str
    weights: Difference
    weight_tolerance: float | None
    metrics: tuple[Metric, ...]
    environment: Mapping[str, tuple[str, str]]
    comparable: bool

    @property
    def identical(self) -> bool:
        """Whether every bit of the state is as published."""
        return self.weights.same

    @property
    def largest_deviation(self) -> float:
        """The largest difference of one weight; infinite if the states hold different tensors."""
        found = [change.deviation for change in self.weights.tensors]
        return max((one.max_absolute if one else float("inf") for one in found), default=0.0)

    @property
    def within_tolerance(self) -> bool:
        """Whether the structure is the same, and weights and metrics are within the bounds of the card."""
        structure = self.weights.ties or self.weights.order or self.weights.extra
        bound = sys.float_info.max if self.weight_tolerance is None else self.weight_tolerance
        return self.largest_deviation <= bound and not structure and all(metric.passed for metric in self.metrics)

    @property
    def passed(self) -> bool:
        """Whether the entry keeps its promise: the same bits in its environment, within its bounds elsewhere."""
        return self.identical or (not self.comparable and self.within_tolerance)

    def as_dict(self) -> dict[str, Any]:
        """Return the same as dicts, lists, strings and numbers, for JSON."""
        return {
            "name": self.name,
            "passed": self.passed,
            "identical": self.identical,
            "weights": self.weights.as_dict(),
            "weight_tolerance": self.weight_tolerance,
            "metrics": [metric.as_dict() for metric in self.metrics],
            "environment": {key: {"published": old, "here": new} for key, (old, new) in self.environment.items()},
        }

    @property
    def summary(self) -> str:
        """One line: whether the entry is reproduced, and how closely."""
        if self.identical:
            return "reproduced bit for bit"
        allowed = "not bounded" if self.weight_tolerance is None else f"{self.weight_tolerance:g} allowed"
        deviation = f"weights differ by up to {self.largest_deviation:.3g} ({allowed})"
        if self.comparable:
            return f"not reproduced: every bit must be the same in this environment, but {deviation}"
        if self.passed:
            return f"reproduced within the bounds of its card: every metric is near, {deviation}"
        failed = ", ".join(metric.name for metric in self.metrics if not metric.passed)
        return f"not reproduced: beyond the bounds of its card: {failed or 'weights'}; {deviation}"

    def __str__(self) -> str:
        rows = [("metric", "on the card", "again", "tolerance", "")]
        rows += [
            (m.name, f"{m.stated:.6g}", f"{m.found:.6g}", f"{m.tolerance:.2g}", "" if m.passed else "FAILED")
            for m in self.metrics
        ]
        parts = [f"{self.name}: {self.summary}", table(rows)]
        if not self.identical:
            parts.append(str(self.weights))
        if self.environment:
            parts.append(table([("environment", "as published", "here"), *_rows(self.environment)]))
        return "\n\n".join(parts)


def repro(name: str, data_folder: str | None = None) -> Reproduction:
    """Run the recipe of an entry again in a fresh process, and compare the result with what was published.

    The process is pinned if the entry was made in a pinned one. It takes as long as the training did.
    name: an entry's name, or "file:FOLDER". data_folder: for a recipe that reads data files.

    A difference is a result, not an error. Raises UnknownNameError or EntryError if there is no entry to compare with,
    DataError if the recipe makes different data here, RunError if the process dies, and any error of the training.
    """
    entry, published = whole(find(name), lambda entry: (entry, load_entry(entry)))
    recipe = recipe_of(entry, data_folder)
    _refuse_other_data(entry, recipe.data().sha256)
    with tempfile.TemporaryDirectory() as scratch:
        run = train_apart(recipe, Path(scratch) / "run", is_pinned(entry.manifest["environment"]))
    return Reproduction(
        name=entry.name,
        weights=replace(
            checkpoints.diff(published.state_dict(), run.model.state_dict()), a="published", b="made again"
        ),
        weight_tolerance=entry.manifest["tolerances"]["weights"],
        metrics=tuple(compare_metrics(entry, run.history[-1], retrained=True)),
        environment=changes(entry.manifest["environment"], run.made.environment),
        comparable=same_bits(entry.manifest["environment"], run.made.environment),
    )


def _refuse_other_data(entry: Entry, sha256: str) -> None:
    stated = entry.manifest["data"]["sha256"]
    if sha256 != stated:
        raise DataError(
            f"The recipe of {entry.name} makes different data here: SHA-256 {sha256}, published with {stated}. "
            "Install the versions that the card names."
        )


def _rows(environment: Mapping[str, tuple[str, str]]) -> list[tuple[str, str, str]]:
    return [(key.replace("_", " "), old, new) for key, (old, new) in environment.items()]
