"""Neural networks in NumPy, under PyTorch's names.

Read in this order: tensor, tape with silence (how a gradient is found), operations, reductions, shaping, functional
with activations, normalization, dropout, dot_product_attention, loss_functions and cross_entropy (how each is
computed), parameter, module (how state is registered, found and loaded), layers, containers, attention, losses (the
building blocks), init, optim (training them), capture, summary and doctor (looking inside); blas is about speed.
"""

from . import blas, functional, init, optim
from .attention import MLP, MultiHeadAttention, TransformerBlock
from .capture import capture
from .containers import ModuleDict, ModuleList, ParameterList, Sequential
from .doctor import doctor
from .errors import (
    ArgumentError,
    GraphError,
    MismatchError,
    ModuleError,
    OptimizerError,
    RegistrationError,
    ShapeError,
)
from .layers import (
    GELU,
    BatchNorm1d,
    Dropout,
    Embedding,
    Flatten,
    Identity,
    LayerNorm,
    Linear,
    ReLU,
    Sigmoid,
    Softmax,
    Tanh,
)
from .losses import BCEWithLogitsLoss, CrossEntropyLoss, MSELoss
from .module import Module
from .operations import where
from .parameter import Buffer, Parameter
from .random import default_generator, get_rng_state, manual_seed, randn, set_rng_state
from .shaping import cat, stack
from .tensor import Tensor, is_grad_enabled, no_grad, tensor

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
    "MismatchError",
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
    "no_grad",
    "optim",
    "randn",
    "set_rng_state",
    "stack",
    "tensor",
    "where",
]

blas.write_packing_memory()
