"""The windows of an array (N, C, *sizes) along its last axes, and what lies in them.

A window starts every `stride` elements and holds `kernel` elements that are `dilation` apart. *K is the kernel and *O
the number of windows along each axis. A tap is one element of the kernel: a slice of the padded array that holds this
element of every window.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Concatenate, NamedTuple, ParamSpec, TypeVar

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ....autograd.tensor import Tensor
from ....errors import ArgumentError, ShapeError

Sizes = int | Sequence[int]
Given = ParamSpec("Given")
Returned = TypeVar("Returned")
NAMES = {1: "L", 2: "H, W", 3: "D, H, W"}


class Axis(NamedTuple):
    """The windows along one axis. before, after: the padding on both sides of its `size` elements."""

    size: int
    kernel: int
    stride: int
    dilation: int
    before: int
    after: int
    windows: int

    @property
    def inside(self) -> slice:
        """Where the axis itself is in the padded one."""
        return slice(self.before, self.before + self.size)

    def tap(self, k: int) -> slice:
        """Return where element k of each window is in the padded axis."""
        return slice(k * self.dilation, k * self.dilation + (self.windows - 1) * self.stride + 1, self.stride)

    def positions(self, k: int) -> np.ndarray:
        """Return the index of element k of each window in the axis itself; padding is outside of it."""
        return np.arange(self.windows) * self.stride + (k * self.dilation - self.before)


def by_dims(function: Callable[Concatenate[int, Given], Returned]) -> Iterator[Callable[Given, Returned]]:
    """Yield the variants for 1, 2 and 3 axes of a function, whose first argument is their number."""
    return (_variant(function, dims) for dims in (1, 2, 3))


def _variant(function: Callable[Concatenate[int, Given], Returned], dims: int) -> Callable[Given, Returned]:
    @functools.wraps(function)
    def variant(*args: Given.args, **kwargs: Given.kwargs) -> Returned:
        return function(dims, *args, **kwargs)

    variant.__name__ = variant.__qualname__ = f"{function.__name__.lstrip('_')}{dims}d"
    signature = inspect.signature(function)
    parameters = list(signature.parameters.values())[1:]
    variant.__signature__ = signature.replace(parameters=parameters)  # pyright: ignore[reportAttributeAccessIssue]
    return variant


def each(name: str, label: str, value: Sizes, dims: int, least: int | None = 1) -> tuple[int, ...]:
    """Return one int for each axis. Raises ArgumentError if there are not as many, or one is below least."""
    values = (value,) if isinstance(value, int | np.integer) else tuple(value)
    values = values * dims if len(values) == 1 else values
    if len(values) != dims or any(
        not isinstance(one, int | np.integer) or (least is not None and one < least) for one in values
    ):
        bound = "" if least is None else f" of at least {least}"
        raise ArgumentError(f"{name}: {label} must be an int{bound}, or {dims} of them, not {value!r}.")
    return tuple(map(int, values))


def axes_of(
    name: str, sizes: Sequence[int], kernel: Sequence[int], stride: Sequence[int], pads: Sequence[tuple[int, int]],
    dilation: Sequence[int], ceil_mode: bool = False,
) -> list[Axis]:  # fmt: skip
    """Return the windows along each axis. With ceil_mode, the last one may reach over the end if it starts before it.

    Raises ShapeError if no window fits.
    """
    axes = []
    for size, k, step, (before, after), d in zip(sizes, kernel, stride, pads, dilation, strict=True):
        span = d * (k - 1) + 1
        room = size + before + after - span
        count = (room + (step - 1 if ceil_mode else 0)) // step + 1
        count -= ceil_mode and (count - 1) * step >= size + before
        if (room < 0 and not ceil_mode) or count < 1:
            raise ShapeError(
                f"{name}: a window of {tuple(kernel)} with dilation {tuple(dilation)} does not fit into {tuple(sizes)} "
                f"with padding {list(pads)}. Use a smaller kernel, or more padding."
            )
        axes.append(Axis(size, k, step, d, before, max(after, (count - 1) * step + span - size - before), count))
    return axes


def batched(name: str, input: Tensor, a: np.ndarray, dims: int) -> np.ndarray:
    """Return the array of an input as (N, C, *sizes). Raises ShapeError unless it is that, or (C, *sizes)."""
    if a.ndim not in (dims + 1, dims + 2):
        raise ShapeError(f"{name} takes (N, C, {NAMES[dims]}) or (C, {NAMES[dims]}), not {input.shape}.")
    return a if a.ndim == dims + 2 else a[None]


def padded(a: np.ndarray, axes: Sequence[Axis], value: float = 0) -> np.ndarray:
    """Return a (N, C, *sizes) with value around it, or a itself if no axis is padded."""
    if not any(axis.before or axis.after for axis in axes):
        return a
    full = np.full((*a.shape[:2], *(axis.before + axis.size + axis.after for axis in axes)), value, a.dtype)
    full[(..., *(axis.inside for axis in axes))] = a
    return full


def taps(axes: Sequence[Axis]) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...]]]:
    """Yield the position of each tap in the kernel, and its slices of the last axes of a padded array."""
    for ks in itertools.product(*(range(axis.kernel) for axis in axes)):
        yield ks, tuple(axis.tap(k) for axis, k in zip(axes, ks, strict=True))


def columns(a: np.ndarray, axes: Sequence[Axis], groups: int = 1) -> np.ndarray:
    """Return the windows of a, with zeros around it, as columns: (N, groups, C / groups * prod(K), prod(O))."""
    a = padded(a, axes)
    n, c, *_ = a.shape
    shape = (n, c, *(axis.kernel for axis in axes), *(axis.windows for axis in axes))
    steps = [
        step * by
        for factors in ([axis.dilation for axis in axes], [axis.stride for axis in axes])
        for step, by in zip(a.strides[2:], factors, strict=True)
    ]
    windows = as_strided(a, shape, (*a.strides[:2], *steps), writeable=False)
    return windows.reshape(n, groups, c // groups * math.prod(shape[2 : 2 + len(axes)]), math.prod(shape[-len(axes) :]))


def sum_columns(parts: np.ndarray, axes: Sequence[Axis], c: int, n: int) -> np.ndarray:
    """Return columns (C, prod(K), prod(O), N), in any shape, summed where windows overlap: (N, C, *sizes).

    This is the transpose of `columns`. The batch is last, as NumPy adds long rows several times faster than short ones.
    """
    kernel, counts = [axis.kernel for axis in axes], [axis.windows for axis in axes]
    parts = parts.reshape(c, *kernel, *counts, n)
    full = np.zeros((c, *(axis.before + axis.size + axis.after for axis in axes), n), parts.dtype)
    for ks, where in taps(axes):
        full[(slice(None), *where)] += parts[(slice(None), *ks)]
    return np.ascontiguousarray(np.moveaxis(full[(slice(None), *(axis.inside for axis in axes))], -1, 0))


def covering(size: int, count: int) -> np.ndarray:
    """Return the positions in each of count windows that cover an axis: (count, longest); the last one is repeated."""
    starts = np.arange(count) * size // max(count, 1)
    lengths = -(-(np.arange(count) + 1) * size // max(count, 1)) - starts
    steps = np.arange(int(lengths.max(initial=0)))
    return starts[:, None] + np.minimum(steps, lengths[:, None] - 1)
