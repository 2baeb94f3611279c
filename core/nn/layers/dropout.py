"""Dropout."""

from __future__ import annotations

from ...autograd.tensor import Tensor
from .. import functional as F
from ..functional.dropping import require_probability
from ..module.module import Module


class Dropout(Module):
    """Dropout: in training mode, each element is zeroed with probability p, and otherwise divided by 1 - p.

    Raises ArgumentError if p is outside [0, 1].
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        require_probability(p)
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.p, self.training)

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace=False"
