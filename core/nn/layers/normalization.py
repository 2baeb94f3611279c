"""Normalization layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ...autograd.devices import Device
from ...autograd.tensor import Tensor
from ...errors import ArgumentError, ShapeError
from .. import functional as F
from .. import init
from ..functional.spatial.windows import NAMES
from ..module.module import Module
from ..module.parameter import Buffer, Parameter

if TYPE_CHECKING:
    import numpy.typing as npt


class _Norm(Module):
    """A module with a weight that starts as ones, and a bias as zeros; each may be None."""

    weight: Parameter | None
    bias: Parameter | None

    def _make(self, shape: tuple[int, ...], has_weight: bool, has_bias: bool) -> None:
        self.register_parameter("weight", Parameter(np.ones(shape, np.float32)) if has_weight else None)
        self.register_parameter("bias", Parameter(np.zeros(shape, np.float32)) if has_weight and has_bias else None)

    def reset_parameters(self) -> None:
        """Reinitialize the parameters."""
        for name, parameter in self.named_parameters():
            init.constant_(parameter, 1.0 if name == "weight" else 0.0)


class LayerNorm(_Norm):
    """Normalization of the last axes together to zero mean and unit variance, with an elementwise scale and shift.

    normalized_shape: the sizes of these axes, or one int.  x: (..., *normalized_shape).  Returns the shape of x.
    weight, bias: normalized_shape, starting as 1 and 0. Both are None with elementwise_affine=False, and bias is None
    with bias=False.  See functional.layer_norm.
    """

    def __init__(
        self, normalized_shape: int | Sequence[int], eps: float = 1e-5, elementwise_affine: bool = True,
        bias: bool = True, device: Device = None, dtype: npt.DTypeLike | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        self.normalized_shape, self.eps, self.elementwise_affine = shape, eps, elementwise_affine
        self._make(shape, elementwise_affine, bias)
        self._placed(device, dtype)

    def forward(self, x: Tensor) -> Tensor:
        axes = len(self.normalized_shape)
        if axes == 0 or x.shape[-axes:] != self.normalized_shape:
            wanted = ", ".join(map(str, self.normalized_shape))
            raise ShapeError(f"LayerNorm({wanted}) needs an input (..., {wanted}), not {x.shape}.")
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        affine = f"elementwise_affine={self.elementwise_affine}, bias={self.bias is not None}"
        return f"{self.normalized_shape}, eps={self.eps}, {affine}"


class RMSNorm(_Norm):
    """The last axes divided by their root mean square, with an elementwise scale; see functional.rms_norm.

    normalized_shape: the sizes of these axes, or one int.  weight: normalized_shape, or None.
    """

    def __init__(
        self, normalized_shape: int | Sequence[int], eps: float | None = None, elementwise_affine: bool = True,
        device: Device = None, dtype: npt.DTypeLike | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        self.normalized_shape, self.eps, self.elementwise_affine = shape, eps, elementwise_affine
        self.register_parameter("weight", Parameter(np.ones(shape, np.float32)) if elementwise_affine else None)
        self._placed(device, dtype)

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


class GroupNorm(_Norm):
    """Normalization of groups of channels in each example, with a scale and shift; see functional.group_norm.

    x: (N, num_channels, *sizes).  weight, bias: (num_channels,), or None with affine=False.
    """

    def __init__(
        self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True,
        device: Device = None, dtype: npt.DTypeLike | None = None, *, bias: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        if num_groups < 1 or num_channels % num_groups:
            raise ArgumentError(f"GroupNorm: {num_channels} channels cannot be split into {num_groups} groups.")
        self.num_groups, self.num_channels, self.eps, self.affine = num_groups, num_channels, eps, affine
        self._make((num_channels,), affine, bias)
        self._placed(device, dtype)

    def forward(self, x: Tensor) -> Tensor:
        return F.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        affine = f"affine={self.affine}, bias={self.bias is not None}"
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}, {affine}"


class ChannelNorm(_Norm):
    """What batch and instance norm share: a scale and shift of each channel, and running statistics."""

    _dims: ClassVar[int]  # the number of axes after the channels
    running_mean: Buffer | None
    running_var: Buffer | None
    num_batches_tracked: Buffer | None
    # Early versions of torch did not save it, and torch still loads their files.
    _may_be_absent: ClassVar[frozenset[str]] = frozenset({"num_batches_tracked"})

    def __init_subclass__(cls, dims: int = 0) -> None:
        super().__init_subclass__()
        if dims:
            cls._dims, cls.__doc__ = dims, cls.__doc__ or cls.__base__.__doc__  # pyright: ignore[reportOptionalMemberAccess]

    def __init__(
        self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True,
        track_running_stats: bool = True, device: Device = None, dtype: npt.DTypeLike | None = None, *,
        bias: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        self._make((num_features,), affine, bias)
        tracked = track_running_stats
        self.register_buffer("running_mean", np.zeros(num_features, np.float32) if tracked else None)
        self.register_buffer("running_var", np.ones(num_features, np.float32) if tracked else None)
        self.register_buffer("num_batches_tracked", np.zeros((), np.int64) if tracked else None)
        self._placed(device, dtype)

    def reset_running_stats(self) -> None:
        """Forget the running statistics."""
        for name, buffer in self.named_buffers():
            init.constant_(buffer, 1.0 if name == "running_var" else 0.0)

    def reset_parameters(self) -> None:
        """Reinitialize the parameters, and forget the running statistics."""
        self.reset_running_stats()
        super().reset_parameters()

    def _require_fit(self, x: Tensor, shapes: tuple[str, ...], axis: int) -> None:
        if x.ndim not in {shape.count(",") + 1 for shape in shapes} or x.shape[axis] != self.num_features:
            wanted = " or ".join(shapes).replace("C", str(self.num_features))
            raise ShapeError(f"{type(self).__name__}({self.num_features}) needs {wanted}, not {x.shape}.")

    def extra_repr(self) -> str:
        affine = f"affine={self.affine}, bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        return f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, {affine}"


class _BatchNorm(ChannelNorm):
    """Normalization of each channel to zero mean and unit variance, with a scale and shift; see functional.batch_norm.

    x: (N, C, *sizes).  weight, bias: (C,), or None with affine=False.
    In training mode the statistics are those of the batch, and the buffers running_mean, running_var (C,) and
    num_batches_tracked (int64) follow them. In evaluation mode the running statistics are used. With
    track_running_stats=False these buffers are None, and the statistics are always those of the batch.
    momentum: the weight of a new batch, or None for the mean of all batches.
    Raises ShapeError if x has another number of axes or channels, or if a training batch has one value per channel.
    """

    def forward(self, x: Tensor) -> Tensor:
        sizes = NAMES[self._dims]
        self._require_fit(x, ("(N, C)", "(N, C, L)") if self._dims == 1 else (f"(N, C, {sizes})",), 1)
        by_batch = self.training or self.running_mean is None
        momentum = 0.0 if self.momentum is None else self.momentum
        # `track_running_stats` may be set at any time: training then leaves the statistics alone.
        counted = self.num_batches_tracked if self.training and self.track_running_stats else None
        if counted is not None and self.momentum is None:
            momentum = 1 / (int(counted._data) + 1)
        kept = self.track_running_stats or not self.training
        mean, var = (self.running_mean, self.running_var) if kept else (None, None)
        out = F.batch_norm(x, mean, var, self.weight, self.bias, by_batch, momentum, self.eps)
        # Last, because a batch that raised an error does not count.
        if counted is not None:
            counted._data[...] += 1
        return out


class _InstanceNorm(ChannelNorm):
    """Normalization of each channel of each example, (N, C, *sizes) or (C, *sizes); see functional.instance_norm."""

    def __init__(
        self, num_features: int, eps: float = 1e-5, momentum: float = 0.1, affine: bool = False,
        track_running_stats: bool = False, device: Device = None, dtype: npt.DTypeLike | None = None, *,
        bias: bool = True,
    ) -> None:  # fmt: skip
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        is_batch = x.ndim == self._dims + 2
        sizes = NAMES[self._dims]
        self._require_fit(x, (f"(C, {sizes})", f"(N, C, {sizes})"), 1 if is_batch else 0)
        by_input, momentum = self.training or not self.track_running_stats, self.momentum or 0.0
        running, affine = (self.running_mean, self.running_var), (self.weight, self.bias)
        out = F.instance_norm(x if is_batch else x.unsqueeze(0), *running, *affine, by_input, momentum, self.eps)
        return out if is_batch else out.squeeze(0)


# fmt: off
class BatchNorm1d(_BatchNorm, dims=1): ...
class BatchNorm2d(_BatchNorm, dims=2): ...
class BatchNorm3d(_BatchNorm, dims=3): ...
class InstanceNorm1d(_InstanceNorm, dims=1): ...
class InstanceNorm2d(_InstanceNorm, dims=2): ...
class InstanceNorm3d(_InstanceNorm, dims=3): ...
# fmt: on
