"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..autograd.arrays import shown
from ..autograd.base import to_array
from ..autograd.tensor import Tensor
from ..errors import OptimizerError
from .optimizer import Optimizer, as_number
from .param_groups import Params, hyperparameters


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum, Nesterov momentum and weight decay (added to the gradient).

    Source: Sutskever et al. 2013, "On the importance of initialization and momentum in deep learning", eqs. 1 to 4,
    in the form torch uses: the learning rate is not part of the momentum buffer.
    """

    def __init__(
        self, params: Params, lr: float = 1e-3, momentum: float = 0, dampening: float = 0,
        weight_decay: float = 0, nesterov: bool = False, *, maximize: bool = False, foreach: bool | None = None,
        differentiable: bool = False, fused: bool | None = None,
    ) -> None:  # fmt: skip
        super().__init__(params, hyperparameters(locals()))

    def _keeps(self, group: Mapping[str, Any]) -> Mapping[str, float]:
        return {"momentum_buffer": 0}

    def _check(self, group: dict[str, Any]) -> None:
        super()._check(group)
        if group["nesterov"] and (group["momentum"] == 0 or group["dampening"] != 0):
            raise OptimizerError("SGD: nesterov needs a momentum above 0 and no dampening.")

    def _step(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        lr, momentum, weight_decay = group["lr"], group["momentum"], group["weight_decay"]
        dtype = parameters[0]._data.dtype
        rate = as_number(lr, dtype)
        for parameter in parameters:
            array, direction = parameter._data, parameter._grad
            assert direction is not None
            if group["maximize"]:
                direction = -direction
            if weight_decay:
                direction = direction + weight_decay * array
            if momentum:
                buffer = self._moved(self.state[parameter], direction, array.dtype, group)
                direction = direction + momentum * buffer if group["nesterov"] else buffer
            if array.dtype is not dtype:
                dtype = array.dtype
                rate = as_number(lr, dtype)
            np.subtract(array, np.multiply(direction, rate), array)

    @staticmethod
    def _moved(
        state: dict[str, np.ndarray], direction: np.ndarray, dtype: np.dtype[Any], group: dict[str, Any]
    ) -> np.ndarray:
        """Update the momentum buffer with a step in direction and return it. The first buffer is the direction."""
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = shown(np.array(direction, dtype))
            return to_array(state["momentum_buffer"])
        buffer = to_array(state["momentum_buffer"])
        buffer *= group["momentum"]
        buffer += (1 - group["dampening"]) * direction
        return buffer
