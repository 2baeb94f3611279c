"""Pooling, and elements moved between axes, channels, windows and pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ....autograd.shaping import unflatten
from ....autograd.tensor import Tensor
from ... import functional as F
from ...declared import FunctionModule, module_of
from ...module.module import Module


class _Pool(FunctionModule):
    """A pooling, whose stride is the size of its window by default."""

    kernel_size: Any
    stride: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.stride = self.kernel_size if self.stride is None else self.stride

    def extra_repr(self) -> str:
        names = [name for name in self._names if name in ("kernel_size", "stride", "padding", "dilation")]
        values = {name: getattr(self, name) for name in [*names, *(["ceil_mode"] if "dilation" in names else [])]}
        if type(self)._function.__name__ == "avg_pool1d":  # as in torch
            values = {name: (value,) if isinstance(value, int) else value for name, value in values.items()}
        return ", ".join(f"{name}={value}" for name, value in values.items())


class _MaxPool(_Pool):
    """A pooling of the largest values. Unlike its function, it takes return_indices before ceil_mode."""

    def __init_subclass__(cls) -> None:
        if hasattr(cls, "_options"):
            *first, ceil_mode, return_indices = cls._options.parameters.values()
            cls._options = cls._options.replace(parameters=[*first, return_indices, ceil_mode])
        super().__init_subclass__()


class _AdaptiveMaxPool(FunctionModule):
    """A pooling that shows only the sizes of its result, as in torch."""

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


# fmt: off
class MaxPool1d(_MaxPool, module_of(F.max_pool1d)): ...
class MaxPool2d(_MaxPool, module_of(F.max_pool2d)): ...
class MaxPool3d(_MaxPool, module_of(F.max_pool3d)): ...
class AvgPool1d(_Pool, module_of(F.avg_pool1d)): ...
class AvgPool2d(_Pool, module_of(F.avg_pool2d)): ...
class AvgPool3d(_Pool, module_of(F.avg_pool3d)): ...
class AdaptiveAvgPool1d(module_of(F.adaptive_avg_pool1d)): ...
class AdaptiveAvgPool2d(module_of(F.adaptive_avg_pool2d)): ...
class AdaptiveAvgPool3d(module_of(F.adaptive_avg_pool3d)): ...
class AdaptiveMaxPool1d(_AdaptiveMaxPool, module_of(F.adaptive_max_pool1d)): ...
class AdaptiveMaxPool2d(_AdaptiveMaxPool, module_of(F.adaptive_max_pool2d)): ...
class AdaptiveMaxPool3d(_AdaptiveMaxPool, module_of(F.adaptive_max_pool3d)): ...
class PixelShuffle(module_of(F.pixel_shuffle)): ...
class PixelUnshuffle(module_of(F.pixel_unshuffle)): ...
class Unfold(module_of(F.unfold)): ...
class Fold(module_of(F.fold)): ...
# fmt: on


class Flatten(Module):
    """The input with the axes from start_dim to end_dim merged into one: (N, 28, 28) -> (N, 784)."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, input: Tensor) -> Tensor:
        return input.flatten(self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Unflatten(Module):
    """The input with the axis dim split into several, of which one size may be -1: (N, 784) -> (N, 28, 28)."""

    def __init__(self, dim: int, unflattened_size: Sequence[int]) -> None:
        super().__init__()
        self.dim, self.unflattened_size = dim, tuple(unflattened_size)

    def forward(self, input: Tensor) -> Tensor:
        return unflatten(input, self.dim, self.unflattened_size)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"
