"""Adam and AdamW."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from .packed_state import Adaptive, PackedState
from .param_groups import Params, hyperparameters

Betas = tuple[float, float]


class Adam(Adaptive):
    """Adam, with weight decay added to the gradient, or decoupled from it. amsgrad: divide by the largest average.

    float16 parameters need a larger eps, such as 1e-4: the default of 1e-8 rounds to 0 in float16, and a gradient near
    0 then gives NaN or infinity, as in torch. doctor() reports it.
    Source: Kingma and Ba 2014, arXiv:1412.6980, algorithm 1; Reddi et al. 2018, arXiv:1904.09237 (amsgrad).
    """

    def __init__(
        self, params: Params, lr: float = 1e-3, betas: Betas = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: float = 0, amsgrad: bool = False, *, foreach: bool | None = None, maximize: bool = False,
        capturable: bool = False, differentiable: bool = False, fused: bool | None = None,
        decoupled_weight_decay: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(params, hyperparameters(locals()))

    def _keeps(self, group: Mapping[str, Any]) -> Mapping[str, float]:
        return {"step": 0, "exp_avg": 0, "exp_avg_sq": 0} | ({"max_exp_avg_sq": 0} if group["amsgrad"] else {})

    def _adapt(self, packed: PackedState, group: dict[str, Any]) -> None:
        if packed.dtype.itemsize <= 2:
            super()._adapt(packed, group)
            return
        # The same as `_move`, in place.
        beta1, beta2 = group["betas"]
        mean, square = packed.kept["exp_avg"], packed.kept["exp_avg_sq"]
        gradient, scratch, step = packed.gradient, packed.scratch, float(packed.kept["step"][0])
        mean *= beta1
        mean += np.multiply(gradient, 1 - beta1, out=scratch)
        square *= beta2
        gradient *= gradient
        gradient *= 1 - beta2
        square += gradient
        if group["amsgrad"]:
            square = np.maximum(packed.kept["max_exp_avg_sq"], square, out=packed.kept["max_exp_avg_sq"])
        # lr * (mean / unbias1) / (sqrt(square / unbias2) + eps), with the scalar factors combined
        unbias1, root = 1 - beta1**step, math.sqrt(1 - beta2**step)
        np.sqrt(square, out=scratch)
        scratch += group["eps"] * root
        np.divide(mean, scratch, out=scratch)
        scratch *= group["lr"] * root / unbias1

    def _move(self, gradient: np.ndarray, kept: PackedState, group: dict[str, Any]) -> np.ndarray:
        mean, square = averages(gradient, kept, group)
        if group["amsgrad"]:
            square = kept.put("max_exp_avg_sq", np.maximum(kept["max_exp_avg_sq"], square))
        unbias1, unbias2 = (1 - beta ** kept["step"] for beta in group["betas"])
        return group["lr"] / unbias1 * mean / kept.root(square / unbias2, group["eps"])


def averages(gradient: np.ndarray, kept: PackedState, group: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Update the moving averages of the gradient and of its square, and return them."""
    beta1, beta2 = group["betas"]
    kept.put("exp_avg", kept["exp_avg"] + (1 - beta1) * (gradient - kept["exp_avg"]))
    kept.put("exp_avg_sq", kept["exp_avg_sq"] * beta2 + (1 - beta2) * gradient * gradient)
    return kept["exp_avg"], kept["exp_avg_sq"]


class AdamW(Adam):
    """Adam, with weight decay applied to the parameters.

    Source: Loshchilov and Hutter 2017, arXiv:1711.05101, algorithm 2.
    """

    _always: ClassVar[dict[str, Any]] = {"decoupled_weight_decay": True}

    def __init__(
        self, params: Params, lr: float = 1e-3, betas: Betas = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: float = 1e-2, amsgrad: bool = False, *, maximize: bool = False, foreach: bool | None = None,
        capturable: bool = False, differentiable: bool = False, fused: bool | None = None,
    ) -> None:  # fmt: skip
        super().__init__(**hyperparameters(locals()), params=params, decoupled_weight_decay=True)
