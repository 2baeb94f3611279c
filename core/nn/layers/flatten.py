"""Flatten."""

from __future__ import annotations

from ...autograd.tensor import Tensor
from ..module.module import Module


class Flatten(Module):
    """The input with the axes from start_dim to end_dim merged into one: (N, 28, 28) -> (N, 784)."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"
