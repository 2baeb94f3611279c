"""Padding and resizing: linear maps along each axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ....autograd.dtypes import narrowed, widened
from ....autograd.tensor import Number, Tensor, as_tensor, record
from ....errors import ArgumentError, ShapeError
from .windows import covering

# How many axes each mode of interpolate resizes; None for any number.
_MODES = {
    "nearest": None,
    "nearest-exact": None,
    "area": None,
    "linear": 1,
    "bilinear": 2,
    "bicubic": 2,
    "trilinear": 3,
}


def pad(input: Tensor, pad: Sequence[int], mode: str = "constant", value: Number | None = None) -> Tensor:
    """Return input with more elements around it, or fewer where pad is negative.

    pad: (before, after) of the last axis, then of the one before it, and so on.  mode: "constant" for value, 0 by
    default; "reflect" without and "replicate" with the edge repeated; "circular" for those of the other end.
    Raises ArgumentError if pad or mode is invalid.  Raises ShapeError if input is too small.
    """
    input, shape, ends = as_tensor(input), as_tensor(input).shape, tuple(int(one) for one in pad)
    pairs = list(zip(ends[::2], ends[1::2], strict=False))[::-1]
    if len(ends) % 2 or len(pairs) > len(shape) or mode not in ("constant", *_PLACES):
        raise ArgumentError(
            f"pad: {ends} with mode {mode!r} does not fit a shape {shape}. Give two numbers for each of the last axes, "
            f"and one of the modes constant, {', '.join(_PLACES)}."
        )
    sizes = shape[len(shape) - len(pairs) :]
    most = {"reflect": -1, "circular": 0}.get(mode)
    for size, pair in zip(sizes, pairs, strict=True):
        if size + sum(pair) < 0 or (most is not None and max(pair) > size + most) or (mode == "replicate" and not size):
            raise ShapeError(f"pad: {ends} with mode {mode!r} does not fit a shape {shape}: an axis is too small.")
    arguments = {"pad": ends, "mode": mode, "value": value}
    if mode != "constant":
        places = [_PLACES[mode](*ends, n) for ends, n in zip(pairs, sizes, strict=True)]
        return _taken(input, places, "pad", arguments)
    a = input._data
    of = (..., *(slice(max(-low, 0), n - max(-high, 0)) for (low, high), n in zip(pairs, sizes, strict=True)))
    into = (..., *(slice(max(low, 0), n + low + min(high, 0)) for (low, high), n in zip(pairs, sizes, strict=True)))
    grown = [n + low + high for (low, high), n in zip(pairs, sizes, strict=True)]
    out = np.full((*shape[: len(shape) - len(pairs)], *grown), 0 if value is None else value, a.dtype)
    out[into] = a[of]

    def backward(g: np.ndarray) -> tuple[np.ndarray]:
        full = np.zeros(shape, g.dtype)
        full[of] = g[into]
        return (full,)

    return record("pad", out, (input,), backward, arguments)


def _reflected(low: int, high: int, n: int) -> np.ndarray:
    return n - 1 - np.abs(n - 1 - np.abs(np.arange(-low, n + high)))


def _wrapped(low: int, high: int, n: int) -> np.ndarray:
    first = max(-low, 0)  # what a negative pad cuts off is not there to be repeated
    kept = n - first - max(-high, 0)
    return first + np.arange(-low - first, n + high - first) % max(kept, 1)


# The functions of (before, after, size) that return where each element of a padded axis comes from.
_PLACES = {
    "reflect": _reflected,
    "replicate": lambda low, high, n: np.clip(np.arange(-low, n + high), 0, n - 1),
    "circular": _wrapped,
}


def interpolate(
    input: Tensor, size: int | Sequence[int] | None = None, scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest", align_corners: bool | None = None, recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:  # fmt: skip
    """Return input (N, C, *sizes) resized to size, or by scale_factor.

    mode: "nearest", "nearest-exact", "area", or for 1, 2 or 3 axes "linear", "bilinear" or "bicubic", "trilinear".
    align_corners: whether the centres of the corners keep their places, rather than the corners of the image.
    Raises ArgumentError if an option is invalid.  Raises ShapeError if the mode is for another number of axes.
    """
    input = as_tensor(input)
    sizes = input.shape[2:]
    if mode not in _MODES or (size is None) == (scale_factor is None) or antialias:
        raise ArgumentError(
            f"interpolate: needs a size or a scale_factor, a mode of {', '.join(_MODES)}, and no antialias. "
            f"They are {size}, {scale_factor}, {mode!r} and {antialias}."
        )
    if align_corners is not None and mode in ("nearest", "nearest-exact", "area"):
        raise ArgumentError(f"interpolate: mode {mode!r} has no align_corners. Leave it out.")
    if not sizes or _MODES[mode] not in (None, len(sizes)):
        raise ShapeError(f"interpolate: mode {mode!r} does not fit a shape {input.shape}.")
    given: Any = size if scale_factor is None else scale_factor
    each = tuple(given) if isinstance(given, Sequence) else (given,) * len(sizes)
    if len(each) != len(sizes):
        raise ArgumentError(f"interpolate: {given} must be one number, or one for each of {tuple(sizes)}.")
    counts = [int(one if scale_factor is None else n * one) for one, n in zip(each, sizes, strict=True)]
    if min(counts) < 1 or min(sizes) < 1:
        raise ShapeError(f"interpolate: {tuple(sizes)} cannot be resized to {tuple(counts)}.")
    is_exact = scale_factor is None or recompute_scale_factor
    ratios = [n / count if is_exact else 1 / one for n, count, one in zip(sizes, counts, each, strict=True)]
    arguments = {"size": size, "scale_factor": scale_factor, "mode": mode, "align_corners": align_corners}
    arguments["recompute_scale_factor"] = recompute_scale_factor
    if mode.startswith("nearest"):
        half = 0.5 if mode == "nearest-exact" else 0.0
        steps = [(np.arange(count) + np.float32(half)) * np.float32(r) for count, r in zip(counts, ratios, strict=True)]
        places = [np.minimum(step.astype(np.int64), n - 1) for step, n in zip(steps, sizes, strict=True)]
        return _taken(input, places, "interpolate", arguments)
    if mode == "area":
        matrices = [mean_matrix(n, count) for n, count in zip(sizes, counts, strict=True)]
    else:
        options = mode == "bicubic", bool(align_corners)
        matrices = [_weights(n, count, r, *options) for n, count, r in zip(sizes, counts, ratios, strict=True)]
    return separable(input, matrices, "interpolate", arguments)


def _weights(size: int, count: int, ratio: float, is_cubic: bool, align_corners: bool) -> np.ndarray:
    """Return the matrix (count, size) that interpolates along one axis.

    Source of the cubic one: Keys 1981, IEEE TASSP 29, 1153-1160, eq. 4 with a = -0.75, as in torch.
    """
    numbers, a = np.arange(count), -0.75
    at = numbers * ((size - 1) / max(count - 1, 1)) if align_corners else (numbers + 0.5) * ratio - 0.5
    at = at if is_cubic else np.maximum(at, 0)
    first = np.floor(at).astype(np.int64)
    t = at - first
    parts = {0: 1 - t, 1: t}
    if is_cubic:
        near = {0: t, 1: 1 - t}  # the distances to the inner two
        parts = {k: ((a + 2) * d - (a + 3)) * d * d + 1 for k, d in near.items()}
        parts |= {k: ((a * d - 5 * a) * d + 8 * a) * d - 4 * a for k, d in {-1: 1 + t, 2: 2 - t}.items()}
    matrix = np.zeros((count, size))
    for offset, weight in parts.items():
        np.add.at(matrix, (numbers, np.clip(first + offset, 0, size - 1)), weight)
    return matrix


def mean_matrix(size: int, count: int) -> np.ndarray:
    """Return the matrix (count, size) of the means of windows that cover an axis."""
    places, positions = covering(size, count), np.arange(size)
    covers = (places[:, :1] <= positions) & (positions <= places[:, -1:])
    return covers / np.maximum(covers.sum(axis=1, keepdims=True), 1)


def separable(input: Tensor, matrices: Sequence[np.ndarray], name: str, arguments: Mapping[str, Any]) -> Tensor:
    """Record the product of each of the last axes of input with a matrix (new size, size)."""
    a, transposed = widened(input._data), [matrix.T for matrix in matrices]
    out = narrowed(_along_axes(a, matrices), input)
    return record(
        name, out, (input,), lambda g: (_along_axes(widened(g), transposed),), {**arguments, "matrices": matrices}
    )


def _taken(input: Tensor, places: Sequence[np.ndarray], name: str, arguments: Mapping[str, Any]) -> Tensor:
    """Record the elements at places along each of the last axes of input."""
    sizes = input.shape[input.ndim - len(places) :]
    transposed = [(at[:, None] == np.arange(n)).T for at, n in zip(places, sizes, strict=True)]
    out = input._data[(..., *np.ix_(*places))]
    return record(
        name, out, (input,), lambda g: (_along_axes(widened(g), transposed),), {**arguments, "places": places}
    )


def _along_axes(a: np.ndarray, matrices: Sequence[np.ndarray]) -> np.ndarray:
    for axis, matrix in enumerate(matrices, a.ndim - len(matrices)):
        a = np.moveaxis(np.tensordot(a, matrix.astype(a.dtype), (axis, 1)), -1, axis)
    return np.ascontiguousarray(a)


def pixel_shuffle(input: Tensor, upscale_factor: int) -> Tensor:
    """Return (..., C r r, H, W) as (..., C, H r, W r): r * r channels become the pixels of a square.

    Source: Shi et al. 2016, arXiv:1609.05158, eq. 4.
    """
    r, (*batch, c, h, w) = upscale_factor, _image("pixel_shuffle", input)
    if r < 1 or c % (r * r):
        raise ShapeError(f"pixel_shuffle by {r} needs a multiple of {r * r} channels, not {input.shape}.")
    n = len(batch)
    split = input.reshape(*batch, c // (r * r), r, r, h, w).permute(*range(n), n, n + 3, n + 1, n + 4, n + 2)
    return split.reshape(*batch, c // (r * r), h * r, w * r)


def pixel_unshuffle(input: Tensor, downscale_factor: int) -> Tensor:
    """Return (..., C, H r, W r) as (..., C r r, H, W), the inverse of `pixel_shuffle`."""
    r, (*batch, c, h, w) = downscale_factor, _image("pixel_unshuffle", input)
    if r < 1 or h % r or w % r:
        raise ShapeError(f"pixel_unshuffle by {r} needs sizes that are multiples of {r}, not {input.shape}.")
    n = len(batch)
    split = input.reshape(*batch, c, h // r, r, w // r, r).permute(*range(n), n, n + 2, n + 4, n + 1, n + 3)
    return split.reshape(*batch, c * r * r, h // r, w // r)


def _image(name: str, input: Tensor) -> tuple[int, ...]:
    if input.ndim < 3:
        raise ShapeError(f"{name} takes (..., C, H, W), not {input.shape}.")
    return input.shape
