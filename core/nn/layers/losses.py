"""The losses as modules: each takes (input, target) and returns the result of its function in functional."""

from __future__ import annotations

from typing import Any, Literal

from ...autograd.tensor import Tensor
from .. import functional as F
from ..module.module import Module
from ..module.parameter import Buffer

Reduction = Literal["mean", "sum", "none"]


class MSELoss(Module):
    """The mean of (input - target) ** 2, or another reduction; see functional.mse_loss."""

    def __init__(self, reduction: Reduction = "mean") -> None:
        super().__init__()
        self.reduction: Reduction = reduction

    def forward(self, input: Tensor, target: Any) -> Tensor:
        return F.mse_loss(input, target, self.reduction)


class CrossEntropyLoss(Module):
    """The cross entropy of the softmax of input with target; see functional.cross_entropy.

    weight: (C,) a factor for each class, kept as a buffer.
    """

    weight: Buffer | None

    def __init__(
        self,
        weight: Any = None,
        ignore_index: int = -100,
        reduction: Reduction = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.ignore_index, self.label_smoothing = ignore_index, label_smoothing
        self.reduction: Reduction = reduction

    def forward(self, input: Tensor, target: Any) -> Tensor:
        return F.cross_entropy(input, target, self.weight, self.ignore_index, self.reduction, self.label_smoothing)


class BCEWithLogitsLoss(Module):
    """The binary cross entropy of sigmoid(input) with target; see functional.binary_cross_entropy_with_logits.

    weight, pos_weight: factors that broadcast to the input, kept as buffers.
    """

    weight: Buffer | None
    pos_weight: Buffer | None

    def __init__(self, weight: Any = None, reduction: Reduction = "mean", pos_weight: Any = None) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("pos_weight", pos_weight)
        self.reduction: Reduction = reduction

    def forward(self, input: Tensor, target: Any) -> Tensor:
        return F.binary_cross_entropy_with_logits(input, target, self.weight, self.reduction, self.pos_weight)
