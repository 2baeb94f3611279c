"""Modules and their parts, under the names of torch.nn."""

from . import functional, init
from .layers.activations import GELU, ReLU, Sigmoid, Softmax, Tanh
from .layers.attention import MultiHeadAttention
from .layers.containers import ModuleDict, ModuleList, ParameterList, Sequential
from .layers.dropout import Dropout
from .layers.embedding import Embedding
from .layers.flatten import Flatten
from .layers.linear import Identity, Linear
from .layers.losses import BCEWithLogitsLoss, CrossEntropyLoss, MSELoss
from .layers.normalization import BatchNorm1d, LayerNorm
from .layers.transformer import MLP, TransformerBlock
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
