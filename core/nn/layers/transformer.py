"""MLP and TransformerBlock."""

from __future__ import annotations

from ...autograd.tensor import Tensor
from ..functional.attention import Mask
from ..module.module import Module
from .activations import GELU
from .attention import MultiHeadAttention
from .dropout import Dropout
from .linear import Linear
from .normalization import LayerNorm


class MLP(Module):
    """Two linear layers with an activation between them, then dropout.

    x: (..., features).  Returns the shape of x.  hidden_features: the size between the layers, 4 * features by default.
    activation: a module, GELU() by default.
    """

    def __init__(
        self,
        features: int,
        hidden_features: int | None = None,
        dropout: float = 0.0,
        activation: Module | None = None,
    ) -> None:
        super().__init__()
        hidden_features = 4 * features if hidden_features is None else hidden_features
        self.fc1 = Linear(features, hidden_features)
        self.activation = GELU() if activation is None else activation
        self.fc2 = Linear(hidden_features, features)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.fc2(self.activation(self.fc1(x))))


class TransformerBlock(Module):
    """A transformer layer with normalization before each part: x + attention(ln1(x)), then x + mlp(ln2(x)).

    x: (B, T, embed_dim).  Returns the shape of x.  attn_mask, is_causal: as in MultiHeadAttention.
    hidden_features, activation: as in MLP.  dropout: the probability of dropping an attention weight or an output of
    the MLP.
    Source: Xiong et al. 2020, arXiv:2002.04745, figure 1(b), "pre-LN".
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        hidden_features: int | None = None,
        dropout: float = 0.0,
        activation: Module | None = None,
    ) -> None:
        super().__init__()
        self.ln1 = LayerNorm(embed_dim)
        self.attention = MultiHeadAttention(embed_dim, num_heads, dropout)
        self.ln2 = LayerNorm(embed_dim)
        self.mlp = MLP(embed_dim, hidden_features, dropout, activation)

    def forward(self, x: Tensor, attn_mask: Mask = None, is_causal: bool = False) -> Tensor:
        x = x + self.attention(self.ln1(x), attn_mask, is_causal)
        return x + self.mlp(self.ln2(x))
