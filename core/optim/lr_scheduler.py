"""Learning rate schedules. Call `step()` once after each epoch."""

from __future__ import annotations

import copy
import math
import operator
from collections.abc import Mapping
from typing import Any, ClassVar

from ..commit.steps import Step, run
from ..errors import OptimizerError
from .optimizer import Optimizer


class Schedule:
    """A learning rate for each group and epoch, as a function of the initial rate of the group.

    advances: the attributes that `step()` changes. All others must be equal when training is resumed.
    """

    advances: ClassVar[tuple[str, ...]] = ("last_epoch",)

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer
        self.base_lrs = [float(group["lr"]) for group in optimizer.param_groups]
        self.last_epoch = 0

    def step(self) -> None:
        """Advance to the next epoch."""
        run(self._steps_to({"last_epoch": self.last_epoch + 1}))

    def get_last_lr(self) -> list[float]:
        """Return the current learning rate of each group."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Return all attributes except the optimizer."""
        return {name: value for name, value in vars(self).items() if name != "optimizer"}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load what `state_dict` returned, and set the learning rates of that epoch.

        Raises OptimizerError if the state belongs to another kind of schedule or number of groups; nothing is changed
        in that case.
        """
        run(self._steps_to_load(state_dict))

    def _steps_to_load(self, state_dict: Mapping[str, Any]) -> list[Step]:
        """Return the steps of `load_state_dict`: see commit/steps.py."""
        own = self.state_dict()
        if own.keys() != state_dict.keys() or len(state_dict["base_lrs"]) != len(self.optimizer.param_groups):
            raise OptimizerError(
                f"the state does not fit this {type(self).__name__} of {len(self.base_lrs)} groups; nothing was "
                f"changed. It has {sorted(state_dict)}; {sorted(own)} are needed."
            )
        return self._steps_to(state_dict)

    def _steps_to(self, attributes: Mapping[str, Any]) -> list[Step]:
        """Return the steps that set attributes and the learning rates that follow from them."""
        ahead = copy.copy(self)
        vars(ahead).update(attributes)
        # A group that was added to the optimizer since then starts from its own rate.
        added = self.optimizer.param_groups[len(ahead.base_lrs) :]
        ahead.base_lrs = ahead.base_lrs + [float(group["lr"]) for group in added]
        rates = [ahead._lr(base) for base in ahead.base_lrs]
        steps: list[Step] = [(vars(self).update, vars(ahead))]
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            steps.append((operator.setitem, group, "lr", rate))
        return steps

    def _lr(self, base: float) -> float:
        """Return the rate in epoch `last_epoch` for a group with the initial rate base."""
        raise NotImplementedError


class StepLR(Schedule):
    """A learning rate that is multiplied by gamma every step_size epochs."""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1) -> None:
        if step_size < 1:
            raise OptimizerError(f"StepLR: step_size must be at least 1, not {step_size}.")
        super().__init__(optimizer)
        self.step_size, self.gamma = step_size, gamma

    def _lr(self, base: float) -> float:
        return base * self.gamma ** (self.last_epoch // self.step_size)


class CosineAnnealingLR(Schedule):
    """A learning rate that follows a half cosine down to eta_min in epoch T_max, and rises again after it.

    Source: Loshchilov and Hutter 2016, arXiv:1608.03983, eq. 5, without restarts.
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0) -> None:
        if T_max < 1:
            raise OptimizerError(f"CosineAnnealingLR: T_max must be at least 1, not {T_max}.")
        super().__init__(optimizer)
        self.T_max, self.eta_min = T_max, eta_min

    def _lr(self, base: float) -> float:
        return self.eta_min + (base - self.eta_min) * (1 + math.cos(math.pi * self.last_epoch / self.T_max)) / 2
