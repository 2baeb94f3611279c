"""Tensors that know how they were computed, and the backward pass, under the names of torch.autograd."""

from .function import Function
from .tape import enable_grad, inference_mode, no_grad, set_grad_enabled
from .tensor import Tensor

__all__ = ["Function", "Variable", "enable_grad", "inference_mode", "no_grad", "set_detect_anomaly", "set_grad_enabled"]

Variable = Tensor  # the old name


class set_detect_anomaly:
    """A call or context that torch uses to look for NaN in gradients. It does nothing here: see `doctor`."""

    def __init__(self, mode: bool = True, check_nan: bool = True) -> None:
        pass

    def __enter__(self) -> None:
        """Begin a block. Nothing changes in it."""

    def __exit__(self, *exception: object) -> None:
        pass


detect_anomaly = set_detect_anomaly
