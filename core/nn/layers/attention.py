"""MultiHeadAttention.

B: examples in a batch.  T: positions.  C: features of a position, split over the heads.
q, k, v: queries, keys, values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ...autograd.devices import Device
from ...autograd.tensor import Tensor
from ...errors import ArgumentError, ShapeError
from .. import functional as F
from .. import init
from ..functional.attention import Mask
from ..module.module import Module
from ..module.parameter import Parameter
from .linear import Linear

if TYPE_CHECKING:
    import numpy.typing as npt


class MultiHeadAttention(Module):
    """Self-attention: each position gets a weighted mean of the values of all positions, once per head.

    x: (B, T, embed_dim).  Returns the shape of x.  attn_mask, is_causal: as in functional.scaled_dot_product_attention;
    the mask broadcasts to (B, num_heads, T, T).  dropout: the probability of dropping an attention weight in training.
    Parameters have the names, order and initial values of torch.nn.MultiheadAttention: in_proj_weight
    (3 embed_dim, embed_dim) and in_proj_bias produce q, k and v, in that order; then out_proj.
    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.2.2.
    """

    in_proj_bias: Parameter | None

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        device: Device = None,
        dtype: npt.DTypeLike | None = None,
    ) -> None:
        super().__init__()
        if num_heads < 1 or embed_dim % num_heads:
            raise ArgumentError(f"embed_dim {embed_dim} cannot be split evenly over {num_heads} heads.")
        self.embed_dim, self.num_heads, self.dropout = embed_dim, num_heads, dropout
        self.in_proj_weight = Parameter(np.empty((3 * embed_dim, embed_dim), np.float32))
        self.register_parameter("in_proj_bias", Parameter(np.zeros(3 * embed_dim, np.float32)) if bias else None)
        self.out_proj = Linear(embed_dim, embed_dim, bias)
        init.xavier_uniform_(self.in_proj_weight)
        if self.out_proj.bias is not None:
            init.zeros_(self.out_proj.bias)
        self._placed(device, dtype)

    def forward(self, x: Tensor, attn_mask: Mask = None, is_causal: bool = False) -> Tensor:
        packed, dropout = self._packed(x), self.dropout if self.training else 0.0
        return self.out_proj(F.packed_attention(packed, self.num_heads, attn_mask, dropout, is_causal))

    def attention_weights(self, x: Tensor, attn_mask: Mask = None, is_causal: bool = False) -> Tensor:
        """Return the attention weights (B, num_heads, T, T), without dropout.

        The arguments are those of forward. Row t of a head sums to 1, or to 0 if t may attend to nothing.
        """
        packed = self._packed(x)
        batch, length, features = x.shape
        heads = packed.reshape(batch, length, 3, self.num_heads, features // self.num_heads)
        q, k, _ = heads.permute(2, 0, 3, 1, 4)  # (B, T, 3, heads, d) -> 3 x (B, heads, T, d)
        # Attention over one-hot values returns its weights, so this uses the same computation as forward.
        one_hot = Tensor(np.eye(length, dtype=q.dtype))
        return F.scaled_dot_product_attention(q, k, one_hot, attn_mask, is_causal=is_causal)

    def _packed(self, x: Tensor) -> Tensor:
        """Return q, k and v of each position side by side: (B, T, 3 C)."""
        if x.ndim != 3 or x.shape[-1] != self.embed_dim:
            raise ShapeError(f"MultiHeadAttention needs x of shape (B, T, {self.embed_dim}), not {x.shape}.")
        return F.linear(x, self.in_proj_weight, self.in_proj_bias)
