"""Which checkpoints of a history stay: the last ones, the best ones, and each N-th."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from ...errors import ArgumentError

Mode = Literal["min", "max"]


class Saved(NamedTuple):
    """A checkpoint of a history: its step, the path that load_file and load_model take, and its metrics."""

    step: int
    path: str
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Retention:
    """A rule that says which stay; see History for what the fields mean."""

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
            raise ArgumentError(f"mode={self.mode!r} says what is best of a metric: give metric too, or leave it out.")
        if self.metric is not None and self.mode not in ("min", "max"):
            raise ArgumentError(
                f'mode is "min" if the lowest {self.metric} is the best, or "max", not {self.mode!r}. Give one of them.'
            )

    def kept(self, saves: Iterable[Saved]) -> set[int]:
        """Return the steps of those that stay."""
        saves = list(saves)
        steps = sorted(saved.step for saved in saves)
        every = (step for step in steps if self.keep_every is not None and step % self.keep_every == 0)
        best = (saved.step for saved in self.ranked(saves)[: self.keep_best])
        return {*steps[-self.keep_last :], *every, *best}

    def ranked(self, saves: Iterable[Saved]) -> list[Saved]:
        """Return those that have the metric, the best first, of equal ones the earlier. NaN is no value of a metric."""
        metric = self.metric
        if metric is None:
            return []
        sign = 1 if self.mode == "min" else -1
        measured = [saved for saved in saves if not math.isnan(saved.metrics.get(metric, math.nan))]
        return sorted(measured, key=lambda saved: (sign * saved.metrics[metric], saved.step))


def _check_count(name: str, value: Any, least: int) -> None:
    if type(value) is not int or value < least:
        raise ArgumentError(f"{name} is a whole number of at least {least}, not {value!r}.")
