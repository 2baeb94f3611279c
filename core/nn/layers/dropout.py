"""Dropout, of elements and of channels."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from ...autograd.tensor import Tensor
from .. import functional as F
from ..functional.dropping import require_probability
from ..module.module import Module


class Dropout(Module):
    """Dropout: in training mode, each element is zeroed with probability p, and otherwise divided by 1 - p.

    inplace: accepted for torch's sake; the result is a new tensor.  Raises ArgumentError if p is outside [0, 1].
    """

    _function: ClassVar[Callable[..., Tensor]] = staticmethod(F.dropout)

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        require_probability(p)
        self.p, self.inplace = p, inplace

    def forward(self, x: Tensor) -> Tensor:
        return self._function(x, self.p, self.training)

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"


class Dropout1d(Dropout):
    """Dropout of whole channels of signals (N, C, L) or (C, L); see `Dropout`."""

    _function = staticmethod(F.dropout1d)


class Dropout2d(Dropout):
    """Dropout of whole channels of images (N, C, H, W) or (C, H, W); see `Dropout`."""

    _function = staticmethod(F.dropout2d)


class Dropout3d(Dropout):
    """Dropout of whole channels of volumes (N, C, D, H, W) or (C, D, H, W); see `Dropout`."""

    _function = staticmethod(F.dropout3d)
