"""Modules and their parts, under the names of torch.nn."""

from . import functional, init, utils
from .layers import activations, losses, spatial
from .layers.activations import *  # noqa: F403
from .layers.attention import MultiHeadAttention, MultiheadAttention
from .layers.dropout import Dropout, Dropout1d, Dropout2d, Dropout3d
from .layers.embedding import Embedding, EmbeddingBag
from .layers.linear import Bilinear, Identity, Linear
from .layers.losses import *  # noqa: F403
from .layers.normalization import (
    BatchNorm1d,
    BatchNorm2d,
    BatchNorm3d,
    GroupNorm,
    InstanceNorm1d,
    InstanceNorm2d,
    InstanceNorm3d,
    LayerNorm,
    RMSNorm,
)
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
from .module.containers import ModuleDict, ModuleList, ParameterDict, ParameterList, Sequential
from .module.module import Module
from .module.parameter import Buffer, Parameter

__all__ = [
    "GRU", "LSTM", "MLP", "RNN", "BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "Bilinear", "Buffer", "Dropout",
    "Dropout1d", "Dropout2d", "Dropout3d", "Embedding", "EmbeddingBag", "GRUCell", "GroupNorm", "Identity",
    "InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d", "LSTMCell", "LayerNorm", "Linear", "Module", "ModuleDict",
    "ModuleList", "MultiHeadAttention", "MultiheadAttention", "Parameter", "ParameterDict", "ParameterList", "RMSNorm",
    "RNNBase", "RNNCell", "RNNCellBase", "Sequential", "Transformer", "TransformerBlock", "TransformerDecoder",
    "TransformerDecoderLayer", "TransformerEncoder", "TransformerEncoderLayer", "functional", "init", "utils",
]  # fmt: skip
__all__ += activations.__all__
__all__ += losses.__all__
__all__ += spatial.__all__
