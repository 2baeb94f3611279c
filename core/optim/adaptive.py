"""The optimizers that divide each element of a step by a size of its gradients: one formula each."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from .adam import averages
from .packed_state import Adaptive, PackedState
from .param_groups import Params

# What all of them take besides `_takes`, by name. Only maximize does anything here.
_SHARED = {"maximize": False, "foreach": None, "capturable": False, "differentiable": False}


class _Declared(Adaptive):
    """An optimizer that declares its hyperparameters in torch's order, with their defaults."""

    _takes: ClassVar[dict[str, Any]]
    _shared: ClassVar[dict[str, Any]] = _SHARED

    def __init__(self, params: Params, *values: float, **options: Any) -> None:
        given, known = dict(zip(self._takes, values, strict=False)), self._takes | self._shared
        wrong = [*(options.keys() - known.keys() | options.keys() & given.keys()), *values[len(self._takes) :]]
        if wrong:
            raise TypeError(f"{type(self).__name__} takes {', '.join(known)}; {wrong[0]!r} is unknown or given twice.")
        super().__init__(params, known | given | options)


class RMSprop(_Declared):
    """The gradient over the root of the average of its squares; centered: over its standard deviation.

    Source: Hinton 2012, lecture 6e of "Neural Networks for Machine Learning"; Graves 2013, arXiv:1308.0850, eqs. 38-45.
    """

    _takes: ClassVar[dict[str, Any]] = {
        "lr": 1e-2, "alpha": 0.99, "eps": 1e-8, "weight_decay": 0, "momentum": 0, "centered": False,
    }  # fmt: skip

    def _keeps(self, group: Mapping[str, Any]) -> Mapping[str, float]:
        wanted = {"momentum_buffer": group["momentum"] > 0, "grad_avg": group["centered"]}
        return {"step": 0, "square_avg": 0} | {name: 0 for name, is_wanted in wanted.items() if is_wanted}

    def _move(self, gradient: np.ndarray, kept: PackedState, group: dict[str, Any]) -> np.ndarray:
        alpha = group["alpha"]
        square = kept.put("square_avg", kept["square_avg"] * alpha + (1 - alpha) * gradient * gradient)
        if group["centered"]:
            mean = kept.put("grad_avg", kept["grad_avg"] + (1 - alpha) * (gradient - kept["grad_avg"]))
            square = square - mean * mean
        move = gradient / kept.root(square, group["eps"])
        if group["momentum"] > 0:
            move = kept.put("momentum_buffer", group["momentum"] * kept["momentum_buffer"] + move)
        return group["lr"] * move


class Adagrad(_Declared):
    """The gradient over the root of the sum of its squares.

    Source: Duchi, Hazan and Singer 2011, "Adaptive subgradient methods for online learning", figure 1.
    """

    _shared: ClassVar[dict[str, Any]] = {"maximize": False, "foreach": None, "differentiable": False, "fused": None}
    _takes: ClassVar[dict[str, Any]] = {
        "lr": 1e-2, "lr_decay": 0, "weight_decay": 0, "initial_accumulator_value": 0, "eps": 1e-10,
    }  # fmt: skip

    def __init__(self, params: Params, *values: float, **options: Any) -> None:
        super().__init__(params, *values, **options)
        for group in self.param_groups:  # before the first step, as in torch
            self._packed(group["params"], self._keeps(group))

    def _keeps(self, group: Mapping[str, Any]) -> Mapping[str, float]:
        return {"step": 0, "sum": group["initial_accumulator_value"]}

    def _move(self, gradient: np.ndarray, kept: PackedState, group: dict[str, Any]) -> np.ndarray:
        kept.put("sum", kept["sum"] + gradient * gradient)
        rate = group["lr"] / (1 + (kept["step"] - 1) * group["lr_decay"])
        return rate * (gradient / kept.root(kept["sum"], group["eps"]))


class Adadelta(_Declared):
    """The gradient, in units of the steps taken so far.  Source: Zeiler 2012, arXiv:1212.5701, algorithm 1."""

    _starts: ClassVar[dict[str, float]] = {"square_avg": 0, "acc_delta": 0}

    _takes: ClassVar[dict[str, Any]] = {"lr": 1.0, "rho": 0.9, "eps": 1e-6, "weight_decay": 0}

    def _move(self, gradient: np.ndarray, kept: PackedState, group: dict[str, Any]) -> np.ndarray:
        rho, eps = group["rho"], group["eps"]
        square = kept.put("square_avg", kept["square_avg"] * rho + (1 - rho) * gradient * gradient)
        move = kept.root(kept["acc_delta"] + eps, 0) / kept.root(square + eps, 0) * gradient
        kept.put("acc_delta", kept["acc_delta"] * rho + (1 - rho) * move * move)
        return group["lr"] * move


class Adamax(_Declared):
    """Adam with the largest gradient in place of the average of squares.  Source: arXiv:1412.6980, algorithm 2."""

    _starts: ClassVar[dict[str, float]] = {"exp_avg": 0, "exp_inf": 0}

    _takes: ClassVar[dict[str, Any]] = {"lr": 2e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0}

    def _move(self, gradient: np.ndarray, kept: PackedState, group: dict[str, Any]) -> np.ndarray:
        beta1, beta2 = group["betas"]
        kept.put("exp_avg", kept["exp_avg"] + (1 - beta1) * (gradient - kept["exp_avg"]))
        kept.put("exp_inf", np.maximum(kept["exp_inf"] * beta2, np.abs(gradient) + group["eps"]))
        return group["lr"] / (1 - beta1 ** kept["step"]) * (kept["exp_avg"] / kept["exp_inf"])


class NAdam(_Declared):
    """Adam with Nesterov momentum.  Source: Dozat 2016, "Incorporating Nesterov momentum into Adam", algorithm 2."""

    _starts: ClassVar[dict[str, float]] = {"mu_product": 1, "exp_avg": 0, "exp_avg_sq": 0}

    _takes: ClassVar[dict[str, Any]] = {
        "lr": 2e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0, "momentum_decay": 4e-3,
        "decoupled_weight_decay": False,
    }  # fmt: skip

    def _move(self, gradient: np.ndarray, kept: PackedState, group: dict[str, Any]) -> np.ndarray:
        (beta1, beta2), step, decay = group["betas"], kept["step"], group["momentum_decay"]
        now, following = (beta1 * (1 - 0.5 * 0.96 ** (at * decay)) for at in (step, step + 1))
        product = kept.put("mu_product", kept["mu_product"] * now)
        mean, square = averages(gradient, kept, group)
        move = (1 - now) / (1 - product) * gradient + following / (1 - product * following) * mean
        return group["lr"] * (move / kept.root(square / (1 - beta2**step), group["eps"]))


class RAdam(_Declared):
    """Adam that starts without dividing, while the average of few squares says little.

    Source: Liu et al. 2019, arXiv:1908.03265, algorithm 2.
    """

    _starts: ClassVar[dict[str, float]] = {"exp_avg": 0, "exp_avg_sq": 0}

    _takes: ClassVar[dict[str, Any]] = {
        "lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0, "decoupled_weight_decay": False,
    }  # fmt: skip

    def _move(self, gradient: np.ndarray, kept: PackedState, group: dict[str, Any]) -> np.ndarray:
        (beta1, beta2), step = group["betas"], kept["step"]
        mean, square = averages(gradient, kept, group)
        unbias2, most = 1 - beta2**step, 2 / (1 - beta2) - 1
        length = most - 2 * step * beta2**step / unbias2  # of the moving average
        move = group["lr"] / (1 - beta1**step) * mean
        if length <= 5:
            return move
        rectified = (length - 4) * (length - 2) * most / ((most - 4) * (most - 2) * length)
        return move * math.sqrt(rectified * unbias2) / kept.root(square, group["eps"])
