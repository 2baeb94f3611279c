"""The number of multiply-adds of a computation, which summary.py shows for each module.

It counts matrix products: linear, bilinear, matmul (`@`), the two products of attention, including masked positions,
which are computed as well, and the products of a recurrent layer with its inputs and its states. A bias, an embedding,
a normalization, a softmax and elementwise operations count as 0. torch.utils.flop_counter counts the same products,
with 2 operations per multiply-add. What a forward computes in NumPy instead of Tensors is not counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ..autograd.tape import recording
from ..commit.block import Setting

if TYPE_CHECKING:
    from ..autograd.tensor import Tensor


def _of_linear(out: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> int:
    return out.numel() * weight.shape[1]


def _of_conv(out: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> int:
    return out.numel() * math.prod(weight.shape[1:])


def _of_conv_transpose(out: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> int:
    return x.numel() * math.prod(weight.shape[1:])


def _of_matmul(out: Tensor, a: Tensor, b: Tensor) -> int:
    return out.numel() * a.shape[-1]


def _of_attention(out: Tensor, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> int:
    queries, (length, width) = math.prod(out.shape[:-1]), k.shape[-2:]
    return queries * length * (width + v.shape[-1])  # scores, then the mixture of values


def _of_packed_attention(out: Tensor, packed: Tensor, bias: Tensor | None = None) -> int:
    return out.numel() * 2 * out.shape[1]


def _of_recurrent(out: Tensor, x: Tensor, *others: Tensor) -> int:
    rows, weights = math.prod(x.shape[:-1]), [tensor for tensor in others if tensor.ndim == 2][-2:]
    return rows * sum(weight.numel() for weight in weights)


def _of_bilinear(out: Tensor, one: Tensor, two: Tensor, weight: Tensor, bias: Tensor | None = None) -> int:
    return math.prod(out.shape[:-1]) * (weight.numel() + weight.numel() // weight.shape[1])


# By the name that each operation passes to `record`.
_COSTS: dict[str, Callable[..., int]] = {
    "linear": _of_linear,
    **{f"conv{dims}d": _of_conv for dims in (1, 2, 3)},
    **{f"conv_transpose{dims}d": _of_conv_transpose for dims in (1, 2, 3)},
    "matmul": _of_matmul,
    "scaled_dot_product_attention": _of_attention,
    "packed_attention": _of_packed_attention,
    "bilinear": _of_bilinear,
    **dict.fromkeys(("rnn_tanh", "rnn_relu", "lstm", "gru"), _of_recurrent),
}


def counting(count: Callable[[int], None]) -> Setting:
    """Return a context that records no graph, and calls count with the multiply-adds of each matrix product."""

    def tell(operation: str, out: Tensor, operands: tuple[Tensor, ...], arguments: Mapping[str, Any]) -> None:
        cost = _COSTS.get(operation)
        if cost is not None:
            count(cost(out, *operands))

    return Setting(recording, lambda outside: tell)
