"""The differentiable functions of a network, as in torch.nn.functional.

linear and bilinear are defined here, the others in the file of their kind; relu, sigmoid and tanh compute in
autograd/operations.py. Each is one operation, its forward next to its gradient; only the losses in distances.py are
made of several. recurrent.py holds the run of a recurrent layer.
"""

from __future__ import annotations

import math
from typing import Any, NoReturn

import numpy as np

from ...autograd.dtypes import narrowed, widened
from ...autograd.reductions import sum_rows
from ...autograd.tensor import Tensor, as_tensor, record
from ...errors import ShapeError
from . import activations, curves, distances, entropy, losses, spatial
from .activations import *  # noqa: F403
from .attention import packed_attention, scaled_dot_product_attention
from .curves import *  # noqa: F403
from .distances import *  # noqa: F403
from .dropping import dropout, dropout1d, dropout2d, dropout3d
from .embedding import embedding, embedding_bag
from .entropy import *  # noqa: F403
from .losses import *  # noqa: F403
from .normalization import batch_norm, group_norm, instance_norm, layer_norm, rms_norm
from .spatial import *  # noqa: F403

__all__ = [
    "batch_norm", "bilinear", "dropout", "dropout1d", "dropout2d", "dropout3d", "embedding", "embedding_bag",
    "group_norm", "instance_norm", "layer_norm", "linear", "packed_attention", "rms_norm",
    "scaled_dot_product_attention",
]  # fmt: skip
__all__ += activations.__all__
__all__ += curves.__all__
__all__ += distances.__all__
__all__ += entropy.__all__
__all__ += losses.__all__
__all__ += spatial.__all__


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return input @ weight.T + bias.

    input: (..., in) float; integers are cast to the dtype of weight.  weight: (out, in).  bias: (out,) or None.
    Returns (..., out).  Raises ShapeError naming all shapes if they do not fit.
    """
    x = as_tensor(input)
    a, w = x._data, weight._data
    if a.dtype is not w.dtype and a.dtype.kind in "iub":
        x = x.to(w.dtype)
        a = x._data
    is_flat, shape = a.ndim == 2, a.shape
    if w.ndim != 2 or shape[-1:] != w.shape[1:] or (bias is not None and bias._data.shape != w.shape[:1]):
        _refuse_linear(x, weight, bias)
    rows = a if is_flat else a.reshape(math.prod(shape[:-1]), shape[-1])  # (..., in) -> (rows, in)
    out = rows.dot(w.T)
    if bias is not None:
        np.add(out, bias._data, out)

    def backward(g: np.ndarray) -> tuple[np.ndarray | None, ...]:
        by_rows = g if is_flat else g.reshape(out.shape)  # (..., out) -> (rows, out)
        by_x = by_rows.dot(w) if x._requires_grad else None
        if by_x is not None and not is_flat:
            by_x = by_x.reshape(shape)
        by_weight = by_rows.T.dot(rows) if weight._requires_grad else None
        return (by_x, by_weight) if bias is None else (by_x, by_weight, sum_rows(by_rows))

    parents = (x, weight) if bias is None else (x, weight, bias)
    return record("linear", out if is_flat else out.reshape(*shape[:-1], len(w)), parents, backward)


def _refuse_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> NoReturn:
    has_bias = "no bias" if bias is None else f"bias {bias.shape}"
    raise ShapeError(
        f"linear: input {x.shape}, weight {weight.shape} and {has_bias} do not fit. "
        "They must be (..., in), (out, in) and (out,)."
    )


def bilinear(input1: Any, input2: Any, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return x1^T W_o x2 + b_o for each output feature o.

    input1: (..., in1).  input2: (..., in2), the leading axes being equal.  weight: (out, in1, in2).  bias: (out,) or
    None.  Returns (..., out).  Raises ShapeError if the shapes do not fit.
    """
    one, two = as_tensor(input1), as_tensor(input2)
    features = (one.shape[-1:], two.shape[-1:])
    fits = weight.ndim == 3 and features == (weight.shape[1:2], weight.shape[2:]) and one.shape[:-1] == two.shape[:-1]
    if not fits or (bias is not None and bias.shape != weight.shape[:1]):
        raise ShapeError(
            f"bilinear: inputs {one.shape} and {two.shape}, weight {weight.shape} and bias "
            f"{None if bias is None else bias.shape} do not fit. They must be (..., in1), (..., in2), (out, in1, in2), "
            "(out,)."
        )
    w = widened(weight._data)
    x, y = (widened(t._data).reshape(-1, t.shape[-1]) for t in (one, two))
    by_first = w.transpose(1, 0, 2).reshape(w.shape[1], -1)  # (in1, out * in2)
    mixed = (x @ by_first).reshape(len(x), w.shape[0], w.shape[2])  # (rows, out, in2)
    out = (mixed @ y[:, :, None])[:, :, 0]
    if bias is not None:
        out = out + widened(bias._data)

    def backward(g: np.ndarray) -> tuple[np.ndarray, ...]:
        g = widened(g).reshape(out.shape)
        by_mixed = (g[:, :, None] * y[:, None]).reshape(len(x), -1)
        by_one = (by_mixed @ by_first.T).reshape(one.shape)
        by_two = (g[:, None] @ mixed)[:, 0].reshape(two.shape)
        by_weight = (x.T @ by_mixed).reshape(w.shape[1], w.shape[0], w.shape[2]).transpose(1, 0, 2)
        return (by_one, by_two, by_weight) if bias is None else (by_one, by_two, by_weight, g.sum(axis=0))

    operands = (one, two, weight) if bias is None else (one, two, weight, bias)
    return record("bilinear", narrowed(out.reshape(*one.shape[:-1], len(w)), weight), operands, backward)
