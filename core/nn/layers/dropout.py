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

    Raises ArgumentError if p is outside [0, 1].
    """

    _function: ClassVar[Callable[..., Tensor]] = staticmethod(F.dropout)

    def __init_subclass__(cls, function: Callable[..., Tensor] | None = None) -> None:
        super().__init_subclass__()
        if function is not None:
            cls._function, cls.__doc__ = staticmethod(function), function.__doc__

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        require_probability(p)
        self.p, self.inplace = p, inplace

    def forward(self, x: Tensor) -> Tensor:
        return self._function(x, self.p, self.training, self.inplace)

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"


# fmt: off
class Dropout1d(Dropout, function=F.dropout1d): ...
class Dropout2d(Dropout, function=F.dropout2d): ...
class Dropout3d(Dropout, function=F.dropout3d): ...
# fmt: on
