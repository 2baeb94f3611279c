"""Losses, each one operation, forward next to its gradient.

reduction is "mean", "sum" or "none" (one loss for each element or row). Shapes that would only broadcast are errors:
a mean over an accidental (N, N) trains without an error and learns the wrong thing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from ...autograd.dtypes import narrowed, widened
from ...autograd.shaping import broadcasts_to
from ...autograd.tensor import Tensor, as_tensor, record
from ...errors import ArgumentError, ShapeError

Reduction = Literal["mean", "sum", "none"]


def mse_loss(input: Tensor, target: Any, reduction: Reduction = "mean") -> Tensor:
    """Return (input - target) ** 2, reduced.

    input, target: float, of the same shape.  Raises ShapeError naming both shapes and the fix if they differ.
    """
    x, y = as_tensor(input), as_tensor(target)
    _require_same_shape("mse_loss", x, y)
    a = widened(x._data)
    difference = a - y._data.astype(a.dtype, copy=False)
    out, per_element = reduced(difference * difference, reduction, difference.size)

    def backward(g: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        by_x = difference * (2 * per_element(g))
        return by_x, -by_x if y._requires_grad else None

    return record("mse_loss", narrowed(out, x), (x, y), backward)


def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Any,
    weight: Any = None,
    reduction: Reduction = "mean",
    pos_weight: Any = None,
) -> Tensor:
    """Return -w (p y log s + (1 - y) log(1 - s)) with s = sigmoid(input), reduced. Accurate for any logit.

    input, target (y, probabilities): float, of the same shape.  weight (w), pos_weight (p): broadcastable to it, or
    None.  Raises ShapeError naming both shapes and the fix if they differ.
    """
    x, y = as_tensor(input), as_tensor(target)
    _require_same_shape("binary_cross_entropy_with_logits", x, y)
    logits = widened(x._data)
    truth = y._data.astype(logits.dtype, copy=False)
    scale = _broadcastable("weight", weight, logits)
    extra = _broadcastable("pos_weight", pos_weight, logits) - 1
    small = np.exp(-np.abs(logits))
    softplus = np.log1p(small) + np.maximum(-logits, 0)  # -log s; -log(1 - s) is this plus the logit
    positive = 1 + extra * truth
    losses = scale * ((1 - truth) * logits + positive * softplus)
    out, per_element = reduced(losses, reduction, logits.size)

    def backward(g: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        complement = np.where(logits >= 0, small, 1) / (1 + small)  # 1 - s
        each = per_element(g) * scale
        return each * (1 - truth - positive * complement), each * (extra * softplus - logits)

    return record("binary_cross_entropy_with_logits", narrowed(out, x), (x, y), backward)


def reduced(losses: np.ndarray, reduction: Reduction, count: Any) -> tuple[Any, Callable[[np.ndarray], Any]]:
    """Return the reduced losses and a function from their gradient to that of each loss (an array, or one number).

    count: the divisor of a mean; a mean over nothing is NaN.
    """
    if reduction == "mean":
        divisor = count or math.nan
        return np.add.reduce(losses, axis=None) / divisor, lambda g: g.item() / divisor
    if reduction == "sum":
        return np.add.reduce(losses, axis=None), lambda g: g.item()
    if reduction == "none":
        return losses, lambda g: g
    raise ArgumentError(f"reduction must be 'mean', 'sum' or 'none', not {reduction!r}.")


def _require_same_shape(name: str, x: Tensor, y: Tensor) -> None:
    if x.shape == y.shape:
        return
    fix = "Give them the same shape"
    if y.numel() == x.numel():
        fix = f"Use target.reshape{x.shape}"
        if x.shape == (*y.shape, 1):
            fix += f" or target.unsqueeze({y.ndim})"
    raise ShapeError(
        f"{name}: input {x.shape} and target {y.shape} differ; broadcasting them would average over the wrong pairs. "
        f"{fix}."
    )


def _broadcastable(name: str, value: Any, logits: np.ndarray) -> np.ndarray:
    """Return value (None means 1) in the dtype of the logits. Raises ShapeError if it does not broadcast to them."""
    array = np.asarray(1 if value is None else value).astype(logits.dtype, copy=False)
    if not broadcasts_to(array.shape, logits.shape):
        raise ShapeError(f"{name} of shape {array.shape} does not broadcast to the input's {logits.shape}.")
    return array
