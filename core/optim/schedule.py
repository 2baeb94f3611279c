"""LRScheduler, the base class of learning rate schedules, and those that multiply a rate by a factor of the epoch."""

from __future__ import annotations

import copy
import inspect
import math
import types
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from ..commit.steps import Step, run
from ..errors import OptimizerError
from .optimizer import Optimizer

Lambda = Callable[[int], float]
# What torch keeps besides. A state that an older version saved lacks them.
_BOOKKEEPING = {"_step_count", "_is_initial", "_get_lr_called_within_step", "_last_lr"}


class LRScheduler:
    """A learning rate for each group, which `step()` sets once after each epoch.

    As in torch, a schedule changes the rate that a group has now: several schedules of one optimizer combine, and a
    rate that was set by hand stays. A subclass overrides `get_lr`, which returns the rates of epoch `last_epoch`.
    last_epoch: the epoch that a training is resumed after; the groups must have an "initial_lr" then.
    """

    # Attributes besides the arguments of the constructor that must be equal when training is resumed.
    fixed: ClassVar[tuple[str, ...]] = ("base_lrs",)

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        self.optimizer = optimizer
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", group["lr"])
            elif "initial_lr" not in group:
                raise OptimizerError(
                    f"group {i} has no 'initial_lr', which last_epoch={last_epoch} needs. Load the state of the "
                    "optimizer first, or set the initial rate in optimizer.param_groups."
                )
        self.base_lrs: list[float] = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self._get_lr_called_within_step = False  # part of the state in torch
        self._last_lr: list[float] = []
        self._initial_step()

    def _initial_step(self) -> None:
        self._step_count, self._is_initial = 0, True
        LRScheduler.step(self)
        self._is_initial = False

    def step(self, epoch: float | None = None) -> None:
        """Advance to the next epoch, or to the given one."""
        run(self._steps_to(epoch))

    def get_lr(self) -> list[float]:
        """Return the rates of epoch `last_epoch`, given the rates that the groups have."""
        raise NotImplementedError(f"{type(self).__name__} has no get_lr.")

    def _get_closed_form_lr(self) -> list[float]:
        """Return the rates of epoch `last_epoch` from the initial ones alone. For functions of the epoch: `get_lr`."""
        return self.get_lr()

    def get_last_lr(self) -> list[float]:
        """Return the learning rate of each group that the last step set."""
        return self._last_lr

    def state_dict(self) -> dict[str, Any]:
        """Return all attributes except the optimizer, under torch's names."""
        return {name: value for name, value in vars(self).items() if name != "optimizer"}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load what `state_dict` returned, here or in torch.

        Unlike torch, set the learning rates of that epoch too, except those that were set by hand or loaded with the
        optimizer. Raises OptimizerError if the state belongs to another kind of schedule or number of groups; nothing
        is changed in that case.
        """
        run(self._steps_to_load(state_dict))

    @property
    def _rates(self) -> list[float]:
        return [group["lr"] for group in self.optimizer.param_groups]

    def _steps_to(self, epoch: float | None) -> list[Step]:
        """Return the steps that advance to an epoch: see commit/steps.py."""
        ahead = copy.copy(self)
        # A group that was added to the optimizer since then starts from its own rate.
        ahead.base_lrs = self.base_lrs + self._rates[len(self.base_lrs) :]
        ahead._advance(epoch)
        return self._steps_to_become(ahead, ahead.get_lr() if epoch is None else ahead._get_closed_form_lr())

    def _advance(self, epoch: Any) -> None:
        self._step_count += 1
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch

    def _steps_to_become(self, ahead: LRScheduler, rates: Sequence[float]) -> list[Step]:
        """Return the steps that set the attributes of `ahead` and the rates, and what else depends on the epoch."""
        ahead._last_lr = [*rates]
        steps: list[Step] = [(vars(self).update, vars(ahead))]
        for group, rate, more in zip(self.optimizer.param_groups, rates, ahead._more_options(), strict=True):
            steps.append((group.update, {"lr": rate, **more}))
        return steps

    def _more_options(self) -> list[dict[str, Any]]:
        """Return what changes with the epoch besides the rate, for each group."""
        return [{} for _ in self.optimizer.param_groups]

    def _steps_to_load(self, state_dict: Mapping[str, Any]) -> list[Step]:
        """Return the steps of `load_state_dict`: see commit/steps.py."""
        own, groups = self.state_dict(), self.optimizer.param_groups
        given = {name: value for name, value in state_dict.items() if name != "verbose"}  # of older versions of torch
        counts = [len(given[name]) for name in ("base_lrs", "_last_lr", "min_lrs") if name in given]
        if own.keys() - given.keys() - _BOOKKEEPING or given.keys() - own.keys() or {*counts} - {len(groups)}:
            raise OptimizerError(
                f"the state does not fit this {type(self).__name__} of {len(groups)} groups; nothing was "
                f"changed. It has {sorted(given)}; {sorted(own)} are needed."
            )
        ahead = copy.copy(self)
        vars(ahead).update(self._own_part(given))
        before = self._last_lr + self._rates[len(self._last_lr) :]
        rates = self._rates
        if "_last_lr" in given:
            rates = [new if now == old else now for now, old, new in zip(rates, before, given["_last_lr"], strict=True)]
        elif type(self)._get_closed_form_lr is not LRScheduler._get_closed_form_lr:
            rates = ahead._get_closed_form_lr()
        steps = self._steps_to_become(ahead, rates)
        ahead._last_lr = [*given.get("_last_lr", rates)]
        return steps

    def _own_part(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a state says about attributes of this object itself."""
        return dict(state)


class _Functions(LRScheduler):
    """A schedule by a function of the epoch, or one for each group.

    Functions are not part of the state, but the attributes of an object with __call__ are, as in torch.
    """

    def __init__(self, optimizer: Optimizer, lr_lambda: Lambda | Sequence[Lambda], last_epoch: int = -1) -> None:
        self.lr_lambdas = [*for_each_group("lr_lambda", optimizer, lr_lambda)]
        super().__init__(optimizer, last_epoch)

    def state_dict(self) -> dict[str, Any]:
        kept = [None if isinstance(f, types.FunctionType) else dict(vars(f)) for f in self.lr_lambdas]
        return {**super().state_dict(), "lr_lambdas": kept}

    def _own_part(self, state: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in state.items() if name != "lr_lambdas"}

    def _steps_to_load(self, state_dict: Mapping[str, Any]) -> list[Step]:
        steps = super()._steps_to_load(state_dict)
        pairs = zip(self.lr_lambdas, state_dict["lr_lambdas"], strict=True)
        return steps + [(vars(function).update, kept) for function, kept in pairs if kept]


class LambdaLR(_Functions):
    """The initial rate times lr_lambda(epoch)."""

    def get_lr(self) -> list[float]:
        return [base * function(self.last_epoch) for base, function in zip(self.base_lrs, self.lr_lambdas, strict=True)]

    _get_closed_form_lr = get_lr


class MultiplicativeLR(_Functions):
    """A rate that each epoch multiplies by lr_lambda(epoch)."""

    def get_lr(self) -> list[float]:
        if self._is_initial:
            return self._rates
        return [rate * function(self.last_epoch) for rate, function in zip(self._rates, self.lr_lambdas, strict=True)]


class _Multiplied(LRScheduler):
    """A schedule whose rate is the initial one times a factor of the epoch, above a lowest rate.

    A rate that nothing else has changed is computed from the initial one, so that rounding does not add up. Any other
    is multiplied by the ratio of two factors, as torch always does.
    """

    eta_min = 0.0
    _multiplies_when_resumed = False  # as it is in torch

    def get_lr(self) -> list[float]:
        if self._is_initial and self.last_epoch > 0 and not self._multiplies_when_resumed:
            return self._rates
        now, low, closed = self._factor(self.last_epoch), self.eta_min, self._get_closed_form_lr()
        was = 1.0 if self.last_epoch == 0 else self._factor(self.last_epoch - 1)
        if now == was:
            return self._rates
        rates = []
        for rate, base, alone in zip(self._rates, self.base_lrs, closed, strict=True):
            if rate == low + (base - low) * was:
                rates.append(alone)
            else:
                rates.append(low + (rate - low) * (now / was) if was else rate + (base - low) * now)
        return rates

    def _get_closed_form_lr(self) -> list[float]:
        factor, low = self._factor(self.last_epoch), self.eta_min
        return [low + (base - low) * factor for base in self.base_lrs]

    def _factor(self, epoch: float) -> float:
        raise NotImplementedError


_NEEDED = inspect.Parameter.empty


def _declared(name: str, doc: str, takes: dict[str, Any], factor: Callable[[Any, float], float], resumes: bool) -> Any:
    """Return the class of a schedule from its arguments, with their defaults, and its factor of an epoch.

    resumes: True if building it with last_epoch changes the rate, as it does in torch.
    """
    kind, named = inspect.Parameter.POSITIONAL_OR_KEYWORD, {"optimizer": _NEEDED, **takes, "last_epoch": -1}
    signature = inspect.Signature([inspect.Parameter(key, kind, default=value) for key, value in named.items()])

    def __init__(self: _Multiplied, *values: Any, **options: Any) -> None:
        given = signature.bind(*values, **options)
        given.apply_defaults()
        own = {key: given.arguments[key] for key in takes}
        for key in {"step_size", "T_max", "total_iters"} & own.keys():
            at_least_1(f"{name}: {key}", own[key])
        for key in {"factor", "start_factor", "end_factor"} & own.keys():
            if not 0 <= own[key] <= 1:
                raise OptimizerError(f"{name}: {key} must be between 0 and 1, not {own[key]}.")
        if "milestones" in own:
            own["milestones"] = Counter(own["milestones"])
        vars(self).update(own)
        LRScheduler.__init__(self, given.arguments["optimizer"], given.arguments["last_epoch"])

    members = {"__init__": __init__, "__doc__": doc, "__module__": __name__, "__signature__": signature}
    return type(name, (_Multiplied,), {**members, "_factor": factor, "_multiplies_when_resumed": resumes})


StepLR = _declared(
    "StepLR", "A learning rate that is multiplied by gamma every step_size epochs.",
    {"step_size": _NEEDED, "gamma": 0.1}, lambda self, epoch: self.gamma ** (epoch // self.step_size), True,
)  # fmt: skip
MultiStepLR = _declared(
    "MultiStepLR", "A learning rate that is multiplied by gamma in each epoch of milestones.",
    {"milestones": _NEEDED, "gamma": 0.1},
    lambda self, epoch: self.gamma ** sum(n for at, n in self.milestones.items() if at <= epoch), True,
)  # fmt: skip
ConstantLR = _declared(
    "ConstantLR", "A learning rate that is multiplied by factor until epoch total_iters.",
    {"factor": 1 / 3, "total_iters": 5}, lambda self, epoch: 1.0 if epoch >= self.total_iters else self.factor, True,
)  # fmt: skip
LinearLR = _declared(
    "LinearLR", "A learning rate times a factor that goes from start_factor to end_factor in epoch total_iters.",
    {"start_factor": 1 / 3, "end_factor": 1.0, "total_iters": 5},
    lambda self, epoch: self.start_factor
    + (self.end_factor - self.start_factor) * (min(self.total_iters, epoch) / self.total_iters), False,
)  # fmt: skip
ExponentialLR = _declared(
    "ExponentialLR", "A learning rate that is multiplied by gamma in each epoch.",
    {"gamma": _NEEDED}, lambda self, epoch: self.gamma**epoch, False,
)  # fmt: skip
PolynomialLR = _declared(
    "PolynomialLR", "A learning rate that falls to 0 in epoch total_iters, as a power of the epochs that are left.",
    {"total_iters": 5, "power": 1.0},
    lambda self, epoch: (1 - min(self.total_iters, epoch) / self.total_iters) ** self.power, False,
)  # fmt: skip
CosineAnnealingLR = _declared(
    "CosineAnnealingLR",
    "A learning rate that follows a half cosine to eta_min in epoch T_max, and rises again after it.\n\n"
    "Source: Loshchilov and Hutter 2016, arXiv:1608.03983, eq. 5, without restarts.",
    {"T_max": _NEEDED, "eta_min": 0.0}, lambda self, epoch: (1 + math.cos(math.pi * epoch / self.T_max)) / 2, False,
)  # fmt: skip


def at_least_1(name: str, value: int) -> int:
    """Return an option. Raises OptimizerError unless it is at least 1."""
    if not value >= 1:
        raise OptimizerError(f"{name} must be at least 1, not {value}.")
    return value


def for_each_group(name: str, optimizer: Optimizer, value: Any) -> list[Any]:
    """Return a list with a value for each group, given that list or one value."""
    values = [*value] if isinstance(value, list | tuple) else [value] * len(optimizer.param_groups)
    if len(values) != len(optimizer.param_groups):
        raise OptimizerError(
            f"{name} has {len(values)} values; the optimizer has {len(optimizer.param_groups)} groups."
        )
    return values
