"""Schedules that go up and down between two rates, and move the momentum the other way."""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from ..errors import OptimizerError
from .optimizer import Optimizer
from .schedule import LRScheduler, at_least_1, for_each_group

PerGroup = float | list[float]


class _WithMomentum(LRScheduler):
    """A schedule that may also change the momentum, or the first beta, of each group."""

    cycle_momentum: bool
    use_beta1: bool

    def _set_momentum(self, cycle: bool, base: PerGroup, most: PerGroup, last_epoch: int) -> None:
        """Start each group from its largest momentum. Raises OptimizerError if the optimizer has none."""
        self.cycle_momentum = cycle
        if not cycle:
            return
        if not {"momentum", "betas"} & self.optimizer.defaults.keys():
            kind = type(self).__name__
            raise OptimizerError(f"{kind}: the optimizer has no momentum and no betas. Pass cycle_momentum=False.")
        self.use_beta1 = "betas" in self.optimizer.defaults
        lowest, highest = (for_each_group("momentum", self.optimizer, value) for value in (base, most))
        if last_epoch == -1:
            for group, low, high in zip(self.optimizer.param_groups, lowest, highest, strict=True):
                group.update(self._as_option(high, group), max_momentum=high, base_momentum=low)

    def _as_option(self, momentum: float, group: Mapping[str, Any]) -> dict[str, Any]:
        return {"betas": (momentum, *group["betas"][1:])} if self.use_beta1 else {"momentum": momentum}

    def _more_options(self) -> list[dict[str, Any]]:
        if not self.cycle_momentum:
            return super()._more_options()
        return [self._as_option(*pair) for pair in zip(self._momenta(), self.optimizer.param_groups, strict=True)]

    def _momenta(self) -> list[float]:
        raise NotImplementedError


class CyclicLR(_WithMomentum):
    """A rate that goes up from base_lr to max_lr in step_size_up steps, and down in step_size_down, again and again.

    mode: "triangular", "triangular2" (each cycle half as high) or "exp_range" (times gamma ** step); or scale_fn.
    Source: Smith 2015, arXiv:1506.01186.
    """

    fixed: ClassVar[tuple[str, ...]] = ("base_lrs", "max_lrs", "total_size", "step_ratio", "base_momentums")

    def __init__(
        self, optimizer: Optimizer, base_lr: PerGroup, max_lr: PerGroup, step_size_up: int = 2000,
        step_size_down: int | None = None, mode: str = "triangular", gamma: float = 1.0,
        scale_fn: Callable[[float], float] | None = None, scale_mode: str = "cycle", cycle_momentum: bool = True,
        base_momentum: float = 0.8, max_momentum: float = 0.9, last_epoch: int = -1,
    ) -> None:  # fmt: skip
        if mode not in _MODES and scale_fn is None:
            raise OptimizerError(f"CyclicLR: mode must be one of {[*_MODES]}, or give scale_fn. It is {mode!r}.")
        self.optimizer = optimizer
        lowest = for_each_group("base_lr", optimizer, base_lr)
        self.max_lrs = for_each_group("max_lr", optimizer, max_lr)
        if last_epoch == -1:
            for group, rate in zip(optimizer.param_groups, lowest, strict=True):
                group["lr"] = rate
        down = step_size_up if step_size_down is None else step_size_down
        self.total_size = float(step_size_up) + float(down)
        self.step_ratio = step_size_up / self.total_size
        self.mode, self.gamma, self._scale_fn_custom = mode, gamma, scale_fn
        self.scale_mode = _MODES[mode] if scale_fn is None else scale_mode
        if cycle_momentum:
            self.base_momentums = for_each_group("base_momentum", optimizer, base_momentum)
            self.max_momentums = for_each_group("max_momentum", optimizer, max_momentum)
        self._set_momentum(cycle_momentum, base_momentum, max_momentum, last_epoch)
        super().__init__(optimizer, last_epoch)
        self.base_lrs = lowest

    def scale_fn(self, x: float) -> float:
        """Return the height of the cycle (scale_mode "cycle") or step ("iterations") x, as a share of the first."""
        if self._scale_fn_custom is not None:
            return self._scale_fn_custom(x)
        return {"triangular": 1.0, "triangular2": 0.5 ** (x - 1)}.get(self.mode, self.gamma**x)

    def _height(self) -> tuple[float, float]:
        """Return how far up the cycle is, and the height of this cycle, both from 0 to 1."""
        cycle = math.floor(1 + self.last_epoch / self.total_size)
        x = 1 + self.last_epoch / self.total_size - cycle
        up = x / self.step_ratio if x <= self.step_ratio else (x - 1) / (self.step_ratio - 1)
        return up, self.scale_fn(cycle if self.scale_mode == "cycle" else self.last_epoch)

    def get_lr(self) -> list[float]:
        up, scale = self._height()
        return [low + (high - low) * up * scale for low, high in zip(self.base_lrs, self.max_lrs, strict=True)]

    _get_closed_form_lr = get_lr

    def _momenta(self) -> list[float]:
        up, scale = self._height()
        pairs = zip(self.base_momentums, self.max_momentums, strict=True)
        return [high - (high - low) * up * scale for low, high in pairs]

    def state_dict(self) -> dict[str, Any]:
        function = self._scale_fn_custom
        kept = None if function is None or isinstance(function, types.FunctionType) else dict(vars(function))
        return {**super().state_dict(), "_scale_fn_custom": kept}

    def _own_part(self, state: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in state.items() if name != "_scale_fn_custom"}


_MODES = {"triangular": "cycle", "triangular2": "cycle", "exp_range": "iterations"}  # mode -> its scale_mode


class OneCycleLR(_WithMomentum):
    """A rate that rises from max_lr / div_factor to max_lr, and falls far below the first one; it is stepped per batch.

    three_phase: fall to the first rate as slowly as it rose, and then on. total_steps, or epochs and steps_per_epoch.
    Raises OptimizerError if it is stepped further.
    Source: Smith and Topin 2017, arXiv:1708.07120.
    """

    fixed: ClassVar[tuple[str, ...]] = ("base_lrs", "_schedule_phases", "_anneal_func_type")

    def __init__(
        self, optimizer: Optimizer, max_lr: PerGroup, total_steps: int | None = None, epochs: int | None = None,
        steps_per_epoch: int | None = None, pct_start: float = 0.3, anneal_strategy: str = "cos",
        cycle_momentum: bool = True, base_momentum: PerGroup = 0.85, max_momentum: PerGroup = 0.95,
        div_factor: float = 25.0, final_div_factor: float = 1e4, three_phase: bool = False, last_epoch: int = -1,
    ) -> None:  # fmt: skip
        if total_steps is None and (epochs is None or steps_per_epoch is None):
            raise OptimizerError("OneCycleLR needs total_steps, or epochs and steps_per_epoch.")
        self.optimizer = optimizer
        self.total_steps = (epochs or 0) * (steps_per_epoch or 0) if total_steps is None else total_steps
        at_least_1("OneCycleLR: total_steps", self.total_steps)
        if anneal_strategy not in ("cos", "linear") or not 0 <= pct_start <= 1:
            raise OptimizerError("OneCycleLR: anneal_strategy must be 'cos' or 'linear', pct_start from 0 to 1.")
        self._anneal_func_type = anneal_strategy
        self._schedule_phases = _phases(self.total_steps, pct_start, three_phase)
        if last_epoch == -1:
            rates = for_each_group("max_lr", optimizer, max_lr)
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                first = rate / div_factor
                group.update(initial_lr=first, max_lr=rate, min_lr=first / final_div_factor)
        self._set_momentum(cycle_momentum, base_momentum, max_momentum, last_epoch)
        super().__init__(optimizer, last_epoch)

    def _between(self, what: str) -> list[float]:
        """Return the rate ("lr") or the momentum ("momentum") of each group."""
        if self.last_epoch > self.total_steps:
            raise OptimizerError(f"OneCycleLR was made for {self.total_steps} steps; this is step {self.last_epoch}.")
        ends = [phase["end_step"] for phase in self._schedule_phases]
        number = next((i for i, end in enumerate(ends) if self.last_epoch <= end), len(ends) - 1)
        began = ends[number - 1] if number else 0.0
        phase, share = self._schedule_phases[number], (self.last_epoch - began) / (ends[number] - began)
        pairs = [(g[phase[f"start_{what}"]], g[phase[f"end_{what}"]]) for g in self.optimizer.param_groups]
        if self._anneal_func_type == "linear":
            return [(end - start) * share + start for start, end in pairs]
        return [end + (start - end) / 2 * (math.cos(math.pi * share) + 1) for start, end in pairs]

    def get_lr(self) -> list[float]:
        return self._between("lr")

    _get_closed_form_lr = get_lr

    def _momenta(self) -> list[float]:
        return self._between("momentum")


def _phases(total: int, share: float, three: bool) -> list[dict[str, Any]]:
    """Return the phases of OneCycleLR as torch keeps them in its state: where each ends, and the options it joins."""
    rise, high, low = float(share * total) - 1, "max_momentum", "base_momentum"
    fall = (float(2 * share * total) - 2, "max_lr", "initial_lr", low, high)
    end = (
        [fall, (total - 1, "initial_lr", "min_lr", high, high)]
        if three
        else [(total - 1, "max_lr", "min_lr", low, high)]
    )
    rows = [(rise, "initial_lr", "max_lr", high, low), *end]
    names = ("end_step", "start_lr", "end_lr", "start_momentum", "end_momentum")
    return [dict(zip(names, row, strict=True)) for row in rows]


class CosineAnnealingWarmRestarts(LRScheduler):
    """A half cosine down to eta_min in T_0 epochs, then again from the top, each time T_mult times as long.

    `step(epoch + batch / batches)` sets the rate within an epoch.
    Source: Loshchilov and Hutter 2016, arXiv:1608.03983, eq. 5.
    """

    def __init__(
        self, optimizer: Optimizer, T_0: int, T_mult: int = 1, eta_min: float = 0.0, last_epoch: int = -1
    ) -> None:
        self.T_0 = self.T_i = at_least_1("CosineAnnealingWarmRestarts: T_0", T_0)
        self.T_mult, self.eta_min = at_least_1("CosineAnnealingWarmRestarts: T_mult", T_mult), eta_min
        self.T_cur: float = last_epoch
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        factor = (1 + math.cos(math.pi * self.T_cur / self.T_i)) / 2
        return [self.eta_min + (base - self.eta_min) * factor for base in self.base_lrs]

    _get_closed_form_lr = get_lr

    def _advance(self, epoch: float | None) -> None:
        if epoch is None:
            self.T_cur += 1
            if self.T_cur >= self.T_i:
                self.T_cur, self.T_i = self.T_cur % self.T_i, self.T_i * self.T_mult
        elif epoch < 0:
            raise OptimizerError(f"CosineAnnealingWarmRestarts: epoch must be at least 0, not {epoch}.")
        else:
            self.T_cur, self.T_i = epoch, self.T_0
            while self.T_cur >= self.T_i:
                self.T_cur, self.T_i = self.T_cur - self.T_i, self.T_i * self.T_mult
        super()._advance(None if epoch is None else math.floor(epoch))
