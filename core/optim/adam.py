"""Adam and AdamW."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from ..autograd.tensor import Tensor
from ..errors import OptimizerError
from .optimizer import Optimizer, Params
from .packed_state import PackedState, pack


class Adam(Optimizer):
    """Adam, with weight decay added to the gradient.

    float16 parameters need a larger eps, such as 1e-4: the default of 1e-8 rounds to 0 in float16, and a gradient near
    0 then gives NaN or infinity, as in torch. doctor() reports it.
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
        # For each group, by the first parameter that was stepped: the stepped parameters and their packed state.
        self._memory: dict[Tensor, tuple[Sequence[Tensor], list[PackedState]]] = {}

    def _check(self, group: dict[str, Any]) -> None:
        super()._check(group)
        if not all(0 <= beta < 1 for beta in group["betas"]):
            raise OptimizerError(f"{type(self).__name__}: betas must be at least 0 and below 1, not {group['betas']}.")
        if not group["eps"] >= 0:
            raise OptimizerError(f"{type(self).__name__}: eps must be at least 0, not {group['eps']}.")

    def _step(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        self._step_with(parameters, group, group["weight_decay"], 0)

    def _step_with(
        self, parameters: list[Tensor], group: dict[str, Any], of_gradients: float, of_parameters: float
    ) -> None:
        """Do one step. of_gradients: the decay added to the gradients; of_parameters: the decay of the parameters."""
        for packed in self._packed(parameters):
            packed.gather(of_gradients)
            if packed.dtype.itemsize <= 2:
                _adapt_narrow(packed, group)
            else:
                _adapt(packed, group)
            packed.subtract(of_parameters)

    def _packed(self, parameters: list[Tensor]) -> list[PackedState]:
        """Return the packed state of the parameters: that of the last step if it is still current."""
        known, states = self._memory.get(parameters[0], ((), []))
        same = len(known) == len(parameters) and all(map(operator.is_, known, parameters))
        if not same or not all(packed.is_current(self.state) for packed in states):
            states = pack(parameters, self.state)
            memory = {**self._memory, parameters[0]: (parameters, states)}
            # Drop packed state that is out of date, so that its memory is freed.
            self._memory = {
                first: held
                for first, held in memory.items()
                if all(packed.is_current(self.state) for packed in held[1])
            }
        return states

    def __getstate__(self) -> dict[str, Any]:
        # In a copy, the arrays of the state would no longer be views of this memory.
        return {**vars(self), "_memory": {}}


def _adapt(packed: PackedState, group: dict[str, Any]) -> None:
    """Update the averages with `gradient`, and leave in `scratch` what to subtract from the parameters."""
    beta1, beta2 = group["betas"]
    mean, square, gradient, scratch = packed.exp_avg, packed.exp_avg_sq, packed.gradient, packed.scratch
    packed.step += 1
    step = float(packed.step[0])
    mean *= beta1
    mean += np.multiply(gradient, 1 - beta1, out=scratch)
    square *= beta2
    gradient *= gradient
    gradient *= 1 - beta2
    square += gradient
    # lr * (mean / unbias1) / (sqrt(square / unbias2) + eps), with the scalar factors combined
    unbias1, root = 1 - beta1**step, math.sqrt(1 - beta2**step)
    np.sqrt(square, out=scratch)
    scratch += group["eps"] * root
    np.divide(mean, scratch, out=scratch)
    scratch *= group["lr"] * root / unbias1


def _adapt_narrow(packed: PackedState, group: dict[str, Any]) -> None:
    """Do `_adapt` for 16-bit floats as torch does: compute in float32 and round what is stored."""
    beta1, beta2 = group["betas"]
    mean, square, gradient, scratch = packed.exp_avg, packed.exp_avg_sq, packed.gradient, packed.scratch
    packed.step += 1
    step = float(packed.step[0])
    unbias1, root = 1 - beta1**step, math.sqrt(1 - beta2**step)
    wide = gradient.astype(np.float32)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):  # infinite squares; eps that is 0 in float16
        mean[...] = mean + (1 - beta1) * (wide - mean)
        square[...] = square.astype(np.float32) * beta2 + (1 - beta2) * wide * wide
        scratch[...] = np.sqrt(square) / root
        scratch += group["eps"]
        scratch[...] = group["lr"] / unbias1 * mean.astype(np.float32) / scratch


class AdamW(Adam):
    """Adam, with weight decay applied to the parameters.

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
