"""Modules, and what they are made of: torch.nn."""

from . import functional, init
from .layers.attention import MLP, MultiHeadAttention, TransformerBlock
from .layers.basic import (
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
from .layers.containers import ModuleDict, ModuleList, ParameterList, Sequential
from .layers.losses import BCEWithLogitsLoss, CrossEntropyLoss, MSELoss
from .module.module import Module
from .module.parameter import Buffer, Parameter

__all__ = [
    "GELU",
    "MLP",
    "BCEWithLogitsLoss",
    "BatchNorm1d",
    "Buffer",
    "CrossEntropyLoss",
    "Dropout",
    "Embedding",
    "Flatten",
    "Identity",
    "LayerNorm",
    "Linear",
    "MSELoss",
    "Module",
    "ModuleDict",
    "ModuleList",
    "MultiHeadAttention",
    "Parameter",
    "ParameterList",
    "ReLU",
    "Sequential",
    "Sigmoid",
    "Softmax",
    "Tanh",
    "TransformerBlock",
    "functional",
    "init",
]
