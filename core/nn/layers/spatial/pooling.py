"""Pooling layers."""

from __future__ import annotations

from typing import Any

from ... import functional as F
from ...functional.spatial.windows import Sizes
from .of_function import OfFunction


class _MaxPool(OfFunction):
    _shown = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")

    def __init__(
        self, kernel_size: Sizes, stride: Sizes | None = None, padding: Sizes = 0, dilation: Sizes = 1,
        return_indices: bool = False, ceil_mode: bool = False,
    ) -> None:  # fmt: skip
        stride = kernel_size if stride is None else stride
        where = {"kernel_size": kernel_size, "stride": stride, "padding": padding, "dilation": dilation}
        self._set(**where, return_indices=return_indices, ceil_mode=ceil_mode)


class MaxPool1d(_MaxPool):
    """The largest value of each window along one axis; see functional.max_pool1d."""

    _function = staticmethod(F.max_pool1d)


class MaxPool2d(_MaxPool):
    """The largest value of each window; see functional.max_pool2d."""

    _function = staticmethod(F.max_pool2d)


class MaxPool3d(_MaxPool):
    """The largest value of each window along three axes; see functional.max_pool3d."""

    _function = staticmethod(F.max_pool3d)


class AvgPool1d(OfFunction):
    """The mean of each window along one axis; see functional.avg_pool1d."""

    _function = staticmethod(F.avg_pool1d)
    _shown = ("kernel_size", "stride", "padding")

    def __init__(
        self, kernel_size: Sizes, stride: Sizes | None = None, padding: Sizes = 0,
        ceil_mode: bool = False, count_include_pad: bool = True,
    ) -> None:  # fmt: skip
        size, step, pad = (
            (one,) if isinstance(one, int) else one
            for one in (kernel_size, kernel_size if stride is None else stride, padding)
        )
        self._set(kernel_size=size, stride=step, padding=pad, ceil_mode=ceil_mode, count_include_pad=count_include_pad)


class AvgPool2d(OfFunction):
    """The mean of each window; see functional.avg_pool2d."""

    _function = staticmethod(F.avg_pool2d)
    _shown = ("kernel_size", "stride", "padding")

    def __init__(
        self, kernel_size: Sizes, stride: Sizes | None = None, padding: Sizes = 0, ceil_mode: bool = False,
        count_include_pad: bool = True, divisor_override: int | None = None,
    ) -> None:  # fmt: skip
        where = {"kernel_size": kernel_size, "stride": kernel_size if stride is None else stride, "padding": padding}
        counted = {"count_include_pad": count_include_pad, "divisor_override": divisor_override}
        self._set(**where, ceil_mode=ceil_mode, **counted)


class _AdaptiveAvgPool(OfFunction):
    _shown = ("output_size",)

    def __init__(self, output_size: Any) -> None:
        self._set(output_size=output_size)


class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    """The mean of output_size windows that cover one axis; see functional.adaptive_avg_pool1d."""

    _function = staticmethod(F.adaptive_avg_pool1d)


class AdaptiveAvgPool2d(_AdaptiveAvgPool):
    """The mean of output_size windows that cover an image; see functional.adaptive_avg_pool2d."""

    _function = staticmethod(F.adaptive_avg_pool2d)


class _AdaptiveMaxPool(OfFunction):
    _shown = ("output_size",)

    def __init__(self, output_size: Any, return_indices: bool = False) -> None:
        self._set(output_size=output_size, return_indices=return_indices)


class AdaptiveMaxPool1d(_AdaptiveMaxPool):
    """The largest value of output_size windows that cover one axis; see functional.adaptive_max_pool1d."""

    _function = staticmethod(F.adaptive_max_pool1d)


class AdaptiveMaxPool2d(_AdaptiveMaxPool):
    """The largest value of output_size windows that cover an image; see functional.adaptive_max_pool2d."""

    _function = staticmethod(F.adaptive_max_pool2d)
