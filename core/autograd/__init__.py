"""Tensors that know how they were computed, and the backward pass, under the names of torch.autograd."""

from contextlib import nullcontext
from typing import Any

from .function import Function, grad
from .tape import enable_grad, inference_mode, no_grad, set_grad_enabled
from .tensor import Tensor

__all__ = [
    "Function", "Variable", "backward", "detect_anomaly", "enable_grad", "grad", "inference_mode", "no_grad",
    "set_detect_anomaly", "set_grad_enabled",
]  # fmt: skip
Variable = Tensor  # the old name


def set_detect_anomaly(*_: object, **__: object) -> nullcontext[None]:
    """Return a block in which nothing changes: `doctor` finds NaN."""
    return nullcontext()


def backward(tensors: Any, grad_tensors: Any = None, retain_graph: bool = False) -> None:
    """Call `backward` of a tensor, or of several that share no operation."""
    tensors, grads = ((x,) if isinstance(x, Tensor) else x for x in (tensors, grad_tensors))
    for tensor, gradient in zip(tensors, grads or [None] * len(tensors), strict=True):
        tensor.backward(gradient, retain_graph=retain_graph)


detect_anomaly = set_detect_anomaly
