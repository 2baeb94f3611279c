"""Learning rate schedules under torch's names, and those that combine others or follow a metric.

schedule = lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs)
for _ in range(epochs):
    train()
    schedule.step()
"""

from __future__ import annotations

import copy
import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, SupportsFloat

from ..commit.steps import Step, run
from ..errors import OptimizerError
from .cyclic import CosineAnnealingWarmRestarts, CyclicLR, OneCycleLR
from .optimizer import Optimizer
from .schedule import (
    ConstantLR,
    CosineAnnealingLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    LRScheduler,
    MultiplicativeLR,
    MultiStepLR,
    PolynomialLR,
    StepLR,
    for_each_group,
)  # fmt: skip

__all__ = [
    "ChainedScheduler", "ConstantLR", "CosineAnnealingLR", "CosineAnnealingWarmRestarts", "CyclicLR", "ExponentialLR",
    "LRScheduler", "LambdaLR", "LinearLR", "MultiStepLR", "MultiplicativeLR", "OneCycleLR", "PolynomialLR",
    "ReduceLROnPlateau", "SequentialLR", "StepLR",
]  # fmt: skip

_LRScheduler = LRScheduler  # its name in older scripts


class _Combined(LRScheduler):
    """A schedule made of others."""

    _schedulers: list[LRScheduler]

    def _hold(self, optimizer: Any, schedulers: Sequence[LRScheduler]) -> None:
        """Keep the schedules. Raises OptimizerError if one cannot be combined."""
        if not schedulers:
            raise OptimizerError(f"{type(self).__name__} needs at least one schedule.")
        for number, each in enumerate(schedulers):
            if isinstance(each, ReduceLROnPlateau) or each.optimizer is not optimizer:
                reason = "needs a metric" if isinstance(each, ReduceLROnPlateau) else "belongs to another optimizer"
                raise OptimizerError(f"{type(self).__name__}: schedule {number}, {type(each).__name__}, {reason}.")
        self.optimizer, self._schedulers = optimizer, [*schedulers]

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "_schedulers": [each.state_dict() for each in self._schedulers]}

    def _own_part(self, state: Mapping[str, Any]) -> dict[str, Any]:
        own = {*vars(self), "_last_lr"} - {"_schedulers"}
        return {name: value for name, value in state.items() if name in own}

    def _steps_to_load(self, state_dict: Mapping[str, Any]) -> list[Step]:
        own = super()._steps_to_load(state_dict)
        saved = state_dict["_schedulers"]
        if len(saved) != len(self._schedulers):
            raise OptimizerError(
                f"the state does not fit this {type(self).__name__} of {len(self._schedulers)} schedules; nothing was "
                f"changed. It has {len(saved)}."
            )
        inner = [step for each, one in zip(self._schedulers, saved, strict=True) for step in each._steps_to_load(one)]
        return inner + own


class SequentialLR(_Combined):
    """Several schedules, one after the other: each starts in the epoch that `milestones` gives, from the initial rate.

    milestones: one number fewer than schedules.
    """

    def __init__(
        self, optimizer: Optimizer, schedulers: Sequence[LRScheduler], milestones: list[int], last_epoch: int = -1
    ) -> None:
        self._hold(optimizer, schedulers)
        if len(milestones) != len(schedulers) - 1:
            needed = f"{len(schedulers)} schedules need {len(schedulers) - 1} milestones, not {len(milestones)}"
            raise OptimizerError(f"SequentialLR: {needed}.")
        self._milestones, self.last_epoch = milestones, last_epoch + 1
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"]
        _undo_first_step(self)
        first = self._schedulers[bisect_right(milestones, 0)]
        first._initial_step()
        self._last_lr = first.get_last_lr()

    def step(self, epoch: float | None = None) -> None:
        """Advance to the next epoch."""
        number = bisect_right(self._milestones, self.last_epoch + 1)
        current = self._schedulers[number]
        if number and self._milestones[number - 1] == self.last_epoch + 1:
            current.step(0)
        else:
            current.step()
        self.last_epoch, self._last_lr = self.last_epoch + 1, current.get_last_lr()


def _undo_first_step(schedule: Any) -> None:
    for each in getattr(schedule, "_schedulers", ()):
        _undo_first_step(each)
    if not isinstance(schedule, _Combined):
        schedule.last_epoch -= 1


class ChainedScheduler(_Combined):
    """Several schedules that are stepped together, each from the rate that the one before it has set."""

    def __init__(self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None = None) -> None:
        self._hold(optimizer or (schedulers[0].optimizer if schedulers else None), schedulers)
        self._last_lr = self._rates

    def step(self, epoch: float | None = None) -> None:
        """Advance all schedules to the next epoch."""
        for each in self._schedulers:
            each.step()
        self._last_lr = self._rates


class ReduceLROnPlateau(LRScheduler):
    """A rate that is multiplied by `factor` when a metric has not improved for more than `patience` epochs.

    mode: "min" or "max". threshold: how much better counts, as a share ("rel") or a number ("abs"). cooldown: epochs
    to wait after a reduction. min_lr: the smallest rate, for all groups or each. eps: smaller changes are not made.
    """

    fixed: ClassVar[tuple[str, ...]] = ("default_min_lr", "min_lrs", "mode_worse")

    def __init__(
        self, optimizer: Optimizer, mode: str = "min", factor: float = 0.1, patience: int = 10,
        threshold: float = 1e-4, threshold_mode: str = "rel", cooldown: int = 0, min_lr: float | list[float] = 0,
        eps: float = 1e-8,
    ) -> None:  # fmt: skip
        if not factor < 1:
            raise OptimizerError(f"ReduceLROnPlateau: factor must be below 1, not {factor}.")
        if mode not in ("min", "max") or threshold_mode not in ("rel", "abs"):
            wanted = f"'min' or 'max', threshold_mode 'rel' or 'abs', not {mode!r} and {threshold_mode!r}"
            raise OptimizerError(f"ReduceLROnPlateau: mode must be {wanted}.")
        self.optimizer, self.mode, self.factor, self.patience, self.eps = optimizer, mode, factor, patience, eps
        self.threshold, self.threshold_mode, self.cooldown = threshold, threshold_mode, cooldown
        self.default_min_lr = None if isinstance(min_lr, list | tuple) else min_lr
        self.min_lrs = for_each_group("min_lr", optimizer, min_lr)
        self.last_epoch, self._last_lr = 0, self._rates
        self.best = self.mode_worse = math.inf if mode == "min" else -math.inf
        self.cooldown_counter = self.num_bad_epochs = 0

    def step(self, metrics: SupportsFloat, epoch: int | None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Advance to the next epoch, given the metric of the last one: a number, or a Tensor with one element."""
        ahead, rates, current = copy.copy(self), self._rates, float(metrics)
        ahead.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        if self._is_better(current):
            ahead.best, ahead.num_bad_epochs = current, 0
        else:
            ahead.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            ahead.cooldown_counter, ahead.num_bad_epochs = self.cooldown_counter - 1, 0
        if ahead.num_bad_epochs > self.patience:
            least = self.min_lrs + [self.default_min_lr or 0] * (len(rates) - len(self.min_lrs))
            lower = [max(rate * self.factor, floor) for rate, floor in zip(rates, least, strict=True)]
            rates = [new if rate - new > self.eps else rate for rate, new in zip(rates, lower, strict=True)]
            ahead.cooldown_counter, ahead.num_bad_epochs, ahead.min_lrs = self.cooldown, 0, least
        run(self._steps_to_become(ahead, rates))

    def _is_better(self, value: float) -> bool:
        sign = 1 if self.mode == "max" else -1
        is_relative = self.threshold_mode == "rel"
        least = self.best * (1 + sign * self.threshold) if is_relative else self.best + sign * self.threshold
        return sign * value > sign * least
