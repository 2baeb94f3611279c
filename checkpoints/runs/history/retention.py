"""The rule for which checkpoints of a history to keep: the last ones, the best ones, and every N-th."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from ...errors import ArgumentError

Mode = Literal["min", "max"]


class Saved(NamedTuple):
    """A checkpoint of a history: its step, the path that `load_file` and `load_model` take, and its metrics."""

    step: int
    path: str
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Retention:
    """The rule for which checkpoints to keep. See History for the fields."""

    keep_last: int = 3
    keep_best: int = 1
    keep_every: int | None = None
    metric: str | None = None
    mode: Mode | None = None

    def __post_init__(self) -> None:
        _check_count("keep_last", self.keep_last, 1)
        _check_count("keep_best", self.keep_best, 0)
        if self.keep_every is not None:
            _check_count("keep_every", self.keep_every, 1)
        if self.metric is None and self.mode is not None:
            raise ArgumentError(f"mode={self.mode!r} needs a metric. Pass the name of a metric too, or leave out mode.")
        if self.metric is not None and self.mode not in ("min", "max"):
            raise ArgumentError(
                f'mode must be "min" if the lowest {self.metric} is the best, or "max" if the highest is, not '
                f"{self.mode!r}."
            )

    def kept(self, saves: Iterable[Saved]) -> set[int]:
        """Return the steps of the checkpoints to keep."""
        saves = list(saves)
        steps = sorted(saved.step for saved in saves)
        every = (step for step in steps if self.keep_every is not None and step % self.keep_every == 0)
        best = (saved.step for saved in self.ranked(saves)[: self.keep_best])
        return {*steps[-self.keep_last :], *every, *best}

    def ranked(self, saves: Iterable[Saved]) -> list[Saved]:
        """Return the checkpoints that have the metric, best first, then earliest first. NaN does not count."""
        metric = self.metric
        if metric is None:
            return []
        sign = 1 if self.mode == "min" else -1
        measured = [saved for saved in saves if not math.isnan(saved.metrics.get(metric, math.nan))]
        return sorted(measured, key=lambda saved: (sign * saved.metrics[metric], saved.step))


def _check_count(name: str, value: Any, least: int) -> None:
    if type(value) is not int or value < least:
        raise ArgumentError(f"{name} must be a whole number of at least {least}, not {value!r}.")
