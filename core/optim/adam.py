"""Adam and AdamW."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from ..autograd.tensor import Tensor
from ..errors import OptimizerError
from .adam_memory import Flat, flat_of
from .optimizer import Optimizer, Params


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
