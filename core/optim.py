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
import operator
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from .clipping import clip_grad_norm_
from .errors import OptimizerError
from .flat import Flat, as_number, flat_of
from .optimizer import Optimizer, Params
from .schedules import CosineAnnealingLR, StepLR
from .tensor import Tensor

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

    def _step(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        lr, momentum, weight_decay = group["lr"], group["momentum"], group["weight_decay"]
        dtype = parameters[0].data.dtype
        rate = as_number(lr, dtype)
        for parameter in parameters:
            array, direction = parameter.data, parameter.grad
            assert direction is not None
            if weight_decay:
                direction = direction + weight_decay * array
            if momentum:
                buffer = self._moved(self.state.setdefault(parameter, {}), direction, array.dtype, group)
                direction = direction + momentum * buffer if group["nesterov"] else buffer
            if array.dtype is not dtype:
                dtype = array.dtype
                rate = as_number(lr, dtype)
            np.subtract(array, np.multiply(direction, rate), array)

    @staticmethod
    def _moved(
        state: dict[str, np.ndarray], direction: np.ndarray, dtype: np.dtype[Any], group: dict[str, Any]
    ) -> np.ndarray:
        """Return the momentum buffer after a step in direction; the first is the direction itself."""
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = np.array(direction, dtype)
        else:
            state["momentum_buffer"] *= group["momentum"]
            state["momentum_buffer"] += (1 - group["dampening"]) * direction
        return state["momentum_buffer"]


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
        # For each group, by the first of its parameters that were stepped: these, and their memory.
        self._memory: dict[Tensor, tuple[Sequence[Tensor], list[Flat]]] = {}

    def _check(self, group: dict[str, Any]) -> None:
        super()._check(group)
        if not all(0 <= beta < 1 for beta in group["betas"]):
            raise OptimizerError(f"{type(self).__name__}: betas are at least 0 and below 1, not {group['betas']}.")
        if not group["eps"] >= 0:
            raise OptimizerError(f"{type(self).__name__}: eps is at least 0, not {group['eps']}.")

    def _step(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        self._step_with(parameters, group, group["weight_decay"], 0)

    def _step_with(
        self, parameters: list[Tensor], group: dict[str, Any], of_gradients: float, of_parameters: float
    ) -> None:
        """Do a step, with the decay that is added to the gradients and the one that parameters lose of themselves."""
        for flat in self._flats(parameters):
            flat.gather(of_gradients)
            self._adapt(flat, group)
            flat.subtract(of_parameters)

    def _flats(self, parameters: list[Tensor]) -> list[Flat]:
        """Return the memory of the parameters: that of the last step, if it is theirs still."""
        known, flats = self._memory.get(parameters[0], ((), []))
        same = len(known) == len(parameters) and all(map(operator.is_, known, parameters))
        if not same or not all(flat.is_held_by(self.state) for flat in flats):
            flats = flat_of(parameters, self.state)
            memory = {**self._memory, parameters[0]: (parameters, flats)}
            # What has been laid out anew would stay alive beside its successor.
            self._memory = {
                first: held for first, held in memory.items() if all(flat.is_held_by(self.state) for flat in held[1])
            }
        return flats

    def __getstate__(self) -> dict[str, Any]:
        # In a copy the arrays of the state would be views of this memory no more.
        return {**vars(self), "_memory": {}}

    @staticmethod
    def _adapt(flat: Flat, group: dict[str, Any]) -> None:
        """Take a gradient into the memory, and leave in `scratch` what the parameters lose."""
        beta1, beta2 = group["betas"]
        mean, square, gradient, scratch = flat.exp_avg, flat.exp_avg_sq, flat.gradient, flat.scratch
        flat.step += 1
        step = float(flat.step[0])
        mean *= beta1
        mean += np.multiply(gradient, 1 - beta1, out=scratch)
        square *= beta2
        gradient *= gradient
        gradient *= 1 - beta2
        square += gradient
        # lr * (mean / unbias1) / (sqrt(square / unbias2) + eps), with the numbers drawn together
        unbias1, root = 1 - beta1**step, math.sqrt(1 - beta2**step)
        np.sqrt(square, out=scratch)
        scratch += group["eps"] * root
        np.divide(mean, scratch, out=scratch)
        scratch *= group["lr"] * root / unbias1


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

    def _step(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        self._step_with(parameters, group, 0, group["lr"] * group["weight_decay"])
