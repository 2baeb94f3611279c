"""Linear, Bilinear and Identity."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ...autograd.devices import Device
from ...autograd.tensor import Tensor
from ...errors import ArgumentError
from .. import functional as F
from .. import init
from ..module.module import Module
from ..module.parameter import Parameter

if TYPE_CHECKING:
    import numpy.typing as npt


class Linear(Module):
    """The affine map x @ weight.T + bias.

    x: (..., in_features).  Returns (..., out_features).  weight: (out_features, in_features).  bias: (out_features,),
    or None with bias=False.  Both start from U(-b, b) with b = 1 / sqrt(in_features).
    """

    bias: Parameter | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: Device = None,
        dtype: npt.DTypeLike | None = None,
    ) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.weight = Parameter(np.empty((out_features, in_features), np.float32))
        self.register_parameter("bias", Parameter(np.empty(out_features, np.float32)) if bias else None)
        self.reset_parameters()
        self._placed(device, dtype)

    def reset_parameters(self) -> None:
        """Reinitialize the parameters."""
        # He's bound with a slope of sqrt(5) is 1 / sqrt(in_features), which torch uses for weight and bias alike.
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(self.in_features) if self.in_features else 0.0
            init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class Bilinear(Module):
    """The bilinear map x1^T W_o x2 + b_o for each output feature o. See functional.bilinear.

    weight: (out_features, in1_features, in2_features).  Both start from U(-b, b) with b = 1 / sqrt(in1_features).
    """

    bias: Parameter | None

    def __init__(
        self,
        in1_features: int,
        in2_features: int,
        out_features: int,
        bias: bool = True,
        device: Device = None,
        dtype: npt.DTypeLike | None = None,
    ) -> None:
        super().__init__()
        if in1_features < 1:
            raise ArgumentError(f"Bilinear needs in1_features above 0, not {in1_features}.")
        self.in1_features, self.in2_features, self.out_features = in1_features, in2_features, out_features
        self.weight = Parameter(np.empty((out_features, in1_features, in2_features), np.float32))
        self.register_parameter("bias", Parameter(np.empty(out_features, np.float32)) if bias else None)
        self.reset_parameters()
        self._placed(device, dtype)

    def reset_parameters(self) -> None:
        """Reinitialize the parameters."""
        bound = 1 / math.sqrt(self.in1_features)
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)

    def forward(self, input1: Tensor, input2: Tensor) -> Tensor:
        return F.bilinear(input1, input2, self.weight, self.bias)

    def extra_repr(self) -> str:
        sizes = ", ".join(f"{name}={getattr(self, name)}" for name in ("in1_features", "in2_features", "out_features"))
        return f"{sizes}, bias={self.bias is not None}"


class Identity(Module):
    """The input itself. The arguments are ignored, so that it can take the place of any layer."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x
