"""Convolutions and transposed convolutions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ....autograd.devices import Device
from ....autograd.tensor import Tensor
from ....errors import ArgumentError, ShapeError
from ... import functional as F
from ... import init
from ...functional.spatial.convolution import pads_of
from ...functional.spatial.windows import Sizes, each
from ...module.module import Module
from ...module.parameter import Parameter

if TYPE_CHECKING:
    import numpy.typing as npt


class _Convolution(Module):
    """What convolutions share: their options, and a weight and bias from U(-b, b) with b = 1 / sqrt(fan in)."""

    _function: ClassVar[Callable[..., Tensor]]
    _dims: ClassVar[int]
    _modes: ClassVar[tuple[str, ...]] = ("zeros", "reflect", "replicate", "circular")
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    output_padding: tuple[int, ...]
    padding: Any  # a tuple, or "same" or "valid"
    bias: Parameter | None

    def __init_subclass__(cls, function: Callable[..., Tensor] | None = None) -> None:
        super().__init_subclass__()
        if function is not None:
            cls._function, cls._dims = staticmethod(function), int(function.__name__[-2])
            cls.__doc__ = f"The module of `functional.{function.__name__}`: {function.__doc__}"

    def _set(self, channels: tuple[int, int], is_transposed: bool, groups: int, bias: bool, mode: str, **options: Any):
        """Check and keep the options, and make the parameters."""
        name = type(self).__name__
        (self.in_channels, self.out_channels), self.groups, self.padding_mode = channels, groups, mode
        if groups < 1 or any(size % groups for size in channels):
            raise ArgumentError(f"{name}: groups={groups} must divide the channels, {channels[0]} and {channels[1]}.")
        if mode not in self._modes:
            raise ArgumentError(f"{name}: padding_mode must be {' or '.join(self._modes)}, not {mode!r}.")
        for key, value in options.items():
            least = 0 if "padding" in key else 1
            setattr(self, key, value if isinstance(value, str) else each(name, key, value, self._dims, least))
        rows, columns = channels if is_transposed else channels[::-1]
        self.weight = Parameter(np.empty((rows, columns // groups, *self.kernel_size), np.float32))
        self.register_parameter("bias", Parameter(np.empty(channels[1], np.float32)) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Reinitialize the parameters."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(max(math.prod(self.weight.shape[1:]), 1))
            init.uniform_(self.bias, -bound, bound)

    def extra_repr(self) -> str:
        zeros, ones = (0,) * self._dims, (1,) * self._dims
        neutral = {"padding": zeros, "dilation": ones, "output_padding": zeros, "groups": 1}
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        text += "".join(
            f", {key}={getattr(self, key)}" for key, usual in neutral.items() if getattr(self, key) != usual
        )
        text += "" if self.bias is not None else ", bias=False"
        return text if self.padding_mode == "zeros" else f"{text}, padding_mode={self.padding_mode}"


class _Conv(_Convolution):
    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Sizes, stride: Sizes = 1, padding: Sizes | str = 0,
        dilation: Sizes = 1, groups: int = 1, bias: bool = True, padding_mode: str = "zeros",
        device: Device = None, dtype: npt.DTypeLike | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        sizes = {"kernel_size": kernel_size, "stride": stride, "dilation": dilation}
        self._set(
            (in_channels, out_channels), False, groups, bias, padding_mode, padding=padding, output_padding=0, **sizes
        )
        pads_of(type(self).__name__, padding, self.kernel_size, self.stride, self.dilation)  # raises if it is wrong
        self._placed(device, dtype)

    def forward(self, input: Tensor) -> Tensor:
        padding = self.padding
        if self.padding_mode != "zeros":
            pads = pads_of(type(self).__name__, padding, self.kernel_size, self.stride, self.dilation)
            input, padding = F.pad(input, [size for pair in pads[::-1] for size in pair], self.padding_mode), 0
        return self._function(input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)


class _ConvTranspose(_Convolution):
    _modes = ("zeros",)

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Sizes, stride: Sizes = 1, padding: Sizes = 0,
        output_padding: Sizes = 0, groups: int = 1, bias: bool = True, dilation: Sizes = 1,
        padding_mode: str = "zeros", device: Device = None, dtype: npt.DTypeLike | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        sizes = {"kernel_size": kernel_size, "stride": stride, "dilation": dilation, "padding": padding}
        self._set((in_channels, out_channels), True, groups, bias, padding_mode, output_padding=output_padding, **sizes)
        self._placed(device, dtype)

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        """Return the transposed convolution. output_size: the sizes of the result, which set its output padding."""
        more = self.output_padding
        if output_size is not None:
            counts, wanted = input.shape[-self._dims :], tuple(output_size)[-self._dims :]
            given = zip(counts, self.kernel_size, self.stride, self.padding, self.dilation, strict=True)
            least = [(n - 1) * step - 2 * pad + d * (k - 1) + 1 for n, k, step, pad, d in given]
            more = tuple(size - low for size, low in zip(wanted, least, strict=True))
            if any(not 0 <= extra < step for extra, step in zip(more, self.stride, strict=True)):
                most = [low + step - 1 for low, step in zip(least, self.stride, strict=True)]
                raise ShapeError(f"{type(self).__name__}: output_size {wanted} must be from {least} to {most}.")
        args = (self.stride, self.padding, more, self.groups, self.dilation)
        return self._function(input, self.weight, self.bias, *args)


# fmt: off
class Conv1d(_Conv, function=F.conv1d): ...
class Conv2d(_Conv, function=F.conv2d): ...
class Conv3d(_Conv, function=F.conv3d): ...
class ConvTranspose1d(_ConvTranspose, function=F.conv_transpose1d): ...
class ConvTranspose2d(_ConvTranspose, function=F.conv_transpose2d): ...
class ConvTranspose3d(_ConvTranspose, function=F.conv_transpose3d): ...
# fmt: on
