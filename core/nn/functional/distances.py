"""Distances between vectors, and the losses that compare them or demand a margin. All are made of other operations."""

from __future__ import annotations

from typing import Any

from ...autograd.operations import where
from ...autograd.tensor import Tensor, as_tensor
from ...errors import ArgumentError, ShapeError
from .curves import logsigmoid
from .losses import Old, Reduction, chosen, reduced_tensor, require_same_shape

__all__ = [
    "cosine_embedding_loss", "cosine_similarity", "hinge_embedding_loss", "margin_ranking_loss",
    "multilabel_soft_margin_loss", "normalize", "pairwise_distance", "triplet_margin_loss",
]  # fmt: skip


# The layout below is packed: a signature of torch's would take nine lines.
# fmt: off
def normalize(input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Tensor:
    """Return input / max(its p-norm along dim, eps)."""
    x = as_tensor(input)
    return x / x.norm(p, dim, keepdim=True).clamp(min=eps)

def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """Return the sum along dim of x1 * x2 / (max(|x1|, eps) * max(|x2|, eps)). The shapes broadcast."""
    return (normalize(x1, 2.0, dim, eps) * normalize(x2, 2.0, dim, eps)).sum(dim)

def pairwise_distance(x1: Tensor, x2: Tensor, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Tensor:
    """Return the p-norm of x1 - x2 + eps along the last axis. The shapes broadcast."""
    return (as_tensor(x1) - x2 + eps).norm(p, -1, keepdim=keepdim)

def cosine_embedding_loss(input1: Tensor, input2: Tensor, target: Any, margin: float = 0, size_average: Old = None,
    reduce: Old = None, reduction: Reduction = "mean") -> Tensor:
    """Return 1 - cos(input1, input2) where target is 1 and max(0, cos - margin) where it is -1, reduced.

    input1, input2: (N, features) or (features,).  target: (N,) or ().
    """
    x1, x2, y = as_tensor(input1), as_tensor(input2), as_tensor(target)._data
    if x1.shape != x2.shape or y.shape != x1.shape[:-1] or not 1 <= x1.ndim <= 2:
        raise ShapeError(f"cosine_embedding_loss: inputs {x1.shape} and {x2.shape} and target {y.shape} do not fit. "
                         "They must be (N, features), twice, and (N,).")
    cos = (x1 * x2).sum(-1) / (((x1 * x1).sum(-1) + 1e-12) * ((x2 * x2).sum(-1) + 1e-12)).sqrt()
    losses = where(y == 1, 1 - cos, where(y == -1, (cos - margin).clamp(min=0), 0))
    return reduced_tensor(losses, chosen(size_average, reduce, reduction))

def hinge_embedding_loss(input: Tensor, target: Any, margin: float = 1.0, size_average: Old = None, reduce: Old = None,
    reduction: Reduction = "mean") -> Tensor:
    """Return input where target is 1 and max(0, margin - input) where it is -1, reduced."""
    x, y = as_tensor(input), as_tensor(target)
    require_same_shape("hinge_embedding_loss", x, y)
    losses = where(y._data != 1, (margin - x).clamp(min=0), 0) + where(y._data != -1, x, 0)
    return reduced_tensor(losses, chosen(size_average, reduce, reduction))

def margin_ranking_loss(input1: Tensor, input2: Tensor, target: Any, margin: float = 0, size_average: Old = None,
                        reduce: Old = None, reduction: Reduction = "mean") -> Tensor:
    """Return max(0, margin - target * (input1 - input2)), reduced. target: 1 if input1 should be larger, else -1."""
    x1, x2, y = as_tensor(input1), as_tensor(input2), as_tensor(target)
    require_same_shape("margin_ranking_loss", x1, x2)
    require_same_shape("margin_ranking_loss", x1, y)
    return reduced_tensor((margin - y * (x1 - x2)).clamp(min=0), chosen(size_average, reduce, reduction))

def triplet_margin_loss(anchor: Tensor, positive: Tensor, negative: Tensor, margin: float = 1.0, p: float = 2,
                        eps: float = 1e-6, swap: bool = False, size_average: Old = None, reduce: Old = None,
                        reduction: Reduction = "mean") -> Tensor:
    """Return max(0, margin + d(anchor, positive) - d(anchor, negative)), reduced; d is `pairwise_distance`.

    swap: where d(positive, negative) is smaller than d(anchor, negative), it takes its place.
    """
    if margin <= 0:
        raise ArgumentError(f"triplet_margin_loss: margin must be above 0, not {margin}.")
    near, far = pairwise_distance(anchor, positive, p, eps), pairwise_distance(anchor, negative, p, eps)
    if swap:
        exchanged = pairwise_distance(positive, negative, p, eps)
        far = where(far._data < exchanged._data, far, exchanged)
    return reduced_tensor((margin + near - far).clamp(min=0), chosen(size_average, reduce, reduction))

def multilabel_soft_margin_loss(input: Tensor, target: Any, weight: Any = None, size_average: Old = None,
    reduce: Old = None, reduction: Reduction = "mean") -> Tensor:
    """Return the binary cross entropy of sigmoid(input) with target, its mean over the last axis, reduced.

    input, target: (..., C).  weight: (C,) factors, or None.
    """
    x, y = as_tensor(input), as_tensor(target)
    require_same_shape("multilabel_soft_margin_loss", x, y)
    losses = -(y * logsigmoid(x) + (1 - y) * logsigmoid(-x))
    each = losses if weight is None else losses * weight
    return reduced_tensor(each.mean(-1), chosen(size_average, reduce, reduction))
# fmt: on
