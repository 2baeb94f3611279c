"""Elements moved between axes, channels, windows and pixels."""

from __future__ import annotations

from collections.abc import Sequence

from ....autograd.tensor import Tensor
from ....errors import ArgumentError, ShapeError
from ... import functional as F
from ...functional.spatial.windows import Sizes
from .of_function import OfFunction


class Flatten(OfFunction):
    """The input with the axes from start_dim to end_dim merged into one: (N, 28, 28) -> (N, 784)."""

    _function, _shown = staticmethod(Tensor.flatten), ("start_dim", "end_dim")

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        self._set(start_dim=start_dim, end_dim=end_dim)


class Unflatten(OfFunction):
    """The input with the axis dim split into several, of which one size may be -1: (N, 784) -> (N, 28, 28)."""

    _shown = ("dim", "unflattened_size")

    def __init__(self, dim: int, unflattened_size: Sequence[int]) -> None:
        if isinstance(dim, str) or not all(isinstance(size, int) for size in unflattened_size):
            raise ArgumentError(
                f"Unflatten: axes have no names here. Give dim and sizes as ints, not {dim!r} and {unflattened_size!r}."
            )
        self._set(dim=dim, unflattened_size=tuple(unflattened_size))

    def forward(self, input: Tensor) -> Tensor:
        if not -input.ndim <= self.dim < input.ndim:
            raise ShapeError(f"Unflatten: there is no dim {self.dim} in a tensor of shape {input.shape}.")
        at = self.dim % input.ndim
        return input.reshape(*input.shape[:at], *self.unflattened_size, *input.shape[at + 1 :])


class PixelShuffle(OfFunction):
    """Channels as the pixels of larger images: (..., C r r, H, W) -> (..., C, H r, W r)."""

    _function, _shown = staticmethod(F.pixel_shuffle), ("upscale_factor",)

    def __init__(self, upscale_factor: int) -> None:
        self._set(upscale_factor=upscale_factor)


class PixelUnshuffle(OfFunction):
    """Pixels as the channels of smaller images: (..., C, H r, W r) -> (..., C r r, H, W)."""

    _function, _shown = staticmethod(F.pixel_unshuffle), ("downscale_factor",)

    def __init__(self, downscale_factor: int) -> None:
        self._set(downscale_factor=downscale_factor)


class Unfold(OfFunction):
    """The windows of images as columns; see functional.unfold."""

    _function, _shown = staticmethod(F.unfold), ("kernel_size", "dilation", "padding", "stride")

    def __init__(self, kernel_size: Sizes, dilation: Sizes = 1, padding: Sizes = 0, stride: Sizes = 1) -> None:
        self._set(kernel_size=kernel_size, dilation=dilation, padding=padding, stride=stride)


class Fold(OfFunction):
    """Columns summed into images; see functional.fold."""

    _function, _shown = staticmethod(F.fold), ("output_size", "kernel_size", "dilation", "padding", "stride")

    def __init__(
        self, output_size: Sizes, kernel_size: Sizes, dilation: Sizes = 1, padding: Sizes = 0, stride: Sizes = 1
    ) -> None:
        where = {"kernel_size": kernel_size, "dilation": dilation, "padding": padding, "stride": stride}
        self._set(output_size=output_size, **where)
