"""cross_entropy, which is softmax and negative log-likelihood as one operation, and nll_loss.

Internally logits are (C, rows), classes first: reductions over the classes then run along contiguous memory, which is
several times faster in NumPy than reducing many short rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ...arrays.silence import silently
from ...autograd.dtypes import narrowed, widened
from ...autograd.tensor import Tensor, as_tensor, derive, record
from ...errors import ArgumentError, ShapeError
from .losses import Old, Reduction, chosen, reduced

__all__ = ["cross_entropy", "nll_loss", "one_hot"]

# From the gradient of the losses (one for each row, or one for all) to that of the logits and, if any, of the targets.
RowsBackward = Callable[[Any], tuple[np.ndarray, "np.ndarray | None"]]


def cross_entropy(
    input: Tensor,
    target: Any,
    weight: Any = None,
    size_average: Old = None,
    ignore_index: int = -100,
    reduce: Old = None,
    reduction: Reduction = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Return -sum_c q_c log softmax(input)_c for each row, reduced; q is the target distribution over the classes.

    input: (C,), (N, C) or (N, C, d...) logits.  target: integer classes in the shape of input without C (rows whose
    class is ignore_index do not count), or float probabilities in the shape of input.
    weight: (C,) class weights, or None.  label_smoothing: the part of q that is spread evenly over all classes.
    "mean" divides by the sum of the weights of the target classes, or by the number of rows for probabilities.
    Raises ShapeError if target has another shape.  Raises ArgumentError if its dtype does not fit, a class is out of
    range, or ignore_index is 0 or more and target holds probabilities.
    Source of label smoothing: Szegedy et al. 2015, arXiv:1512.00567, section 7.
    """
    x, y, reduction = as_tensor(input), as_tensor(target), chosen(size_average, reduce, reduction)
    logits, truth = x._data, y._data
    of_classes = _target_of_classes("cross_entropy", logits, truth)
    if not 0 <= label_smoothing <= 1:
        raise ArgumentError(f"cross_entropy: label_smoothing must be between 0 and 1, not {label_smoothing}.")
    if not of_classes and ignore_index >= 0:
        raise ArgumentError(
            f"cross_entropy: ignore_index is {ignore_index}, but the target holds probabilities, not classes. "
            "Leave ignore_index out."
        )
    logits = widened(logits)
    factors = None if weight is None else _factors("cross_entropy", weight, logits)
    # Silently: a row of only -inf gives NaN, and so does 0 * inf.
    if of_classes:
        losses, count, by_row = silently(_of_classes, logits, truth, factors, ignore_index, label_smoothing)
    else:
        losses, count, by_row = silently(_of_probabilities, logits, truth, factors, label_smoothing)
    is_each = reduction == "none"
    if is_each:
        losses = losses.reshape(logits.shape[:1] + logits.shape[2:] if logits.ndim > 1 else ())
    out, per_row = reduced(losses, reduction, count)

    def backward(g: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        each = per_row(g)
        by_logits, by_truth = by_row(each.reshape(-1) if is_each else each)
        shape = logits.shape
        return _classes_second(by_logits, shape), None if by_truth is None else _classes_second(by_truth, shape)

    return record("cross_entropy", out if logits is x._data else narrowed(out, x), (x, y), backward)


def _factors(name: str, weight: Any, logits: np.ndarray) -> np.ndarray:
    """Return the class weights, (C,), in the dtype of the logits."""
    factors = np.asarray(weight).astype(logits.dtype, copy=False)
    classes = logits.shape[0 if logits.ndim == 1 else 1]
    if factors.shape != (classes,):
        raise ShapeError(f"{name}: weight has shape {factors.shape}; the input {logits.shape} has {classes} classes.")
    return factors


def _classes_first(a: np.ndarray) -> np.ndarray:
    """Return (C,), (N, C) or (N, C, d...) as (C, rows), contiguous."""
    if a.ndim == 2:
        return np.ascontiguousarray(a.T)
    if a.ndim == 1:
        return np.ascontiguousarray(a[:, None])
    return np.ascontiguousarray(np.moveaxis(a, 1, 0)).reshape(a.shape[1], a.shape[0] * math.prod(a.shape[2:]))


def _classes_second(part: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return (C, rows) in the shape of the argument of `_classes_first`."""
    if len(shape) == 2:
        return part.T
    if len(shape) == 1:
        return part.reshape(shape)
    return np.moveaxis(part.reshape(shape[1], shape[0], *shape[2:]), 0, 1)  # (C, N, d...) -> (N, C, d...)


def _softmax(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return shifted, raised (C, rows), total and log_total (rows,): softmax is raised / total.

    shifted: the logits minus the largest of their row; log softmax is shifted - log_total.
    """
    rows = _classes_first(logits)
    shifted = rows - np.maximum.reduce(rows, axis=0, initial=-np.inf)
    raised = np.exp(shifted)
    total = np.add.reduce(raised, axis=0)
    return shifted, raised, total, np.log(total)


def _of_classes(
    logits: np.ndarray, target: np.ndarray, factors: np.ndarray | None, ignore_index: int, smoothing: float
) -> tuple[np.ndarray, Any, RowsBackward]:
    """Return the losses (rows,) for a target of classes, the divisor of their mean, and their backward function."""
    shifted, raised, total, log_total = _softmax(logits)
    classes, rows = shifted.shape
    at, counted, weights = _picked("cross_entropy", shifted, target, factors, ignore_index)
    losses = log_total - shifted.reshape(-1)[at]
    sharp: Any = (1 - smoothing) * (1 if weights is None else weights)  # the part of q at the target class
    even: np.ndarray | None = None  # and the part of q at every class
    if weights is not None or smoothing:
        losses *= sharp
    if smoothing:
        even = np.full((classes, 1), smoothing / classes, shifted.dtype)
        even *= 1 if factors is None else factors[:, None]
        losses += even.sum() * log_total - even[:, 0].dot(shifted)
    if counted is not None:
        losses = np.where(counted, losses, 0)  # even where 0 * inf is NaN

    def backward(g: Any) -> tuple[np.ndarray, None]:
        mass = (
            sharp if even is None else sharp + even.sum()
        )  # the sum of q in each row: the gradient of the logits is mass * p - q
        by_logits = np.multiply(raised, g * mass / total, out=raised)  # raised is not needed again
        by_logits.reshape(-1)[at] -= g * sharp
        if even is not None:
            by_logits -= even * g
        if counted is not None:
            by_logits[:, ~counted] = 0  # even where g is NaN, for a mean over nothing
        return by_logits, None

    return losses, rows if weights is None else np.add.reduce(weights), backward


def nll_loss(
    input: Tensor,
    target: Any,
    weight: Any = None,
    size_average: Old = None,
    ignore_index: int = -100,
    reduce: Old = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """Return -weight[target] * input[target] for each row, reduced: `cross_entropy` of logarithms of probabilities.

    input: (C,), (N, C) or (N, C, d...).  The other arguments, the mean and the errors are those of `cross_entropy`.
    """
    x, y = as_tensor(input), as_tensor(target)
    a = widened(x._data)
    if not _target_of_classes("nll_loss", a, y._data):
        raise ArgumentError(f"nll_loss takes a target of integer classes, not {y.dtype}. Use cross_entropy.")
    factors, rows = None if weight is None else _factors("nll_loss", weight, a), _classes_first(a)
    at, counted, weights = _picked("nll_loss", rows, y._data, factors, ignore_index)
    losses = -rows.reshape(-1)[at]
    if weights is not None:
        losses = silently(np.multiply, losses, weights)
    if counted is not None:
        losses = np.where(counted, losses, 0)  # even where 0 * inf is NaN
    each_shape = a.shape[:1] + a.shape[2:] if a.ndim > 1 else ()
    count = losses.size if weights is None else np.add.reduce(weights)
    out, per_row = reduced(losses.reshape(each_shape), chosen(size_average, reduce, reduction), count)

    def backward(g: np.ndarray) -> tuple[np.ndarray, None]:
        each, part = per_row(g), np.zeros(rows.shape, rows.dtype)
        each = np.negative(each.reshape(-1) if isinstance(each, np.ndarray) else each)
        by_row = each if weights is None else each * weights
        part.reshape(-1)[at] = by_row if counted is None else np.where(counted, by_row, 0)
        return _classes_second(part, a.shape), None

    return record("nll_loss", narrowed(out, x), (x, y), backward)


def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """Return int64 (..., num_classes): 1 at the class of each element of tensor, 0 elsewhere.

    num_classes: -1 for one more than the largest class.  Raises ArgumentError if a class is no integer or out of range.
    """
    x = as_tensor(tensor)
    classes = int(x._data.max(initial=-1)) + 1 if num_classes == -1 else num_classes
    if x.dtype.kind not in "iu" or ((x._data < 0) | (x._data >= classes)).any() or classes < 1:
        raise ArgumentError(f"one_hot takes integers from 0 to below num_classes ({classes}), not {x.dtype} {x.shape}.")
    return derive("one_hot", np.equal(x._data[..., None], np.arange(classes)).astype(np.int64), (x,))


def _picked(
    name: str, rows: np.ndarray, target: np.ndarray, factors: np.ndarray | None, ignore_index: int
) -> tuple[np.ndarray, np.ndarray | None, Any]:
    """Return the position of the class of each row in the flat rows (C, rows), which rows count, and their weights.

    The mask and the weights are None if all rows count, or all have the weight 1.
    """
    classes, count = rows.shape
    counted, target = _counted(name, target.reshape(-1), classes, ignore_index)
    if count and not classes:
        raise ShapeError(f"{name}: the input ({count}, 0) has no classes.")
    # One index is several times faster than a pair.
    at = target.astype(np.intp, copy=False) * count + np.arange(count)
    weights: Any = None if factors is None else factors[target]
    if counted is not None:
        weights = counted.astype(rows.dtype) if weights is None else np.where(counted, weights, 0)
    return at, counted, weights


_UNSIGNED = {size: np.dtype(f"u{size}") for size in (1, 2, 4, 8)}


def _counted(name: str, target: np.ndarray, classes: int, ignore_index: int) -> tuple[np.ndarray | None, np.ndarray]:
    """Return the mask of the rows that count (None if all do), and the classes, 0 in the others.

    Raises ArgumentError if a class is out of range.
    """
    # Viewed as unsigned, negative numbers are the largest: one maximum finds everything out of range.
    largest = np.maximum.reduce(target.view(_UNSIGNED[target.itemsize]), initial=0)
    if largest < classes and not 0 <= ignore_index < classes:
        return None, target
    counted = target != ignore_index
    wrong = target[counted & ((target < 0) | (target >= classes))]
    if wrong.size:
        raise ArgumentError(f"{name}: class {wrong[0]} is out of range; the input has {classes} classes.")
    return counted, np.where(counted, target, 0)


def _of_probabilities(
    logits: np.ndarray, target: np.ndarray, factors: np.ndarray | None, smoothing: float
) -> tuple[np.ndarray, int, RowsBackward]:
    """Return the same as `_of_classes`, for a target of probabilities."""
    shifted, raised, total, log_total = _softmax(logits)
    classes, rows = shifted.shape
    log_p = shifted - log_total
    scale = np.ones((classes, 1), log_p.dtype) if factors is None else factors[:, None]
    q = (_classes_first(target).astype(log_p.dtype, copy=False) * (1 - smoothing) + smoothing / max(classes, 1)) * scale
    losses = -np.where(q == 0, 0, q * log_p).sum(axis=0)

    def backward(g: Any) -> tuple[np.ndarray, np.ndarray]:
        by_target = -g * (1 - smoothing) * scale * log_p
        return raised * (g * q.sum(axis=0) / total) - g * q, by_target

    return losses, rows, backward


def _target_of_classes(name: str, x: np.ndarray, y: np.ndarray) -> bool:
    """Return True if the target y of logits x holds classes, False if it holds probabilities.

    Raises ShapeError or ArgumentError if it can be neither.
    """
    if x.ndim == 0:
        raise ShapeError(f"{name} needs an input of shape (C,), (N, C) or (N, C, d...), not a single number.")
    without_classes = () if x.ndim == 1 else x.shape[:1] + x.shape[2:]
    if y.shape == without_classes and y.dtype.kind in "iu":
        return True
    if y.shape == x.shape and y.dtype.kind not in "iub":
        return False
    raise (ShapeError if y.shape not in (x.shape, without_classes) else ArgumentError)(
        f"{name} of an input {x.shape} takes integer classes of shape {without_classes} or float probabilities "
        f"of shape {x.shape}; this target is {y.dtype} of shape {y.shape}. "
        + (
            "Use target.long() or target.float()."
            if y.shape in (x.shape, without_classes)
            else "Use target.reshape(...)."
        )
    )
