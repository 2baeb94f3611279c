"""Tensors that know how they were computed, and the backward pass, under the names of torch.autograd."""

from contextlib import nullcontext

from .function import Function, grad
from .tape import enable_grad, inference_mode, no_grad, set_grad_enabled
from .tensor import Tensor

__all__ = [
    "Function", "Variable", "detect_anomaly", "enable_grad", "grad", "inference_mode", "no_grad",
    "set_detect_anomaly", "set_grad_enabled",
]  # fmt: skip
Variable = Tensor  # the old name


def set_detect_anomaly(*_: object, **__: object) -> nullcontext[None]:
    """Return a block in which nothing changes: `doctor` finds NaN."""
    return nullcontext()


detect_anomaly = set_detect_anomaly
