"""Layer and batch normalization, each one operation, forward next to its gradient."""

from __future__ import annotations

import math

import numpy as np

from ...autograd.dtypes import narrowed, widened
from ...autograd.reductions import sum_rows
from ...autograd.tensor import Tensor, record
from ...errors import ArgumentError, ShapeError

Statistics = Tensor | np.ndarray | None


def layer_norm(x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5) -> Tensor:
    """Normalize the last axis to zero mean and unit variance, then scale and shift.

    x: (..., features) float.  weight, bias: (features,) or None.  Returns the shape and dtype of x.
    Raises ShapeError if weight or bias is not (features,).
    Source: Ba, Kiros and Hinton 2016, arXiv:1607.06450, eq. 4.
    """
    if x.ndim == 0:
        raise ShapeError("layer_norm needs an axis of features; the input is a single number.")
    shape, features = x.shape, x.shape[-1]
    _require_each("layer_norm", shape, features, {"weight": weight, "bias": bias})
    rows = widened(x._data).reshape(math.prod(shape[:-1]), features)
    even = np.full(features, 1 / max(features, 1), rows.dtype)  # its product with a row is the mean
    normal = rows - rows.dot(even)[:, None]
    inverse_std = (1 / np.sqrt((normal * normal).dot(even) + eps))[:, None]
    normal *= inverse_std
    out = normal.copy() if weight is None else normal * weight._data
    if bias is not None:
        out += bias._data

    def backward(g: np.ndarray) -> list[np.ndarray | None]:
        g = widened(g).reshape(normal.shape)
        parts: list[np.ndarray | None] = [None]
        if x._requires_grad:
            h = g.copy() if weight is None else g * weight._data
            # Normalization removes the components of h along the constant vector and along normal.
            along = (h * normal).dot(even)[:, None]
            h -= h.dot(even)[:, None]
            h -= normal * along
            h *= inverse_std
            parts = [h.reshape(shape)]
        if weight is not None:
            parts.append(sum_rows(g * normal))
        if bias is not None:
            parts.append(sum_rows(g))
        return parts

    operands = tuple(t for t in (x, weight, bias) if t is not None)
    arguments = {"weight": weight, "bias": bias, "eps": eps}
    return record("layer_norm", narrowed(out.reshape(shape), x), operands, backward, arguments)


def batch_norm(
    x: Tensor,
    running_mean: Statistics,
    running_var: Statistics,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalize each channel to zero mean and unit variance, then scale and shift.

    x: (N, C) or (N, C, L) float.  The other tensors: (C,) or None.  Returns the shape and dtype of x.
    training=True normalizes with the mean and biased variance of the batch and updates the running statistics in
    place: running = (1 - momentum) * running + momentum * batch, with the unbiased variance.  training=False
    normalizes with the running statistics.
    Raises ShapeError if a shape does not fit or a training batch has one value per channel.  Raises ArgumentError if
    training is False and there are no running statistics.
    Source: Ioffe and Szegedy 2015, arXiv:1502.03167, algorithms 1 and 2.
    """
    if x.ndim not in (2, 3):
        raise ShapeError(f"batch_norm takes (N, C) or (N, C, L), not {x.shape}.")
    given = {"running_mean": running_mean, "running_var": running_var, "weight": weight, "bias": bias}
    _require_each("batch_norm", x.shape, x.shape[1], given)
    axes, a = (0,) if x.ndim == 2 else (0, 2), widened(x._data)
    if training:
        mean, variance = _batch_statistics(a, axes, running_mean, running_var, momentum)
    elif running_mean is None or running_var is None:
        raise ArgumentError("batch_norm with training=False needs running_mean and running_var.")
    else:
        mean, variance = np.asarray(running_mean), np.asarray(running_var)
    column = (-1,) if x.ndim == 2 else (-1, 1)  # (C,) beside (N, C), (C, 1) beside (N, C, L)
    inverse_std = (1 / np.sqrt(variance + eps)).astype(a.dtype, copy=False).reshape(column)
    normal = (a - mean.astype(a.dtype, copy=False).reshape(column)) * inverse_std
    scale = None if weight is None else weight._data.reshape(column)
    out = normal if scale is None else normal * scale
    if bias is not None:
        out = out + bias._data.reshape(column)

    def backward(g: np.ndarray) -> list[np.ndarray | None]:
        g = widened(g)
        parts: list[np.ndarray | None] = [None]
        if x._requires_grad:
            h = g if scale is None else g * scale
            if training:  # otherwise mean and variance do not depend on x
                along = (h * normal).mean(axis=axes, keepdims=True)
                h = h - h.mean(axis=axes, keepdims=True) - normal * along
            parts = [h * inverse_std]
        if weight is not None:
            parts.append((g * normal).sum(axis=axes))
        if bias is not None:
            parts.append(g.sum(axis=axes))
        return parts

    operands = tuple(t for t in (x, weight, bias) if t is not None)
    return record("batch_norm", narrowed(out, x), operands, backward, {**given, "training": training, "eps": eps})


def _batch_statistics(
    a: np.ndarray, axes: tuple[int, ...], running_mean: Statistics, running_var: Statistics, momentum: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and biased variance of the batch. Update the running statistics in place."""
    count = math.prod(a.shape[axis] for axis in axes)
    if count < 2:
        raise ShapeError(
            f"batch_norm in training needs more than one value per channel; the batch is {a.shape}. "
            "Use a larger batch, or call model.eval() first."
        )
    mean, variance = a.mean(axis=axes), a.var(axis=axes)
    for running, batch in ((running_mean, mean), (running_var, variance * (count / (count - 1)))):
        if running is not None:
            array = np.asarray(running)  # for a Tensor, its own memory
            array += momentum * (batch - array)
    return mean, variance


def _require_each(name: str, shape: tuple[int, ...], features: int, given: dict[str, Statistics]) -> None:
    for label, value in given.items():
        if value is not None and value.shape != (features,):
            raise ShapeError(f"{name} of an input {shape} needs {label} of shape ({features},), not {value.shape}.")
