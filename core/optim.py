"""Optimizers, with torch's names, defaults and results; and what belongs to them: schedules and clipping.

    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for x, y in batches:
        optimizer.zero_grad()
        mse_loss(model(x), y).backward()
        optimizer.step()

params is an iterable of parameters, of (name, parameter) as `model.named_parameters()` yields them (errors then use
the names), or of dicts with "params" and the hyperparameters that differ for these.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from .clipping import clip_grad_norm_
from .errors import OptimizerError
from .optimizer import Optimizer, Params
from .schedules import CosineAnnealingLR, StepLR

__all__ = ["SGD", "Adam", "AdamW", "CosineAnnealingLR", "Optimizer", "StepLR", "clip_grad_norm_"]


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum, Nesterov's momentum and weight decay (added to the gradient).

    Source: Sutskever et al. 2013, "On the importance of initialization and momentum in deep learning", eqs. 1 to 4,
    in torch's form: the learning rate stands outside the momentum buffer.
    """

    _remembers: ClassVar[dict[str, bool]] = {"momentum_buffer": True}

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        options = {"momentum": momentum, "dampening": dampening, "weight_decay": weight_decay, "nesterov": nesterov}
        super().__init__(params, {"lr": lr, **options})

    def _check(self, group: dict[str, Any]) -> None:
        super()._check(group)
        if not group["momentum"] >= 0:
            raise OptimizerError(f"SGD: momentum is at least 0, not {group['momentum']}.")
        if group["nesterov"] and (group["momentum"] == 0 or group["dampening"] != 0):
            raise OptimizerError("SGD: nesterov needs a momentum above 0 and no dampening.")

    def _update(
        self, array: np.ndarray, gradient: np.ndarray, state: dict[str, np.ndarray], group: dict[str, Any]
    ) -> None:
        momentum, direction = group["momentum"], gradient
        if group["weight_decay"]:
            direction = direction + group["weight_decay"] * array
        if momentum:
            if "momentum_buffer" in state:
                buffer = state["momentum_buffer"]
                buffer *= momentum
                buffer += (1 - group["dampening"]) * direction
            else:
                buffer = state["momentum_buffer"] = np.array(direction, dtype=array.dtype)
            direction = direction + momentum * buffer if group["nesterov"] else buffer
        array -= group["lr"] * direction


class Adam(Optimizer):
    """Adam, with weight decay added to the gradient.

    Source: Kingma and Ba 2014, arXiv:1412.6980, algorithm 1.
    """

    _remembers: ClassVar[dict[str, bool]] = {"step": False, "exp_avg": True, "exp_avg_sq": True}

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    def _check(self, group: dict[str, Any]) -> None:
        super()._check(group)
        if not all(0 <= beta < 1 for beta in group["betas"]):
            raise OptimizerError(f"{type(self).__name__}: betas are at least 0 and below 1, not {group['betas']}.")
        if not group["eps"] >= 0:
            raise OptimizerError(f"{type(self).__name__}: eps is at least 0, not {group['eps']}.")

    def _update(
        self, array: np.ndarray, gradient: np.ndarray, state: dict[str, np.ndarray], group: dict[str, Any]
    ) -> None:
        if group["weight_decay"]:
            gradient = gradient + group["weight_decay"] * array
        self._adapt(array, gradient, state, group)

    def _adapt(
        self, array: np.ndarray, gradient: np.ndarray, state: dict[str, np.ndarray], group: dict[str, Any]
    ) -> None:
        if not state:
            # One number, of the dtype that torch keeps it in.
            state.update(step=np.zeros((), np.float32), exp_avg=np.zeros_like(array), exp_avg_sq=np.zeros_like(array))
        beta1, beta2 = group["betas"]
        step, mean, square = state["step"], state["exp_avg"], state["exp_avg_sq"]
        step += 1
        mean *= beta1
        mean += (1 - beta1) * gradient
        square *= beta2
        square += (1 - beta2) * (gradient * gradient)
        unbias1, unbias2 = 1 - beta1 ** float(step), 1 - beta2 ** float(step)
        array -= group["lr"] / unbias1 * (mean / (np.sqrt(square) / math.sqrt(unbias2) + group["eps"]))


class AdamW(Adam):
    """Adam, with weight decay applied to the parameters themselves.

    Source: Loshchilov and Hutter 2017, arXiv:1711.05101, algorithm 2.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay)

    def _update(
        self, array: np.ndarray, gradient: np.ndarray, state: dict[str, np.ndarray], group: dict[str, Any]
    ) -> None:
        array *= 1 - group["lr"] * group["weight_decay"]
        self._adapt(array, gradient, state, group)
