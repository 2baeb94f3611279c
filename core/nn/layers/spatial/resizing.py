"""Padding and resizing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from ....autograd.tensor import Number, Tensor
from ... import functional as F
from ...functional.spatial.windows import Sizes, each
from ...module.module import Module


class _Pad(Module):
    _dims: ClassVar[int]
    _mode: ClassVar[str]

    def __init_subclass__(cls, dims: int, mode: str) -> None:
        super().__init_subclass__()
        cls._dims, cls._mode = dims, mode
        cls.__doc__ = f"Padding of the last {dims} axes; see functional.pad with mode {mode!r}."

    def __init__(self, padding: Sizes) -> None:
        super().__init__()
        self.padding = each(type(self).__name__, "padding", padding, 2 * self._dims, least=None)

    def forward(self, input: Tensor) -> Tensor:
        return F.pad(input, self.padding, self._mode)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class _ConstantPad(_Pad, dims=0, mode="constant"):
    def __init__(self, padding: Sizes, value: Number) -> None:
        super().__init__(padding)
        self.value = value

    def forward(self, input: Tensor) -> Tensor:
        return F.pad(input, self.padding, self._mode, self.value)

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}"


# fmt: off
class ZeroPad1d(_Pad, dims=1, mode="constant"): ...
class ZeroPad2d(_Pad, dims=2, mode="constant"): ...
class ConstantPad1d(_ConstantPad, dims=1, mode="constant"): ...
class ConstantPad2d(_ConstantPad, dims=2, mode="constant"): ...
class ReflectionPad1d(_Pad, dims=1, mode="reflect"): ...
class ReflectionPad2d(_Pad, dims=2, mode="reflect"): ...
class ReplicationPad1d(_Pad, dims=1, mode="replicate"): ...
class ReplicationPad2d(_Pad, dims=2, mode="replicate"): ...
class CircularPad1d(_Pad, dims=1, mode="circular"): ...
class CircularPad2d(_Pad, dims=2, mode="circular"): ...
# fmt: on


class Upsample(Module):
    """Signals or images resized to size or by scale_factor; see functional.interpolate."""

    def __init__(
        self, size: Sizes | None = None, scale_factor: float | Sequence[float] | None = None, mode: str = "nearest",
        align_corners: bool | None = None, recompute_scale_factor: bool | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.size, self.mode, self.align_corners = size, mode, align_corners
        several = isinstance(scale_factor, Sequence)
        self.scale_factor = tuple(map(float, scale_factor)) if several else scale_factor and float(scale_factor)
        self.recompute_scale_factor = recompute_scale_factor

    def forward(self, input: Tensor) -> Tensor:
        resized = (self.size, self.scale_factor, self.mode, self.align_corners, self.recompute_scale_factor)
        return F.interpolate(input, *resized)

    def extra_repr(self) -> str:
        given = f"size={self.size}" if self.scale_factor is None else f"scale_factor={self.scale_factor}"
        return f"{given}, mode={self.mode!r}"


class UpsamplingNearest2d(Upsample):
    """Images resized by repeating pixels."""

    def __init__(self, size: Sizes | None = None, scale_factor: float | None = None) -> None:
        super().__init__(size, scale_factor)


class UpsamplingBilinear2d(Upsample):
    """Images resized by interpolation between pixels, with the corners in place."""

    def __init__(self, size: Sizes | None = None, scale_factor: float | None = None) -> None:
        super().__init__(size, scale_factor, "bilinear", True)
