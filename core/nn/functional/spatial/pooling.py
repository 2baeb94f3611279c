"""The largest value or the mean of each window."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ....autograd.dtypes import narrowed, widened
from ....autograd.tensor import Tensor, as_tensor, derive, record
from ....errors import ArgumentError
from .resizing import mean_matrix, separable
from .windows import Axis, Sizes, axes_of, batched, by_dims, covering, each, padded, taps


def _max_pool(
    dims: int, input: Tensor, kernel_size: Sizes, stride: Sizes | None = None, padding: Sizes = 0,
    dilation: Sizes = 1, ceil_mode: bool = False, return_indices: bool = False,
) -> Any:  # fmt: skip
    """Return the largest value of each window; with return_indices also its position in the flattened sizes of input.

    input: (N, C, *sizes) or (C, *sizes).  stride: kernel_size by default.  padding: on both sides, never chosen.
    The first of equal values is chosen, and gets the gradient.
    Raises ShapeError if no window fits.  Raises ArgumentError if an option is invalid.
    """
    name, input = f"max_pool{dims}d", as_tensor(input)
    axes, arguments = _axes(name, input, dims, kernel_size, stride, padding, dilation, ceil_mode)
    kind, dtype = input.dtype.kind, input.dtype
    lowest = np.iinfo(dtype).min if kind in "iu" else False if kind == "b" else -np.inf
    a = padded(batched(name, input, input._data, dims), axes, lowest)
    found = [(where, [axis.positions(k) for axis, k in zip(axes, ks, strict=True)]) for ks, where in taps(axes)]
    return _largest(name, input, a, found, return_indices, arguments)


def _adaptive_max_pool(dims: int, input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """Return the largest value of each of output_size windows, which cover the input; see `_max_pool`.

    output_size: an int or one for each axis; None keeps the size of an axis.
    """
    name, input = f"adaptive_max_pool{dims}d", as_tensor(input)
    a = batched(name, input, input._data, dims)
    counts = output_sizes(name, output_size, a.shape[2:])
    places = [covering(size, count) for size, count in zip(a.shape[2:], counts, strict=True)]
    found = []
    for ks in np.ndindex(*(place.shape[1] for place in places)):
        at = [place[:, k] for place, k in zip(places, ks, strict=True)]
        found.append((np.ix_(*at), at))
    return _largest(name, input, a, found, return_indices, {"output_size": counts})


def _avg_pool(
    dims: int, input: Tensor, kernel_size: Sizes, stride: Sizes | None = None, padding: Sizes = 0,
    ceil_mode: bool = False, count_include_pad: bool = True, divisor_override: int | None = None,
) -> Tensor:  # fmt: skip
    """Return the mean of each window.

    input: (N, C, *sizes) or (C, *sizes).  stride: kernel_size by default.  padding: zeros on both sides, which
    count_include_pad=False leaves out of the mean.  divisor_override: what to divide the sum by instead.
    Raises ShapeError if no window fits.  Raises ArgumentError if an option is invalid.
    """
    name, input = f"avg_pool{dims}d", as_tensor(input)
    axes, arguments = _axes(name, input, dims, kernel_size, stride, padding, 1, ceil_mode)
    a = padded(batched(name, input, widened(input._data), dims), axes)
    pads = arguments["padding"] if count_include_pad else (0,) * dims
    sizes = np.ix_(*(_elements(axis, pad) for axis, pad in zip(axes, pads, strict=True)))
    divisor = np.asarray(math.prod(sizes) if divisor_override is None else divisor_override, a.dtype)
    total = np.zeros((*a.shape[:2], *(axis.windows for axis in axes)), a.dtype)
    for _, where in taps(axes):
        total += a[(..., *where)]
    total /= divisor

    def backward(g: np.ndarray) -> tuple[np.ndarray]:
        full, part = np.zeros(a.shape, a.dtype), widened(g).reshape(total.shape) / divisor
        for _, where in taps(axes):
            full[(..., *where)] += part
        return (full[(..., *(axis.inside for axis in axes))].reshape(input.shape),)

    out = narrowed(total.reshape(*input.shape[:-dims], *total.shape[2:]), input)
    more = {"count_include_pad": count_include_pad, "divisor_override": divisor_override}
    return record(name, out, (input,), backward, {**arguments, **more})


def _adaptive_avg_pool(dims: int, input: Tensor, output_size: Any) -> Tensor:
    """Return the mean of each of output_size windows, which cover the input (N, C, *sizes) or (C, *sizes).

    output_size: an int or one for each axis; None keeps the size of an axis.
    """
    name, input = f"adaptive_avg_pool{dims}d", as_tensor(input)
    sizes = batched(name, input, input._data, dims).shape[2:]
    counts = output_sizes(name, output_size, sizes)
    matrices = [mean_matrix(size, count) for size, count in zip(sizes, counts, strict=True)]
    return separable(input, matrices, name, {"output_size": counts})


max_pool1d, max_pool2d, max_pool3d = by_dims(_max_pool)
avg_pool1d, avg_pool2d, avg_pool3d = by_dims(_avg_pool)
adaptive_max_pool1d, adaptive_max_pool2d, adaptive_max_pool3d = by_dims(_adaptive_max_pool)
adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d = by_dims(_adaptive_avg_pool)


def output_sizes(name: str, given: Any, sizes: Sequence[int]) -> tuple[int, ...]:
    """Return the size of each axis of a result; None in given keeps a size."""
    listed = given if isinstance(given, tuple | list) else (given,) * len(sizes)
    kept = [size if one is None else one for one, size in zip(listed, sizes, strict=False)]
    return each(name, "output_size", kept if len(listed) == len(sizes) else listed, len(sizes), 0)


def _axes(
    name: str, input: Tensor, dims: int, kernel_size: Sizes, stride: Sizes | None, padding: Sizes, dilation: Sizes,
    ceil_mode: bool,
) -> tuple[list[Axis], dict[str, Any]]:  # fmt: skip
    """Return the windows of a pooling, and the arguments that determine them."""
    kernel, pads = each(name, "kernel_size", kernel_size, dims), each(name, "padding", padding, dims, 0)
    steps = kernel if stride is None or stride == () else each(name, "stride", stride, dims)
    spread = each(name, "dilation", dilation, dims)
    if any(2 * pad > d * (k - 1) + 1 for pad, k, d in zip(pads, kernel, spread, strict=True)):
        raise ArgumentError(f"{name}: padding {pads} must be at most half of the window {kernel}.")
    sizes = batched(name, input, input._data, dims).shape[2:]
    axes = axes_of(name, sizes, kernel, steps, [(pad, pad) for pad in pads], spread, ceil_mode)
    around = [(axis.before, axis.after) for axis in axes]
    named = {
        "pads": around,
        "kernel_size": kernel,
        "stride": steps,
        "padding": pads,
        "dilation": spread,
        "ceil_mode": ceil_mode,
    }
    return axes, named


def _elements(axis: Axis, pad: int) -> np.ndarray:
    """Return how many elements of each window are in the axis or in its padding of pad elements."""
    starts = axis.positions(0)
    return np.minimum(starts + axis.kernel, axis.size + pad) - np.maximum(starts, -pad)


def _largest(
    name: str, input: Tensor, a: np.ndarray, found: Sequence[tuple[tuple[Any, ...], Sequence[np.ndarray]]],
    return_indices: bool, arguments: Mapping[str, Any],
) -> Any:  # fmt: skip
    """Record the largest values over taps of a. found: the index of each tap, and its positions along each axis."""
    dims, sizes = len(found[0][1]), input.shape[-len(found[0][1]) :]
    out = a[(..., *found[0][0])].copy()
    for where, _ in found[1:]:
        np.maximum(out, a[(..., *where)], out=out)

    def positions() -> np.ndarray:
        chosen, has_nan = np.zeros(out.shape, np.int64), (out != out).any()
        for where, at in reversed(found):
            value, inside = a[(..., *where)], True
            for place, size in zip(np.ix_(*at), sizes, strict=True):
                inside = inside & (place >= 0) & (place < size)
            equal = (value == out) & inside
            if has_nan:
                equal |= (value != value) & inside
            flat = np.ravel_multi_index(np.ix_(*at), sizes, mode="clip")
            np.copyto(chosen, flat, where=equal)
        return chosen

    def backward(g: np.ndarray) -> tuple[np.ndarray]:
        planes, plane = math.prod(out.shape[:2]), math.prod(sizes)
        full = np.zeros(planes * plane, widened(g).dtype)
        offsets = np.arange(planes).reshape(*out.shape[:2], *[1] * dims) * plane
        np.add.at(full, (positions() + offsets).reshape(-1), widened(g).reshape(-1))
        return (full.reshape(input.shape),)

    shape = (*input.shape[:-dims], *out.shape[2:])
    values = record(name, out.reshape(shape), (input,), backward, arguments)
    return (values, derive(f"{name} indices", positions().reshape(shape), (input,))) if return_indices else values
