"""Modules and their parts, under the names of torch.nn."""

from . import functional, init, utils
from .layers import spatial
from .layers.activations import GELU, ReLU, Sigmoid, Softmax, Tanh
from .layers.attention import MultiHeadAttention, MultiheadAttention
from .layers.containers import ModuleDict, ModuleList, ParameterDict, ParameterList, Sequential
from .layers.dropout import Dropout
from .layers.embedding import Embedding, EmbeddingBag
from .layers.linear import Bilinear, Identity, Linear
from .layers.losses import BCEWithLogitsLoss, CrossEntropyLoss, MSELoss
from .layers.normalization import BatchNorm1d, LayerNorm
from .layers.recurrent import GRU, LSTM, RNN, GRUCell, LSTMCell, RNNBase, RNNCell, RNNCellBase
from .layers.spatial import *  # noqa: F403
from .layers.transformer import (
    MLP,
    Transformer,
    TransformerBlock,
    TransformerDecoder,
    TransformerDecoderLayer,
    TransformerEncoder,
    TransformerEncoderLayer,
)
from .module.module import Module
from .module.parameter import Buffer, Parameter

__all__ = [
    "GELU",
    "GRU",
    "LSTM",
    "MLP",
    "RNN",
    "BCEWithLogitsLoss",
    "BatchNorm1d",
    "Bilinear",
    "Buffer",
    "CrossEntropyLoss",
    "Dropout",
    "Embedding",
    "EmbeddingBag",
    "GRUCell",
    "Identity",
    "LSTMCell",
    "LayerNorm",
    "Linear",
    "MSELoss",
    "Module",
    "ModuleDict",
    "ModuleList",
    "MultiHeadAttention",
    "MultiheadAttention",
    "Parameter",
    "ParameterDict",
    "ParameterList",
    "RNNBase",
    "RNNCell",
    "RNNCellBase",
    "ReLU",
    "Sequential",
    "Sigmoid",
    "Softmax",
    "Tanh",
    "Transformer",
    "TransformerBlock",
    "TransformerDecoder",
    "TransformerDecoderLayer",
    "TransformerEncoder",
    "TransformerEncoderLayer",
    "functional",
    "init",
    "utils",
]
__all__ += spatial.__all__
