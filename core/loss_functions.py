"""Losses, each one operation, forward beside its gradient.

reduction is "mean", "sum" or "none" (one loss for each element or row). Shapes that would only broadcast are errors:
the mean over an accidental (N, N) trains, and learns the wrong thing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from .errors import ArgumentError, ShapeError
from .shaping import broadcasts_to
from .tensor import Tensor, as_tensor, record

Reduction = Literal["mean", "sum", "none"]
# The gradient of every row's loss -> (the gradient of the logits, the gradient of the targets if these have one)
RowsBackward = Callable[[np.ndarray], tuple[np.ndarray, "np.ndarray | None"]]


def mse_loss(input: Tensor, target: Any, reduction: Reduction = "mean") -> Tensor:
    """Return (input - target) ** 2, reduced.

    input, target: float, of one shape.  Raises ShapeError naming both shapes and the fix if they differ.
    """
    x, y = as_tensor(input), as_tensor(target)
    _require_same_shape("mse_loss", x, y)
    difference = x.data - y.data.astype(x.dtype, copy=False)
    out, per_element = _reduced(difference * difference, reduction, difference.size)

    def backward(g: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        by_x = (2 * per_element(g)) * difference
        return by_x, -by_x

    return record(out, (x, y), backward)


def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Any,
    weight: Any = None,
    reduction: Reduction = "mean",
    pos_weight: Any = None,
) -> Tensor:
    """Return -w (p y log s + (1 - y) log(1 - s)) with s = sigmoid(input), reduced; exact for logits of any size.

    input, target (y, probabilities): float, of one shape.  weight (w), pos_weight (p): broadcastable to it, or None.
    Raises ShapeError naming both shapes and the fix if they differ.
    """
    x, y = as_tensor(input), as_tensor(target)
    _require_same_shape("binary_cross_entropy_with_logits", x, y)
    logits, truth = x.data, y.data.astype(x.dtype, copy=False)
    scale = _broadcastable("weight", weight, logits)
    extra = _broadcastable("pos_weight", pos_weight, logits) - 1
    small = np.exp(-np.abs(logits))
    softplus = np.log1p(small) + np.maximum(-logits, 0)  # -log s; -log(1 - s) is this plus the logit
    positive = 1 + extra * truth
    losses = scale * ((1 - truth) * logits + positive * softplus)
    out, per_element = _reduced(losses, reduction, logits.size)

    def backward(g: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        complement = np.where(logits >= 0, small, 1) / (1 + small)  # 1 - s
        each = per_element(g) * scale
        return each * (1 - truth - positive * complement), each * (extra * softplus - logits)

    return record(out, (x, y), backward)


def cross_entropy(
    input: Tensor,
    target: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Return -sum_c q_c log softmax(input)_c for each row, reduced; q is what target says of the classes.

    input: (C,), (N, C) or (N, C, d...) logits.  target: integer classes, the shape of input without C (those equal to
    ignore_index count for nothing), or float probabilities in the shape of input.
    weight: (C,) factors of the classes, or None.  label_smoothing: moves that part of q evenly to all classes.
    "mean" divides by the sum of the weights of the targets (of classes), or by the number of rows (probabilities).
    Raises ShapeError or ArgumentError for a target of another shape or dtype, or a class out of range.
    Source of label smoothing: Szegedy et al. 2015, arXiv:1512.00567, section 7.
    """
    x, y = as_tensor(input), as_tensor(target)
    of_classes = _target_of_classes(x, y)
    classes = x.shape[0 if x.ndim == 1 else 1]
    if not 0 <= label_smoothing <= 1:
        raise ArgumentError(f"cross_entropy: label_smoothing is between 0 and 1, not {label_smoothing}.")
    factors = None if weight is None else np.asarray(weight).astype(x.dtype, copy=False)
    if factors is not None and factors.shape != (classes,):
        raise ShapeError(f"cross_entropy: weight has shape {factors.shape}; the input {x.shape} has {classes} classes.")

    logits = _classes_last(x.data)  # (N, C, d...) -> (N, d..., C)
    shape = logits.shape
    flat = (math.prod(shape[:-1]), classes)
    with np.errstate(invalid="ignore"):  # a row of -inf throughout, or a mean over nothing, is NaN
        log_p = _log_softmax_rows(logits.reshape(flat))
        if of_classes:
            losses, count, by_row = _of_classes(log_p, y.data.reshape(-1), factors, ignore_index, label_smoothing)
        else:
            q = _classes_last(y.data).reshape(flat)
            losses, count, by_row = _of_probabilities(log_p, q, factors, label_smoothing)
        out, per_row = _reduced(losses.reshape(shape[:-1]), reduction, count)

    def backward(g: np.ndarray) -> list[np.ndarray | None]:
        parts = by_row(np.broadcast_to(per_row(g), shape[:-1]).reshape(-1))
        return [None if part is None else _classes_second(part.reshape(shape)) for part in parts]

    return record(out, (x, y), backward)


def _classes_last(a: np.ndarray) -> np.ndarray:
    return a if a.ndim <= 2 else np.moveaxis(a, 1, -1)


def _classes_second(a: np.ndarray) -> np.ndarray:
    return a if a.ndim <= 2 else np.moveaxis(a, -1, 1)


def _log_softmax_rows(logits: np.ndarray) -> np.ndarray:
    log_p = logits - logits.max(axis=1, keepdims=True, initial=-np.inf)
    log_p -= np.log(np.exp(log_p).sum(axis=1, keepdims=True))
    return log_p


def _of_classes(
    log_p: np.ndarray, target: np.ndarray, factors: np.ndarray | None, ignore_index: int, smoothing: float
) -> tuple[np.ndarray, Any, RowsBackward]:
    """Return for log_p (rows, C) and classes (rows,): the losses, what a mean divides them by, and their gradient."""
    count, classes = log_p.shape
    counted = target != ignore_index
    _require_classes(target[counted], classes)
    rows, picked = np.arange(count), np.where(counted, target, 0)
    weights = counted.astype(log_p.dtype) if factors is None else np.where(counted, factors[picked], 0)
    sharp = weights * (1 - smoothing)
    losses = np.where(counted, -log_p[rows, picked] * sharp, 0)
    even = np.full(classes, smoothing / classes, log_p.dtype) * (1 if factors is None else factors)
    if smoothing:
        losses -= np.where(counted, log_p @ even, 0)

    def backward(g: np.ndarray) -> tuple[np.ndarray, None]:
        mass = sharp + even.sum()  # of q in each row: softmax's gradient is (mass * p - q)
        by_logits = np.exp(log_p) * (g * mass)[:, None]
        by_logits[rows, picked] -= g * sharp
        if smoothing:
            by_logits -= g[:, None] * even
        by_logits[~counted] = 0  # also where the mean over nothing makes g NaN
        return by_logits, None

    return losses, weights.sum(), backward


def _of_probabilities(
    log_p: np.ndarray, target: np.ndarray, factors: np.ndarray | None, smoothing: float
) -> tuple[np.ndarray, int, RowsBackward]:
    """Return what `_of_classes` does, for probabilities (rows, C)."""
    count, classes = log_p.shape
    scale = (1 if factors is None else factors) * np.ones(classes, log_p.dtype)
    q = (target.astype(log_p.dtype, copy=False) * (1 - smoothing) + smoothing / max(classes, 1)) * scale
    losses = -np.where(q == 0, 0, q * log_p).sum(axis=1)

    def backward(g: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        each = g[:, None]
        by_target = -each * (1 - smoothing) * scale * log_p
        return each * (np.exp(log_p) * q.sum(axis=1, keepdims=True) - q), by_target

    return losses, count, backward


def _reduced(
    losses: np.ndarray, reduction: Reduction, count: Any
) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """Return the reduced losses and what turns their gradient into one that broadcasts to every loss."""
    if reduction == "none":
        return losses, lambda g: g
    if reduction == "sum":
        return losses.sum(), lambda g: g
    if reduction == "mean":
        divisor = np.asarray(count, losses.dtype)
        with np.errstate(invalid="ignore"):  # the mean over nothing is NaN
            return losses.sum() / divisor, lambda g: g / divisor
    raise ArgumentError(f"reduction is 'mean', 'sum' or 'none', not {reduction!r}.")


def _target_of_classes(x: Tensor, y: Tensor) -> bool:
    """Return whether target holds classes, not probabilities. Raises where it can be neither."""
    if x.ndim == 0:
        raise ShapeError("cross_entropy needs logits of shape (C,), (N, C) or (N, C, d...), not a single number.")
    without_classes = x.shape[:0] if x.ndim == 1 else (x.shape[0], *x.shape[2:])
    if y.shape == x.shape and y.dtype.kind not in "iub":
        return False
    if y.shape == without_classes and y.dtype.kind in "iu":
        return True
    raise (ShapeError if y.shape not in (x.shape, without_classes) else ArgumentError)(
        f"cross_entropy of an input {x.shape} takes integer classes of shape {without_classes} or float probabilities "
        f"of shape {x.shape}; this target is {y.dtype} of shape {y.shape}. "
        + (
            "Use target.long() or target.float()."
            if y.shape in (x.shape, without_classes)
            else "Use target.reshape(...)."
        )
    )


def _require_classes(target: np.ndarray, classes: int) -> None:
    wrong = target[(target < 0) | (target >= classes)]
    if wrong.size:
        raise ArgumentError(f"cross_entropy: class {wrong[0]} is out of range; the input has {classes} classes.")


def _require_same_shape(name: str, x: Tensor, y: Tensor) -> None:
    if x.shape == y.shape:
        return
    fix = "Make them one shape"
    if y.numel() == x.numel():
        fix = f"Use target.reshape{x.shape}"
        if x.shape == (*y.shape, 1):
            fix += f" or target.unsqueeze({y.ndim})"
    raise ShapeError(
        f"{name}: input {x.shape} and target {y.shape} differ; broadcasting them would average over the wrong pairs. "
        f"{fix}."
    )


def _broadcastable(name: str, value: Any, logits: np.ndarray) -> np.ndarray:
    """Return value, 1 if None, as an array that broadcasts to the logits in their dtype."""
    array = np.asarray(1 if value is None else value).astype(logits.dtype, copy=False)
    if not broadcasts_to(array.shape, logits.shape):
        raise ShapeError(f"{name} of shape {array.shape} does not broadcast to the input's {logits.shape}.")
    return array
