"""Neural networks in NumPy, under PyTorch's names.

Read the folders in this order: autograd (how gradients are computed), nn/functional (each function beside its
gradient), nn/module (how state is registered, found and loaded), nn/layers (the building blocks), nn/init, optim (how
parameters are trained) and inspection (how to look inside).
"""

import sys

from . import nn, optim
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
from .nn import (
    GELU,
    MLP,
    BatchNorm1d,
    BCEWithLogitsLoss,
    Buffer,
    CrossEntropyLoss,
    Dropout,
    Embedding,
    Flatten,
    Identity,
    LayerNorm,
    Linear,
    Module,
    ModuleDict,
    ModuleList,
    MSELoss,
    MultiHeadAttention,
    Parameter,
    ParameterList,
    ReLU,
    Sequential,
    Sigmoid,
    Softmax,
    Tanh,
    TransformerBlock,
    functional,
    init,
)
from .random import default_generator, get_rng_state, manual_seed, randn, set_rng_state

__all__ = [
    "GELU",
    "MLP",
    "ArgumentError",
    "BCEWithLogitsLoss",
    "BatchNorm1d",
    "Buffer",
    "CrossEntropyLoss",
    "Dropout",
    "Embedding",
    "Flatten",
    "GraphError",
    "Identity",
    "LayerNorm",
    "Linear",
    "MSELoss",
    "Module",
    "ModuleDict",
    "ModuleError",
    "ModuleList",
    "MultiHeadAttention",
    "OptimizerError",
    "Parameter",
    "ParameterList",
    "ReLU",
    "RegistrationError",
    "Sequential",
    "ShapeError",
    "Sigmoid",
    "Softmax",
    "StateDictError",
    "Tanh",
    "Tensor",
    "TransformerBlock",
    "capture",
    "cat",
    "default_generator",
    "doctor",
    "functional",
    "get_rng_state",
    "init",
    "is_grad_enabled",
    "manual_seed",
    "nn",
    "no_grad",
    "optim",
    "randn",
    "set_rng_state",
    "stack",
    "tensor",
    "where",
]

# `import statezoo.core.functional as F` works, as torch users write it; the module itself is core/nn/functional.
sys.modules[f"{__name__}.functional"] = functional
