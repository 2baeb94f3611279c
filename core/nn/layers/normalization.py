"""LayerNorm and BatchNorm1d."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ...autograd.devices import Device
from ...autograd.tensor import Tensor
from ...errors import ShapeError
from .. import functional as F
from ..module.module import Module
from ..module.parameter import Buffer, Parameter

if TYPE_CHECKING:
    import numpy.typing as npt


class LayerNorm(Module):
    """Normalization of the last axes together to zero mean and unit variance, with an elementwise scale and shift.

    normalized_shape: the sizes of these axes, or one int.  x: (..., *normalized_shape).  Returns the shape of x.
    weight, bias: normalized_shape, starting as 1 and 0. Both are None with elementwise_affine=False, and bias is None
    with bias=False.  See functional.layer_norm.
    """

    weight: Parameter | None
    bias: Parameter | None

    def __init__(
        self,
        normalized_shape: int | tuple[int, ...],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: Device = None,
        dtype: npt.DTypeLike | None = None,
    ) -> None:
        super().__init__()
        shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        self.normalized_shape, self.eps, self.elementwise_affine = shape, eps, elementwise_affine
        self.register_parameter("weight", Parameter(np.ones(shape, np.float32)) if elementwise_affine else None)
        self.register_parameter("bias", Parameter(np.zeros(shape, np.float32)) if elementwise_affine and bias else None)
        self._placed(device, dtype)

    def forward(self, x: Tensor) -> Tensor:
        axes = len(self.normalized_shape)
        if axes == 0 or x.shape[-axes:] != self.normalized_shape:
            wanted = ", ".join(map(str, self.normalized_shape))
            raise ShapeError(f"LayerNorm({wanted}) needs an input (..., {wanted}), not {x.shape}.")
        if axes == 1:
            return F.layer_norm(x, self.weight, self.bias, self.eps)
        weight, bias = (None if p is None else p.flatten() for p in (self.weight, self.bias))
        return F.layer_norm(x.flatten(-axes), weight, bias, self.eps).reshape(x.shape)

    def extra_repr(self) -> str:
        affine = f"elementwise_affine={self.elementwise_affine}, bias={self.bias is not None}"
        return f"{self.normalized_shape}, eps={self.eps}, {affine}"


class BatchNorm1d(Module):
    """Normalization of each channel to zero mean and unit variance, with a scale and shift; see functional.batch_norm.

    x: (N, C) or (N, C, L).  weight, bias: (C,), or None with affine=False.
    In training mode the statistics are those of the batch, and the buffers running_mean, running_var (C,) and
    num_batches_tracked (int64) follow them. In evaluation mode the running statistics are used. With
    track_running_stats=False these buffers are None, and the statistics are always those of the batch.
    momentum: the weight of a new batch, or None for the mean of all batches.
    Raises ShapeError if x has another number of channels, or if a training batch has one value per channel.
    """

    weight: Parameter | None
    bias: Parameter | None
    running_mean: Buffer | None
    running_var: Buffer | None
    num_batches_tracked: Buffer | None
    # Early versions of torch did not save it, and torch still loads their files.
    _may_be_absent: ClassVar[frozenset[str]] = frozenset({"num_batches_tracked"})

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Device = None,
        dtype: npt.DTypeLike | None = None,
    ) -> None:
        super().__init__()
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        self.register_parameter("weight", Parameter(np.ones(num_features, np.float32)) if affine else None)
        self.register_parameter("bias", Parameter(np.zeros(num_features, np.float32)) if affine else None)
        tracked = track_running_stats
        self.register_buffer("running_mean", np.zeros(num_features, np.float32) if tracked else None)
        self.register_buffer("running_var", np.ones(num_features, np.float32) if tracked else None)
        self.register_buffer("num_batches_tracked", np.zeros((), np.int64) if tracked else None)
        self._placed(device, dtype)

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim < 2 or x.shape[1] != self.num_features:
            raise ShapeError(
                f"BatchNorm1d({self.num_features}) needs (N, {self.num_features}) or "
                f"(N, {self.num_features}, L), not {x.shape}."
            )
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

    def extra_repr(self) -> str:
        affine = f"affine={self.affine}, bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        return f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, {affine}"
