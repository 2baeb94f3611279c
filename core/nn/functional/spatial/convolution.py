"""Convolutions over any number of axes: the windows as the columns of a matrix, and one product with the weight.

The weight is a matrix (groups, A / groups, B / groups * prod(K)). A convolution takes B channels to A, a transposed one
A to B, and each is the gradient of the other for its input.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ....autograd.dtypes import narrowed, widened
from ....autograd.tensor import Tensor, as_tensor, record
from ....errors import ArgumentError, ShapeError
from .windows import Axis, Sizes, axes_of, batched, by_dims, columns, each, sum_columns


def _conv(
    dims: int, input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Sizes = 1, padding: Sizes | str = 0,
    dilation: Sizes = 1, groups: int = 1,
) -> Tensor:  # fmt: skip
    """Return the cross-correlation of the windows of input with weight, plus bias.

    input: (N, C, *sizes) or (C, *sizes).  weight: (out, C / groups, *K).  bias: (out,).  padding: zeros on both sides,
    "valid" for none, or "same" for as many as keep the size.
    Raises ShapeError if shapes do not fit.  Raises ArgumentError if an option is invalid.
    """
    name, input = f"conv{dims}d", as_tensor(input)
    x, w = batched(name, input, widened(input._data), dims), widened(weight._data)
    is_fit = w.ndim == dims + 2 and groups > 0 and len(w) % groups == 0 and w.shape[1] * groups == x.shape[1]
    _require(is_fit and (bias is None or bias.shape == w.shape[:1]), name, input, weight, bias, groups)
    steps, spread = each(name, "stride", stride, dims), each(name, "dilation", dilation, dims)
    pads = pads_of(name, padding, w.shape[2:], steps, spread)
    axes = axes_of(name, x.shape[2:], w.shape[2:], steps, pads, spread)
    arguments = {"stride": steps, "padding": padding, "pads": pads, "dilation": spread, "groups": groups}
    return _product(False, (name, arguments), (input, weight, bias), x, w, axes)


def _conv_transpose(
    dims: int, input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Sizes = 1, padding: Sizes = 0,
    output_padding: Sizes = 0, groups: int = 1, dilation: Sizes = 1,
) -> Tensor:  # fmt: skip
    """Return the transpose of a convolution: input is the gradient of its output, and gives that of its input.

    input: (N, C, *sizes) or (C, *sizes).  weight: (C, out / groups, *K).  bias: (out,).  output_padding: how many more
    elements the result has at the end, because several sizes have the same number of windows.
    Raises ShapeError if shapes do not fit.  Raises ArgumentError if an option is invalid.
    """
    name, input = f"conv_transpose{dims}d", as_tensor(input)
    x, w = batched(name, input, widened(input._data), dims), widened(weight._data)
    is_fit = w.ndim == dims + 2 and groups > 0 and len(w) % groups == 0 and len(w) == x.shape[1]
    _require(is_fit and (bias is None or bias.shape == (w.shape[1] * groups,)), name, input, weight, bias, groups)
    steps, spread = each(name, "stride", stride, dims), each(name, "dilation", dilation, dims)
    pads, more = each(name, "padding", padding, dims, 0), each(name, "output_padding", output_padding, dims, 0)
    if any(extra >= max(step, d) for extra, step, d in zip(more, steps, spread, strict=True)):
        raise ArgumentError(f"{name}: output_padding {more} must be below the stride {steps} or dilation {spread}.")
    axes = []
    for count, k, step, d, pad, extra in zip(x.shape[2:], w.shape[2:], steps, spread, pads, more, strict=True):
        axes.append(Axis((count - 1) * step + d * (k - 1) + 1 + extra - 2 * pad, k, step, d, pad, pad, count))
    if any(axis.size < 1 for axis in axes):
        raise ShapeError(f"{name}: the padding {pads} leaves nothing of {[axis.size for axis in axes]}. Use less.")
    arguments = {"stride": steps, "padding": pads, "output_padding": more, "dilation": spread, "groups": groups}
    return _product(True, (name, arguments), (input, weight, bias), x, w, axes)


conv1d, conv2d, conv3d = by_dims(_conv)
conv_transpose1d, conv_transpose2d, conv_transpose3d = by_dims(_conv_transpose)


def unfold(input: Tensor, kernel_size: Sizes, dilation: Sizes = 1, padding: Sizes = 0, stride: Sizes = 1) -> Tensor:
    """Return the windows of images (N, C, H, W) or (C, H, W) as columns (N, C * KH * KW, windows).

    Raises ShapeError if no window fits.  Raises ArgumentError if an option is invalid.
    """
    x = batched("unfold", input, input._data, 2)
    axes, arguments = _columns_axes("unfold", x.shape[2:], kernel_size, dilation, padding, stride)
    (n, c), lead = x.shape[:2], input.shape[:-3]
    out = columns(x, axes)[:, 0]

    def backward(g: np.ndarray) -> tuple[np.ndarray]:
        parts = widened(g).reshape(out.shape).transpose(1, 2, 0)
        return (sum_columns(parts, axes, c, n).reshape(input.shape),)

    return record("unfold", out.reshape(*lead, *out.shape[1:]), (input,), backward, arguments)


def fold(
    input: Tensor, output_size: Sizes, kernel_size: Sizes, dilation: Sizes = 1, padding: Sizes = 0, stride: Sizes = 1,
) -> Tensor:  # fmt: skip
    """Return columns (N, C * KH * KW, windows) summed into images (N, C, *output_size), the transpose of `unfold`.

    Raises ShapeError if the columns are not those of such images.  Raises ArgumentError if an option is invalid.
    """
    sizes = each("fold", "output_size", output_size, 2)
    axes, arguments = _columns_axes("fold", sizes, kernel_size, dilation, padding, stride)
    kernel, windows = (math.prod(getattr(axis, name) for axis in axes) for name in ("kernel", "windows"))
    a = widened(input._data)[None] if input.ndim == 2 else widened(input._data)
    if a.ndim != 3 or a.shape[1] % kernel or a.shape[2] != windows:
        raise ShapeError(f"fold to {sizes} needs (N, C * {kernel}, {windows}), not {input.shape}.")
    n, rows, _ = a.shape
    out = narrowed(sum_columns(a.transpose(1, 2, 0), axes, rows // kernel, n), input)

    def backward(g: np.ndarray) -> tuple[np.ndarray]:
        return (columns(widened(g).reshape(out.shape), axes).reshape(input.shape),)

    return record("fold", out.reshape(*input.shape[:-2], *out.shape[1:]), (input,), backward, arguments)


def _columns_axes(
    name: str, sizes: Sequence[int], kernel_size: Sizes, dilation: Sizes, padding: Sizes, stride: Sizes
) -> tuple[list[Axis], dict[str, Any]]:
    kernel, pads = each(name, "kernel_size", kernel_size, 2), each(name, "padding", padding, 2, 0)
    steps, spread = each(name, "stride", stride, 2), each(name, "dilation", dilation, 2)
    named = {"kernel_size": kernel, "dilation": spread, "padding": pads, "stride": steps}
    return axes_of(name, sizes, kernel, steps, [(pad, pad) for pad in pads], spread), {"output_size": sizes, **named}


def _product(
    is_transposed: bool, recorded: tuple[str, dict[str, Any]], operands: tuple[Tensor, Tensor, Tensor | None],
    x: np.ndarray, w: np.ndarray, axes: Sequence[Axis],
) -> Tensor:  # fmt: skip
    """Record a convolution or its transpose. x: (N, C, *sizes).  axes: those of the B channels."""
    (input, weight, bias), (name, arguments) = operands, recorded
    n, groups = len(x), arguments["groups"]
    matrix = w.reshape(groups, len(w) // groups, math.prod(w.shape[1:]))
    by_group = (n, groups, len(w) // groups, math.prod(axis.windows for axis in axes))  # of the A channels
    if is_transposed:
        kept = x.reshape(by_group)
        out = _spread(matrix, kept, axes)
    else:
        kept = columns(x, axes, groups)
        out = np.matmul(matrix, kept).reshape(n, len(w), *(axis.windows for axis in axes))
    if bias is not None:
        out += widened(bias._data).reshape(-1, *[1] * len(axes))

    def backward(g: np.ndarray) -> list[np.ndarray | None]:
        g, by_x, by_weight = widened(g).reshape(out.shape), None, None
        a, b = (kept, columns(g, axes, groups)) if is_transposed else (g.reshape(by_group), kept)
        if input._requires_grad:
            by_x = (np.matmul(matrix, b) if is_transposed else _spread(matrix, a, axes)).reshape(input.shape)
        if weight._requires_grad:
            by_weight = np.matmul(a, b.swapaxes(2, 3)).sum(axis=0).reshape(w.shape)
        return [by_x, by_weight] if bias is None else [by_x, by_weight, g.sum(axis=(0, *range(2, g.ndim)))]

    data = narrowed(out if input.ndim == out.ndim else out[0], input)
    return record(name, data, (input, weight) if bias is None else (input, weight, bias), backward, arguments)


def _spread(matrix: np.ndarray, a: np.ndarray, axes: Sequence[Axis]) -> np.ndarray:
    """Return a (N, groups, A / groups, prod(O)) times the matrix transposed, summed where windows overlap."""
    n, groups, channels, windows = a.shape
    turned = np.ascontiguousarray(a.transpose(1, 2, 3, 0)).reshape(groups, channels, windows * n)
    parts = np.matmul(matrix.swapaxes(1, 2), turned)  # (groups, B / groups * prod(K), prod(O) * N)
    return sum_columns(parts, axes, groups * matrix.shape[2] // math.prod(axis.kernel for axis in axes), n)


def _require(is_fit: bool, name: str, input: Tensor, weight: Tensor, bias: Tensor | None, groups: int) -> None:
    if not is_fit:
        layout = "(C, out / groups, *K)" if "transpose" in name else "(out, C / groups, *K)"
        raise ShapeError(
            f"{name}: input {input.shape}, weight {weight.shape}, bias {None if bias is None else bias.shape} and "
            f"groups={groups} do not fit. The shapes must be (N, C, *sizes), {layout} and (out,)."
        )


def pads_of(
    name: str, padding: Sizes | str, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> list[tuple[int, int]]:
    """Return the number of zeros before and after each axis."""
    if padding == "same":
        if any(step != 1 for step in stride):
            raise ArgumentError(f"{name}: padding='same' needs stride 1, not {tuple(stride)}. Give it as a number.")
        total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        return [(size // 2, size - size // 2) for size in total]
    if isinstance(padding, str) and padding != "valid":
        raise ArgumentError(f"{name}: padding must be ints, 'valid' or 'same', not {padding!r}.")
    sizes = 0 if isinstance(padding, str) else padding
    return [(size, size) for size in each(name, "padding", sizes, len(kernel), 0)]
