"""Losses of each element, each one operation, forward next to its gradient.

reduction is "mean", "sum" or "none" (one loss for each element or row). size_average and reduce are torch's old names
for it. Shapes that would only broadcast are errors, unlike in torch: a mean over an accidental (N, N) trains without an
error and learns the wrong thing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from ...arrays.silence import silently
from ...autograd.dtypes import narrowed, widened
from ...autograd.operations import where
from ...autograd.shaping import broadcasts_to
from ...autograd.tensor import Tensor, as_tensor, record
from ...errors import ArgumentError, ShapeError
from .curves import sigmoid_of, softplus_of

__all__ = [
    "binary_cross_entropy", "binary_cross_entropy_with_logits", "gaussian_nll_loss", "huber_loss", "kl_div", "l1_loss",
    "mse_loss", "poisson_nll_loss", "smooth_l1_loss", "soft_margin_loss",
]  # fmt: skip

Reduction = Literal["mean", "sum", "none"]
Old = bool | Reduction | None
Formula = Callable[[np.ndarray, np.ndarray], Any]  # of the input and the target


# The layout below is packed: a signature of torch's would take nine lines.
# fmt: off
def mse_loss(input: Tensor, target: Any, size_average: Old = None, reduce: Old = None,
             reduction: Reduction = "mean") -> Tensor:
    """Return (input - target) ** 2, reduced. input, target: float, of the same shape; a ShapeError names the fix."""
    x, y, reduction = as_tensor(input), as_tensor(target), chosen(size_average, reduce, reduction)
    require_same_shape("mse_loss", x, y)
    a = widened(x._data)
    difference = a - y._data.astype(a.dtype, copy=False)
    out, per_element = reduced(difference * difference, reduction, difference.size)

    def backward(g: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        by_x = difference * (2 * per_element(g))
        return by_x, -by_x if y._requires_grad else None

    return record("mse_loss", narrowed(out, x), (x, y), backward)

def l1_loss(input: Tensor, target: Any, size_average: Old = None, reduce: Old = None,
            reduction: Reduction = "mean") -> Tensor:
    """Return |input - target|, reduced. Like `mse_loss`."""
    which = chosen(size_average, reduce, reduction)
    return _elementwise("l1_loss", input, target, which, lambda x, y: np.abs(x - y), lambda x, y: np.sign(x - y))

def smooth_l1_loss(input: Tensor, target: Any, size_average: Old = None, reduce: Old = None,
                   reduction: Reduction = "mean", beta: float = 1.0) -> Tensor:
    """Return huber_loss with delta=beta, divided by beta; l1_loss if beta is 0. Source: Girshick 2015, eq. 3."""
    which = chosen(size_average, reduce, reduction)
    if beta == 0:
        return l1_loss(input, target, reduction=which)
    return huber_loss(input, target, which, beta) / beta

def huber_loss(input: Tensor, target: Any, reduction: Reduction = "mean", delta: float = 1.0) -> Tensor:
    """Return d ** 2 / 2 where d = |input - target| <= delta, otherwise delta * (d - delta / 2), reduced."""
    if not delta > 0:
        raise ArgumentError(f"the delta of huber_loss, or beta of smooth_l1_loss, must be positive, not {delta}.")
    return _elementwise(
        "huber_loss", input, target, reduction,
        lambda x, y: np.where(np.abs(x - y) <= delta, 0.5 * (x - y) ** 2, delta * (np.abs(x - y) - 0.5 * delta)),
        lambda x, y: np.clip(x - y, -delta, delta))

def binary_cross_entropy(input: Tensor, target: Any, weight: Any = None, size_average: Old = None, reduce: Old = None,
    reduction: Reduction = "mean") -> Tensor:
    """Return -weight * (target log(input) + (1 - target) log(1 - input)), reduced; a logarithm is at least -100.

    input, target: probabilities, of the same shape.  weight: broadcastable to it, or None.
    Raises ShapeError if the shapes differ. Raises ArgumentError if a value is not in [0, 1].
    """
    for what, p in (("target", as_tensor(target)._data), ("input", as_tensor(input)._data)):
        if not ((p >= 0) & (p <= 1)).all():
            raise ArgumentError(f"binary_cross_entropy takes probabilities, but the {what} has a value outside [0, 1]. "
                                "Use binary_cross_entropy_with_logits for logits.")
    scale = _broadcastable("weight", weight, widened(p))
    return _elementwise(
        "binary_cross_entropy", input, target, chosen(size_average, reduce, reduction),
        lambda x, y: scale * ((y - 1) * np.maximum(np.log1p(-x), -100) - y * np.maximum(np.log(x), -100)),
        lambda x, y: scale * (x - y) / np.maximum((1 - x) * x, 1e-12), lambda x, y: scale * (np.log1p(-x) - np.log(x)))

def binary_cross_entropy_with_logits(input: Tensor, target: Any, weight: Any = None, size_average: Old = None,
    reduce: Old = None, reduction: Reduction = "mean", pos_weight: Any = None) -> Tensor:
    """Return -w (p y log s + (1 - y) log(1 - s)) with s = sigmoid(input), reduced. Accurate for any logit.

    input, target (y, probabilities): float, of the same shape.  weight (w), pos_weight (p): broadcastable to it, or
    None.  Raises ShapeError naming both shapes and the fix if they differ.
    """
    x, y = as_tensor(input), as_tensor(target)
    require_same_shape("binary_cross_entropy_with_logits", x, y)
    logits = widened(x._data)
    truth = y._data.astype(logits.dtype, copy=False)
    scale = _broadcastable("weight", weight, logits)
    extra = _broadcastable("pos_weight", pos_weight, logits) - 1
    small = np.exp(-np.abs(logits))
    softplus = np.log1p(small) + np.maximum(-logits, 0)  # -log s; -log(1 - s) is this plus the logit
    positive = 1 + extra * truth
    losses = scale * ((1 - truth) * logits + positive * softplus)
    out, per_element = reduced(losses, chosen(size_average, reduce, reduction), logits.size)

    def backward(g: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        complement = np.where(logits >= 0, small, 1) / (1 + small)  # 1 - s
        each = per_element(g) * scale
        return each * (1 - truth - positive * complement), each * (extra * softplus - logits)

    return record("binary_cross_entropy_with_logits", narrowed(out, x), (x, y), backward)

def kl_div(input: Tensor, target: Any, size_average: Old = None, reduce: Old = None,
           reduction: Reduction | Literal["batchmean"] = "mean", log_target: bool = False) -> Tensor:
    """Return target * (log(target) - input), reduced; "batchmean" divides by the length of the first axis.

    input: logarithms of probabilities.  target: probabilities of the same shape, or their logarithms if log_target.
    Raises ShapeError if the shapes differ.
    """
    rows = input.shape[0] if reduction == "batchmean" else None
    which = "mean" if reduction == "batchmean" else chosen(size_average, reduce, reduction)
    if log_target:
        return _elementwise("kl_div", input, target, which, lambda x, y: np.exp(y) * (y - x),
                            lambda x, y: -np.exp(y), lambda x, y: np.exp(y) * (y - x + 1), rows)
    return _elementwise("kl_div", input, target, which, lambda x, y: np.where(y == 0, 0, y * np.log(y)) - y * x,
                        lambda x, y: -y, lambda x, y: np.log(y) + 1 - x, rows)

def soft_margin_loss(input: Tensor, target: Any, size_average: Old = None, reduce: Old = None,
                     reduction: Reduction = "mean") -> Tensor:
    """Return log(1 + exp(-target * input)), reduced, without overflow. target: 1 or -1, in the shape of input."""
    which = chosen(size_average, reduce, reduction)
    return _elementwise("soft_margin_loss", input, target, which, lambda x, y: softplus_of(-y * x),
                        lambda x, y: -y * sigmoid_of(-y * x), lambda x, y: -x * sigmoid_of(-y * x))

def poisson_nll_loss(input: Tensor, target: Any, log_input: bool = True, full: bool = False, size_average: Old = None,
                     eps: float = 1e-8, reduce: Old = None, reduction: Reduction = "mean") -> Tensor:
    """Return rate - target * log(rate), reduced. input: log(rate), or rate - eps with log_input=False.

    full: add Stirling's approximation of log(target!) where target > 1.  input, target: of the same shape.
    """
    x, y = as_tensor(input), as_tensor(target)
    require_same_shape("poisson_nll_loss", x, y)
    losses = x.exp() - y * x if log_input else x - y * (x + eps).log()
    if full:
        above = where(y._data > 1, y, 1)
        losses = losses + where(y._data > 1, above * above.log() - above + 0.5 * (2 * math.pi * above).log(), 0)
    return reduced_tensor(losses, chosen(size_average, reduce, reduction))

def gaussian_nll_loss(input: Tensor, target: Any, var: Any, full: bool = False, eps: float = 1e-6,
                      reduction: Reduction = "mean") -> Tensor:
    """Return (log(var) + (input - target) ** 2 / var) / 2, reduced. full: add log(2 pi) / 2.

    var: at least 0, in the shape of input, or without its last axis, or with one axis of size 1. Values below eps
    become eps; the gradient ignores that.  Source: Nix and Weigend 1994, eq. 3.
    """
    x, y, v = as_tensor(input), as_tensor(target), as_tensor(var)
    require_same_shape("gaussian_nll_loss", x, y)
    if v.shape == x.shape[:-1] and v.ndim:
        v = v.unsqueeze(-1)
    if v.ndim not in (0, x.ndim) or sum(size != 1 for size, own in zip(v.shape, x.shape, strict=False) if size != own):
        raise ShapeError(f"gaussian_nll_loss: var {v.shape} does not fit the input {x.shape}.")
    if (v._data < 0).any():
        raise ArgumentError("gaussian_nll_loss: var has a negative entry. Pass variances, not their logarithms.")
    v = v + Tensor(np.maximum(eps - v._data, 0).astype(v.dtype))
    losses = 0.5 * (v.log() + (x - y) ** 2 / v)
    return reduced_tensor(losses + 0.5 * math.log(2 * math.pi) if full else losses, reduction)

def _elementwise(name: str, input: Tensor, target: Any, reduction: Reduction, value: Formula, by_x: Formula,
                 by_y: Formula | None = None, count: int | None = None) -> Tensor:
    """Return the reduced losses value(x, y) as one operation. by_x, by_y: the derivatives; by_y is -by_x if None.

    count: the divisor of the mean, the number of losses if None.
    """
    x, y = as_tensor(input), as_tensor(target)
    require_same_shape(name, x, y)
    a = widened(x._data)
    b = y._data.astype(a.dtype, copy=False)
    losses = silently(value, a, b)
    out, per_element = reduced(losses, reduction, losses.size if count is None else count)

    def backward(g: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        each = per_element(g)
        part = each * by_x(a, b)
        return part, None if not y._requires_grad else -part if by_y is None else each * by_y(a, b)

    return record(name, narrowed(out, x), (x, y), backward)

def chosen(size_average: Old, reduce: Old, reduction: Reduction) -> Reduction:
    """Return the reduction. As in torch, the deprecated size_average and reduce replace it if one is given."""
    if isinstance(size_average, str):  # the reduction in their place
        return size_average
    if size_average is None and reduce is None:
        return reduction
    return "none" if reduce is False else "sum" if size_average is False else "mean"

def reduced_tensor(losses: Tensor, reduction: Reduction) -> Tensor:
    """Return the mean, the sum or the losses themselves."""
    require_reduction(reduction)
    return losses.mean() if reduction == "mean" else losses.sum() if reduction == "sum" else losses

def reduced(losses: np.ndarray, reduction: Reduction, count: Any) -> tuple[Any, Callable[[np.ndarray], Any]]:
    """Return the reduced losses and a function from their gradient to that of each loss (an array, or one number).

    count: the divisor of a mean; a mean over nothing is NaN.
    """
    if reduction == "mean":
        divisor = count or math.nan
        return np.add.reduce(losses, axis=None) / divisor, lambda g: g.item() / divisor
    if reduction == "sum":
        return np.add.reduce(losses, axis=None), lambda g: g.item()
    require_reduction(reduction)
    return losses, lambda g: g

def require_reduction(reduction: str) -> None:
    """Raise ArgumentError unless reduction is "mean", "sum" or "none"."""
    if reduction not in ("mean", "sum", "none"):
        raise ArgumentError(f"reduction must be 'mean', 'sum' or 'none', not {reduction!r}.")

def require_same_shape(name: str, x: Tensor, y: Tensor) -> None:
    """Raise ShapeError, with the fix, if the target y has another shape than the input x."""
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

# fmt: on
