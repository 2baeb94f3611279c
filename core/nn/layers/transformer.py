"""Layers of transformers: TransformerBlock with its MLP, and torch's encoder and decoder."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np

from ...autograd.devices import Device, require_cpu
from ...autograd.tensor import Tensor
from ...errors import ArgumentError
from .. import functional as F
from .. import init
from ..functional.attention import Mask
from ..module.containers import ModuleList
from ..module.module import Module
from .activations import GELU
from .attention import MultiHeadAttention, MultiheadAttention
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


class _TransformerLayer(Module):
    """What torch's encoder and decoder layers have in common.

    d_model: features.  nhead: heads.  activation: "relu", "gelu" or a function.  norm_first: normalize before each part
    instead of after it.  Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.1.
    """

    def __init__(
        self, d_model: int, nhead: int, dim_feedforward: int = 2048, dropout: float = 0.1,
        activation: str | Callable[[Tensor], Tensor] = F.relu, layer_norm_eps: float = 1e-5,
        batch_first: bool = False, norm_first: bool = False, bias: bool = True, device: Device = None,
        dtype: Any = None,
    ) -> None:  # fmt: skip
        super().__init__()
        attentions = ["self_attn", "multihead_attn"][: 1 + isinstance(self, TransformerDecoderLayer)]
        for name in attentions:
            setattr(self, name, MultiheadAttention(d_model, nhead, dropout, bias, batch_first=batch_first))
        self.linear1 = Linear(d_model, dim_feedforward, bias)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias)
        self.norm_first = norm_first
        for place in range(1, len(attentions) + 2):
            setattr(self, f"norm{place}", LayerNorm(d_model, layer_norm_eps, bias=bias))
        for place in range(1, len(attentions) + 2):
            setattr(self, f"dropout{place}", Dropout(dropout))
        if isinstance(activation, str):
            if activation not in ("relu", "gelu"):
                raise ArgumentError(f"the activation must be 'relu', 'gelu' or a function, not {activation!r}.")
            activation = F.relu if activation == "relu" else F.gelu
        self.activation = activation
        self._placed(device, dtype)

    def _add(self, x: Tensor, place: int, part: Callable[[Tensor], Tensor]) -> Tensor:
        """Return x plus the output of a part, with the normalization of that place."""
        norm, dropout = getattr(self, f"norm{place}"), getattr(self, f"dropout{place}")
        return x + dropout(part(norm(x))) if self.norm_first else norm(x + dropout(part(x)))

    def _feed_forward(self, x: Tensor) -> Tensor:
        return self.linear2(self.dropout(self.activation(self.linear1(x))))


class TransformerEncoderLayer(_TransformerLayer):
    """Self-attention, then two linear layers, each added to its input.

    src: (S, N, d_model), or (N, S, d_model) with batch_first.  The masks are those of MultiheadAttention.
    """

    def forward(
        self, src: Tensor, src_mask: Mask = None, src_key_padding_mask: Mask = None, is_causal: bool = False
    ) -> Tensor:
        masks: tuple[Any, ...] = (src_key_padding_mask, False, src_mask, True, is_causal)
        x = self._add(src, 1, lambda x: self.self_attn(x, x, x, *masks)[0])
        return self._add(x, 2, self._feed_forward)


class TransformerDecoderLayer(_TransformerLayer):
    """Self-attention, attention to the output of an encoder, then two linear layers, each added to its input.

    tgt: (T, N, d_model).  memory: (S, N, d_model); with batch_first (N, ...).
    """

    def forward(
        self, tgt: Tensor, memory: Tensor, tgt_mask: Mask = None, memory_mask: Mask = None,
        tgt_key_padding_mask: Mask = None, memory_key_padding_mask: Mask = None, tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
    ) -> Tensor:  # fmt: skip
        own: tuple[Any, ...] = (tgt_key_padding_mask, False, tgt_mask, True, tgt_is_causal)
        other: tuple[Any, ...] = (memory_key_padding_mask, False, memory_mask, True, memory_is_causal)
        x = self._add(tgt, 1, lambda x: self.self_attn(x, x, x, *own)[0])
        x = self._add(x, 2, lambda x: self.multihead_attn(x, memory, memory, *other)[0])
        return self._add(x, 3, self._feed_forward)


class _Stack(Module):
    """Copies of one layer, one after the other, then a normalization if there is one."""

    def __init__(self, layer: Module, num_layers: int, norm: Module | None = None) -> None:
        super().__init__()
        self.layers = ModuleList([copy.deepcopy(layer) for _ in range(num_layers)])
        self.num_layers, self.norm = num_layers, norm

    def _run(self, x: Tensor, *given: Any) -> Tensor:
        for layer in self.layers:
            x = layer(x, *given)
        return x if self.norm is None else self.norm(x)


class TransformerEncoder(_Stack):
    """A stack of encoder layers. All start from the same values. enable_nested_tensor and mask_check change nothing."""

    def __init__(
        self, encoder_layer: Module, num_layers: int, norm: Module | None = None, enable_nested_tensor: bool = True,
        mask_check: bool = True,
    ) -> None:  # fmt: skip
        super().__init__(encoder_layer, num_layers, norm)

    def forward(
        self, src: Tensor, mask: Mask = None, src_key_padding_mask: Mask = None, is_causal: bool | None = None
    ) -> Tensor:
        return self._run(src, mask, src_key_padding_mask, bool(is_causal))


class TransformerDecoder(_Stack):
    """A stack of decoder layers. All start from the same values."""

    def __init__(self, decoder_layer: Module, num_layers: int, norm: Module | None = None) -> None:
        super().__init__(decoder_layer, num_layers, norm)

    def forward(
        self, tgt: Tensor, memory: Tensor, tgt_mask: Mask = None, memory_mask: Mask = None,
        tgt_key_padding_mask: Mask = None, memory_key_padding_mask: Mask = None, tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Tensor:  # fmt: skip
        masks = (tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask)
        return self._run(tgt, memory, *masks, bool(tgt_is_causal), memory_is_causal)


class Transformer(Module):
    """An encoder and a decoder.

    src: (S, N, d_model).  tgt: (T, N, d_model); with batch_first (N, ...).  Returns the shape of tgt.
    The other arguments are those of TransformerEncoderLayer and of its masks.
    """

    def __init__(
        self, d_model: int = 512, nhead: int = 8, num_encoder_layers: int = 6, num_decoder_layers: int = 6,
        dim_feedforward: int = 2048, dropout: float = 0.1, activation: str | Callable[[Tensor], Tensor] = F.relu,
        custom_encoder: Module | None = None, custom_decoder: Module | None = None, layer_norm_eps: float = 1e-5,
        batch_first: bool = False, norm_first: bool = False, bias: bool = True, device: Device = None,
        dtype: Any = None,
    ) -> None:  # fmt: skip
        super().__init__()
        options: tuple[Any, ...] = (dim_feedforward, dropout, activation, layer_norm_eps, batch_first, norm_first, bias)
        norm = {"eps": layer_norm_eps, "bias": bias}
        self.encoder = custom_encoder or TransformerEncoder(
            TransformerEncoderLayer(d_model, nhead, *options), num_encoder_layers, LayerNorm(d_model, **norm)
        )
        self.decoder = custom_decoder or TransformerDecoder(
            TransformerDecoderLayer(d_model, nhead, *options), num_decoder_layers, LayerNorm(d_model, **norm)
        )
        for parameter in self.parameters():
            if parameter.ndim > 1:
                init.xavier_uniform_(parameter)
        self.d_model, self.nhead, self.batch_first = d_model, nhead, batch_first
        self._placed(device, dtype)

    def forward(
        self, src: Tensor, tgt: Tensor, src_mask: Mask = None, tgt_mask: Mask = None, memory_mask: Mask = None,
        src_key_padding_mask: Mask = None, tgt_key_padding_mask: Mask = None, memory_key_padding_mask: Mask = None,
        src_is_causal: bool | None = None, tgt_is_causal: bool | None = None, memory_is_causal: bool = False,
    ) -> Tensor:  # fmt: skip
        memory = self.encoder(src, src_mask, src_key_padding_mask, src_is_causal)
        masks = (tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask)
        return self.decoder(tgt, memory, *masks, tgt_is_causal, memory_is_causal)

    @staticmethod
    def generate_square_subsequent_mask(sz: int, device: Device = None, dtype: Any = None) -> Tensor:
        """Return a causal float mask (sz, sz): 0 where a position may attend, -inf at later positions."""
        require_cpu(device)
        return Tensor(np.triu(np.full((sz, sz), -np.inf, dtype or np.float32), 1))
