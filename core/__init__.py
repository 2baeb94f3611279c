"""Neural networks in NumPy, under PyTorch's names.

Read the folders in this order: autograd (how gradients are computed), nn/functional (each function next to its
gradient), nn/module (how state is registered, found and loaded), nn/layers (the building blocks), nn/init, optim (how
parameters are trained) and inspection (how to look inside).
"""

import sys
from typing import Any

from . import nn, optim
from .autograd.devices import device
from .autograd.dtypes import NAMED, get_default_dtype, set_default_dtype
from .autograd.dtypes import bfloat16 as _bfloat16
from .autograd.operations import where
from .autograd.shaping import cat, stack
from .autograd.tensor import Tensor, is_grad_enabled, no_grad, tensor
from .errors import (
    ArgumentError,
    GraphError,
    ModuleError,
    OptimizerError,
    RegistrationError,
    ShapeError,
    StateDictError,
)
from .inspection.capture import capture
from .inspection.doctor import doctor
from .nn import *  # noqa: F403 (so that `from statezoo import core as nn` has it all)
from .nn import functional
from .random import default_generator, get_rng_state, manual_seed, randn, set_rng_state

__all__ = [
    "ArgumentError",
    "GraphError",
    "ModuleError",
    "OptimizerError",
    "RegistrationError",
    "ShapeError",
    "StateDictError",
    "Tensor",
    "capture",
    "cat",
    "default_generator",
    "device",
    "doctor",
    "get_default_dtype",
    "get_rng_state",
    "is_grad_enabled",
    "manual_seed",
    "nn",
    "no_grad",
    "optim",
    "randn",
    "set_default_dtype",
    "set_rng_state",
    "stack",
    "tensor",
    "where",
]
__all__ += nn.__all__

# float32, long, bool and the others, as `torch.float32`.
globals().update(NAMED)


def __getattr__(name: str) -> Any:
    """Return what is imported only when it is asked for."""
    if name == "bfloat16":
        return _bfloat16()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}.")


# `import statezoo.core.functional as F` works, as torch users write it; the module itself is core/nn/functional.
sys.modules[f"{__name__}.functional"] = functional
