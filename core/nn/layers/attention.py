"""MultiheadAttention, which is torch's, and MultiHeadAttention, for one sequence that attends to itself.

B: examples in a batch.  T: positions.  C: features of a position, split over the heads.
q, k, v: queries, keys, values.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ...autograd.devices import Device
from ...autograd.shaping import cat
from ...autograd.tensor import Tensor, as_tensor
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


class NonDynamicallyQuantizableLinear(Linear):
    """A Linear under the name that torch shows for the output of attention."""


class MultiheadAttention(Module):
    """Attention of torch.nn: each position of query gets a weighted mean of the values, once per head.

    query: (L, N, embed_dim).  key: (S, N, kdim).  value: (S, N, vdim); with batch_first (N, L, embed_dim) and so on,
    for one example without N.  attn_mask: (L, S) or (N num_heads, L, S), key_padding_mask: (N, S), either bool (True
    may NOT attend, the opposite of MultiHeadAttention) or float (added).  is_causal: a hint that attn_mask is causal.
    Returns the output in the layout of query, and the weights (N, L, S), (N, num_heads, L, S) with
    average_attn_weights=False, or None with need_weights=False.
    add_bias_kv: add a trained key and value.  add_zero_attn: add a key and value of zeros.
    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.2.2.
    """

    in_proj_weight: Parameter | None
    in_proj_bias: Parameter | None
    bias_k: Parameter | None
    bias_v: Parameter | None

    def __init__(
        self, embed_dim: int, num_heads: int, dropout: float = 0.0, bias: bool = True, add_bias_kv: bool = False,
        add_zero_attn: bool = False, kdim: int | None = None, vdim: int | None = None, batch_first: bool = False,
        device: Device = None, dtype: npt.DTypeLike | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        if num_heads < 1 or embed_dim < 1 or embed_dim % num_heads:
            raise ArgumentError(f"embed_dim {embed_dim} cannot be split evenly over {num_heads} heads.")
        self.embed_dim, self.kdim, self.vdim = embed_dim, kdim or embed_dim, vdim or embed_dim
        self.num_heads, self.dropout, self.batch_first = num_heads, dropout, batch_first
        self.head_dim, self.add_zero_attn = embed_dim // num_heads, add_zero_attn
        self._qkv_same_embed_dim = self.kdim == self.vdim == embed_dim
        sizes = {"q_proj_weight": embed_dim, "k_proj_weight": self.kdim, "v_proj_weight": self.vdim}
        for name, size in sizes.items():
            self._add(name, None if self._qkv_same_embed_dim else (embed_dim, size))
        self._add("in_proj_weight", (3 * embed_dim, embed_dim) if self._qkv_same_embed_dim else None)
        self._add("in_proj_bias", (3 * embed_dim,) if bias else None)
        self.out_proj = NonDynamicallyQuantizableLinear(embed_dim, embed_dim, bias)
        for name in ("bias_k", "bias_v"):
            self._add(name, (1, 1, embed_dim) if add_bias_kv else None)
        self._reset_parameters()
        self._placed(device, dtype)

    def _add(self, name: str, shape: tuple[int, ...] | None) -> None:
        self.register_parameter(name, None if shape is None else Parameter(np.zeros(shape, np.float32)))

    def _reset_parameters(self) -> None:
        """Reinitialize the parameters, except the weight of out_proj, as in torch."""
        for name, parameter in self._parameters.items():
            if parameter is not None and parameter.ndim > 1:
                (init.xavier_normal_ if name.startswith("bias") else init.xavier_uniform_)(parameter)
        for bias in (self.in_proj_bias, self.out_proj.bias):
            if bias is not None:
                init.zeros_(bias)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, key_padding_mask: Mask = None, need_weights: bool = True,
        attn_mask: Mask = None, average_attn_weights: bool = True, is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:  # fmt: skip
        if is_causal and attn_mask is None:
            raise ArgumentError(
                "MultiheadAttention: is_causal=True is a hint about attn_mask, which is missing. Pass attn_mask="
                "Transformer.generate_square_subsequent_mask(length) too."
            )
        is_self = query is key and key is value
        x = [as_tensor(query), as_tensor(key), as_tensor(value)]
        self._require_inputs(*x)
        is_batched = x[0].ndim == 3
        if not is_batched:
            x = [tensor.unsqueeze(0) for tensor in x]
            key_padding_mask = None if key_padding_mask is None else as_tensor(key_padding_mask).unsqueeze(0)
        elif not self.batch_first:
            x = [tensor.transpose(0, 1) for tensor in x]
        (batch, length, features), width = x[0].shape, x[1].shape[1]
        extra = int(self.bias_k is not None) + int(self.add_zero_attn)
        mask = self._mask(attn_mask, key_padding_mask, (batch, length, width), x[0].dtype, extra)
        dropout, weights = self.dropout if self.training else 0.0, None
        if is_self and self.in_proj_weight is not None and not need_weights and not extra:
            packed = F.linear(x[0], self.in_proj_weight, self.in_proj_bias)
            out = F.packed_attention(packed, self.num_heads, mask, dropout)
        else:
            q, k, v = self._heads(x)
            if need_weights:
                scores = (q * (1 / math.sqrt(self.head_dim))) @ k.transpose(-2, -1)
                if isinstance(mask, np.ndarray):
                    scores = scores.masked_fill(~mask, -math.inf)
                elif mask is not None:
                    scores = scores + mask
                weights = F.dropout(F.softmax(scores, -1), dropout)
                out = weights @ v
            else:
                out = F.scaled_dot_product_attention(q, k, v, mask, dropout)
            out = out.transpose(1, 2).reshape(batch, length, features)
        out = self.out_proj(out)
        if weights is not None and average_attn_weights:
            weights = weights.mean(1)
        if not is_batched:
            return out.squeeze(0), None if weights is None else weights.squeeze(0)
        return out if self.batch_first else out.transpose(0, 1), weights

    def _require_inputs(self, query: Tensor, key: Tensor, value: Tensor) -> None:
        """Raise ShapeError unless the shapes of query, key and value fit this module and each other."""
        features = [x.shape[-1] for x in (query, key, value) if x.ndim in (2, 3) and x.ndim == query.ndim]
        batch = 0 if self.batch_first else 1
        is_one_batch = query.ndim == 2 or len({x.shape[batch] for x in (query, key, value)}) == 1
        fits = features == [self.embed_dim, self.kdim, self.vdim] and key.shape[:-1] == value.shape[:-1]
        if not fits or not is_one_batch:
            layout = "(N, L, {})" if self.batch_first else "(L, N, {})"
            wanted = [
                layout.format(size).replace("L", s)
                for size, s in zip((self.embed_dim, self.kdim, self.vdim), "LSS", strict=True)
            ]
            raise ShapeError(
                f"MultiheadAttention needs query, key and value of shapes {', '.join(wanted)}, or without N, not "
                f"{query.shape}, {key.shape}, {value.shape}."
            )

    def _heads(self, x: list[Tensor]) -> list[Tensor]:
        """Return q, k and v, (N, num_heads, L or S, head_dim), with the added keys and values."""
        size, batch = self.embed_dim, len(x[0])
        parts = [slice(i * size, (i + 1) * size) for i in range(3)]
        if self.in_proj_weight is None:
            weights = [self.q_proj_weight, self.k_proj_weight, self.v_proj_weight]
        else:
            weights = [self.in_proj_weight[part] for part in parts]
        biases = [None if self.in_proj_bias is None else self.in_proj_bias[part] for part in parts]
        projected = [F.linear(*each) for each in zip(x, weights, biases, strict=True)]
        zeros = Tensor(np.zeros((batch, 1, size), x[0].dtype)) if self.add_zero_attn else None
        for place, added in ((1, self.bias_k), (2, self.bias_v), (1, zeros), (2, zeros)):
            if added is not None:
                projected[place] = cat([projected[place], added.expand(batch, 1, size)], 1)
        return [h.reshape(batch, h.shape[1], self.num_heads, self.head_dim).transpose(1, 2) for h in projected]

    def _mask(
        self, attn_mask: Any, padding: Any, shape: tuple[int, int, int], dtype: np.dtype[Any], extra: int
    ) -> Mask:
        """Return both masks as one, bool (True may attend) or float (added), with `extra` more keys; None if no mask.

        shape: (N, L, S).
        """
        batch, length, width = shape
        both: list[Any] = []
        for name, mask, allowed in (
            ("attn_mask", attn_mask, [(length, width), (batch * self.num_heads, length, width)]),
            ("key_padding_mask", padding, [(batch, width)]),
        ):
            if mask is None:
                continue
            mask = as_tensor(mask)
            if mask.shape not in allowed:
                wanted = " or ".join(map(str, allowed))
                raise ShapeError(f"MultiheadAttention needs {name} of shape {wanted}, not {mask.shape}.")
            if mask.dtype.kind not in "bfV":
                raise ArgumentError(f"MultiheadAttention: {name} must be bool or float, not {mask.dtype}.")
            if name == "key_padding_mask":
                mask = mask.reshape(batch, 1, 1, width)
            elif mask.ndim == 3:
                mask = mask.reshape(batch, self.num_heads, length, width)
            if extra:
                mask = cat([mask, Tensor(np.zeros((*mask.shape[:-1], extra), mask.dtype))], -1)
            both.append(mask)
        if all(mask.dtype == bool for mask in both):
            return ~np.logical_or.reduce(np.broadcast_arrays(*both)) if both else None
        added = [Tensor(np.where(m, -np.inf, 0).astype(dtype)) if m.dtype == bool else m for m in both]
        return added[0] + added[1] if len(added) == 2 else added[0]
