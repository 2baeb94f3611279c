"""Padding and resizing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from ....autograd.tensor import Number
from ... import functional as F
from ...functional.spatial.windows import Sizes, each
from .of_function import OfFunction


class _Pad(OfFunction):
    _function, _shown = staticmethod(F.pad), ()
    _dims: ClassVar[int]
    _mode: ClassVar[str]

    def __init__(self, padding: Sizes) -> None:
        self._set(pad=each(type(self).__name__, "padding", padding, 2 * self._dims, -(2**63)), mode=self._mode)

    @property
    def padding(self) -> tuple[int, ...]:
        """The (before, after) of the last axis, then of the one before it."""
        return self.pad

    def extra_repr(self) -> str:
        return f"{self.pad}"


class _ConstantPad(_Pad):
    _mode = "constant"

    def __init__(self, padding: Sizes, value: Number) -> None:
        super().__init__(padding)
        self._set(pad=self.pad, mode="constant", value=value)

    def extra_repr(self) -> str:
        return f"padding={self.pad}, value={self.value}"


class Upsample(OfFunction):
    """Signals or images resized to size or by scale_factor; see functional.interpolate."""

    _function = staticmethod(F.interpolate)

    def __init__(
        self, size: Sizes | None = None, scale_factor: float | Sequence[float] | None = None, mode: str = "nearest",
        align_corners: bool | None = None, recompute_scale_factor: bool | None = None,
    ) -> None:  # fmt: skip
        factor = (
            tuple(map(float, scale_factor))
            if isinstance(scale_factor, Sequence)
            else scale_factor and float(scale_factor)
        )
        options = {"align_corners": align_corners, "recompute_scale_factor": recompute_scale_factor}
        self._set(size=size, scale_factor=factor, mode=mode, **options)

    def extra_repr(self) -> str:
        given = f"size={self.size}" if self.scale_factor is None else f"scale_factor={self.scale_factor}"
        return f"{given}, mode={self.mode!r}"


class UpsamplingNearest2d(Upsample):
    """Images resized by repeating pixels."""

    def __init__(self, size: Sizes | None = None, scale_factor: float | None = None) -> None:
        super().__init__(size, scale_factor, mode="nearest")


class UpsamplingBilinear2d(Upsample):
    """Images resized by interpolation between pixels, with the corners in place."""

    def __init__(self, size: Sizes | None = None, scale_factor: float | None = None) -> None:
        super().__init__(size, scale_factor, mode="bilinear", align_corners=True)


class ZeroPad1d(_Pad):
    """Zeros around one axis; see functional.pad.  padding: an int, or (before, after)."""

    _dims, _mode = 1, "constant"


class ZeroPad2d(_Pad):
    """Zeros around images; see functional.pad.  padding: an int, or (left, right, top, bottom)."""

    _dims, _mode = 2, "constant"


class ConstantPad1d(_ConstantPad):
    """A value around one axis; see functional.pad."""

    _dims = 1


class ConstantPad2d(_ConstantPad):
    """A value around images; see functional.pad."""

    _dims = 2


class ReflectionPad1d(_Pad):
    """The mirror image around one axis, without the edge; see functional.pad."""

    _dims, _mode = 1, "reflect"


class ReflectionPad2d(_Pad):
    """The mirror image around images, without the edge; see functional.pad."""

    _dims, _mode = 2, "reflect"


class ReplicationPad1d(_Pad):
    """The edge repeated around one axis; see functional.pad."""

    _dims, _mode = 1, "replicate"


class ReplicationPad2d(_Pad):
    """The edge repeated around images; see functional.pad."""

    _dims, _mode = 2, "replicate"


class CircularPad1d(_Pad):
    """The other end around one axis; see functional.pad."""

    _dims, _mode = 1, "circular"


class CircularPad2d(_Pad):
    """The other side around images; see functional.pad."""

    _dims, _mode = 2, "circular"
