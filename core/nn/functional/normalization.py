"""Normalizations, each one operation, forward next to its gradient."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...autograd.dtypes import narrowed, widened
from ...autograd.reductions import sum_rows
from ...autograd.tensor import Tensor, record
from ...errors import ArgumentError, ShapeError

Statistics = Tensor | np.ndarray | None


def layer_norm(
    input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    """Normalize the last axes together to zero mean and unit variance, then scale and shift.

    input: (..., *normalized_shape) float.  weight, bias: normalized_shape, or None.  Returns the shape of input.
    Raises ShapeError if a shape does not fit.
    Source: Ba, Kiros and Hinton 2016, arXiv:1607.06450, eq. 4.
    """
    shape = _last_axes("layer_norm", input, normalized_shape, {"weight": weight, "bias": bias})
    arguments = {"normalized_shape": shape, "weight": weight, "bias": bias, "eps": eps}
    return _by_rows("layer_norm", input, math.prod(shape), arguments)


def rms_norm(
    input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, eps: float | None = None
) -> Tensor:
    """Divide the last axes by their root mean square, then scale; see `layer_norm`.

    eps: what to add to the mean square, by default the epsilon of the dtype.
    Source: Zhang and Sennrich 2019, arXiv:1910.07467, eq. 4.
    """
    shape = _last_axes("rms_norm", input, normalized_shape, {"weight": weight})
    least = float(np.finfo(widened(input._data).dtype).eps) if eps is None else eps
    arguments = {"normalized_shape": shape, "weight": weight, "bias": None, "eps": least}
    return _by_rows("rms_norm", input, math.prod(shape), arguments)


def group_norm(
    input: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """Normalize each group of channels of each example to zero mean and unit variance, then scale and shift channels.

    input: (N, C, *sizes) float.  weight, bias: (C,) or None.  Raises ShapeError if a shape or num_groups does not fit.
    Source: Wu and He 2018, arXiv:1803.08494, eq. 7.
    """
    if input.ndim < 2 or num_groups < 1 or input.shape[1] % num_groups:
        raise ShapeError(f"group_norm takes (N, C, *sizes) with C divisible by {num_groups} groups, not {input.shape}.")
    n, c, *sizes = input.shape
    _require_each("group_norm", input.shape, (c,), {"weight": weight, "bias": bias})
    arguments = {"num_groups": num_groups, "weight": weight, "bias": bias, "eps": eps}
    return _by_rows("group_norm", input, c // num_groups * math.prod(sizes), arguments, (n, c, math.prod(sizes)))


def instance_norm(
    input: Tensor, running_mean: Statistics = None, running_var: Statistics = None, weight: Tensor | None = None,
    bias: Tensor | None = None, use_input_stats: bool = True, momentum: float = 0.1, eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    """Normalize each channel of each example: `group_norm` with one channel a group.

    input: (N, C, *sizes).  The other tensors: (C,) or None.  use_input_stats=True moves the running statistics towards
    the mean over the examples; False normalizes with them, as `batch_norm`.
    Raises ShapeError if a shape does not fit, or if a channel has a single value.
    """
    if not use_input_stats:
        return batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    values = math.prod(input.shape[2:])
    if input.ndim < 3 or values < 2:
        raise ShapeError(f"instance_norm takes (N, C, *sizes) with more than one value a channel, not {input.shape}.")
    out = group_norm(input, input.shape[1], weight, bias, eps)
    if running_mean is not None and running_var is not None:
        a = widened(input._data).reshape(*input.shape[:2], values)
        _follow(running_mean, a.mean(axis=(0, 2)), momentum)
        _follow(running_var, a.var(axis=2, ddof=1).mean(axis=0), momentum)
    return out


def _by_rows(
    name: str, x: Tensor, features: int, arguments: Mapping[str, Any], view: tuple[int, ...] | None = None
) -> Tensor:
    """Record the normalization of rows of features.

    view: the shape in which they are scaled, (N, C, size), if the weight is not for the elements of a row.
    """
    weight, bias = arguments["weight"], arguments["bias"]
    rows = widened(x._data).reshape(x.numel() // max(features, 1), features)
    even = np.full(features, 1 / max(features, 1), rows.dtype)  # its product with a row is the mean
    is_centred = name != "rms_norm"
    normal = rows - rows.dot(even)[:, None] if is_centred else rows.copy()
    inverse_std = (1 / np.sqrt((normal * normal).dot(even) + arguments["eps"]))[:, None]
    normal *= inverse_std
    view, column = (normal.shape, (-1,)) if view is None else (view, (-1, 1))
    scale = None if weight is None else weight._data.reshape(column)
    out = normal.reshape(view).copy() if scale is None else normal.reshape(view) * scale
    if bias is not None:
        out += bias._data.reshape(column)

    def total(a: np.ndarray, like: Tensor) -> np.ndarray:
        return (sum_rows(a) if a.ndim == 2 else a.sum(axis=(0, 2))).reshape(like.shape)

    def backward(g: np.ndarray) -> list[np.ndarray | None]:
        g = widened(g).reshape(view)
        parts: list[np.ndarray | None] = [None]
        if x._requires_grad:
            h = (g.copy() if scale is None else g * scale).reshape(normal.shape)
            # Normalization removes the components of h along normal and, if it is centred, along the constant vector.
            along = (h * normal).dot(even)[:, None]
            if is_centred:
                h -= h.dot(even)[:, None]
            h -= normal * along
            h *= inverse_std
            parts = [h.reshape(x.shape)]
        if weight is not None:
            parts.append(total(g * normal.reshape(view), weight))
        if bias is not None:
            parts.append(total(g, bias))
        return parts

    operands = tuple(t for t in (x, weight, bias) if t is not None)
    return record(name, narrowed(out.reshape(x.shape), x), operands, backward, arguments)


def batch_norm(
    input: Tensor, running_mean: Statistics, running_var: Statistics, weight: Tensor | None = None,
    bias: Tensor | None = None, training: bool = False, momentum: float = 0.1, eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    """Normalize each channel to zero mean and unit variance, then scale and shift.

    input: (N, C, *sizes) float.  The other tensors: (C,) or None.  Returns the shape and dtype of input.
    training=True normalizes with the mean and biased variance of the batch and updates the running statistics in
    place: running = (1 - momentum) * running + momentum * batch, with the unbiased variance.  training=False
    normalizes with the running statistics.
    Raises ShapeError if a shape does not fit or a training batch has one value per channel.  Raises ArgumentError if
    training is False and there are no running statistics.
    Source: Ioffe and Szegedy 2015, arXiv:1502.03167, algorithms 1 and 2.
    """
    x = input
    if x.ndim < 2:
        raise ShapeError(f"batch_norm takes (N, C, *sizes), not {x.shape}.")
    given = {"running_mean": running_mean, "running_var": running_var, "weight": weight, "bias": bias}
    _require_each("batch_norm", x.shape, x.shape[1:2], given)
    axes, a = (0, *range(2, x.ndim)), widened(x._data)
    if training:
        mean, variance = _batch_statistics(a, axes, running_mean, running_var, momentum)
    elif running_mean is None or running_var is None:
        raise ArgumentError("batch_norm with training=False needs running_mean and running_var.")
    else:
        mean, variance = np.asarray(running_mean), np.asarray(running_var)
    column = (-1, *[1] * (x.ndim - 2))  # (C,) beside (N, C), (C, 1) beside (N, C, L)
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
            _follow(running, batch, momentum)
    return mean, variance


def _follow(running: Statistics, batch: np.ndarray, momentum: float) -> None:
    """Move running statistics towards those of a batch, in place."""
    array = np.asarray(running)  # for a Tensor, its own memory
    array += momentum * (batch - array)


def _last_axes(
    name: str, input: Tensor, normalized_shape: Sequence[int], given: dict[str, Statistics]
) -> tuple[int, ...]:
    shape = tuple(normalized_shape)
    if not shape or input.shape[-len(shape) :] != shape:
        raise ShapeError(f"{name} over {shape} needs an input (..., {', '.join(map(str, shape))}), not {input.shape}.")
    _require_each(name, input.shape, shape, given)
    return shape


def _require_each(name: str, of: tuple[int, ...], shape: tuple[int, ...], given: Mapping[str, Statistics]) -> None:
    for label, value in given.items():
        if value is not None and value.shape != shape:
            raise ShapeError(f"{name} of an input {of} needs {label} of shape {shape}, not {value.shape}.")
