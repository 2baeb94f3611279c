"""Elementwise operations and matmul, each forward next to its gradient.

Operands are Tensors, arrays or numbers. dtypes follow torch where NumPy would promote float32: a number takes the
dtype of the tensor it is combined with, integers combined with floats take the dtype of the floats, and dividing
integers gives float32. At a pole or on overflow (x / 0, log(0), exp(1000)) the result is infinity or NaN, without a
warning; sums and products that overflow keep NumPy's warning.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays.silence import silently
from ..errors import ArgumentError, GraphError, ShapeError
from .dtypes import get_default_dtype, narrowed, widened
from .shaping import broadcasts_to
from .tape import is_grad_enabled
from .tensor import Number, Tensor, derive, observe, record


def _operands(a: Any, b: Any) -> tuple[Tensor, Tensor]:
    """Return both as Tensors, with dtypes that make NumPy promote them as this module promises."""
    if not isinstance(b, Tensor):
        b = _alike(b, a)
    elif not isinstance(a, Tensor):
        a = _alike(a, b)
    if a._data.dtype is not b._data.dtype:
        if a.dtype.kind in "iub" and b.dtype.kind in "fV":
            a = a.to(b.dtype)
        elif b.dtype.kind in "iub" and a.dtype.kind in "fV":
            b = b.to(a.dtype)
    return a, b


def _alike(value: Any, tensor: Tensor) -> Tensor:
    """Return value as a Tensor. A number takes the dtype of the tensor it is combined with, if that can hold it."""
    if isinstance(value, float | np.floating):
        return Tensor(np.asarray(value, tensor.dtype if tensor.dtype.kind in "fcV" else get_default_dtype()))
    if isinstance(value, int) and tensor.dtype.kind != "b":
        return Tensor(np.asarray(value, tensor.dtype))
    return Tensor(value)


def _apply(ufunc: np.ufunc, a: Tensor, b: Tensor) -> Any:
    try:
        return ufunc(a._data, b._data)
    except ValueError as error:
        if ufunc is np.power and b.dtype.kind in "iu" and (b._data < 0).any():
            raise ArgumentError(
                "an integer raised to a negative integer power is not an integer. Call .float() first."
            ) from error
        raise ShapeError(f"{ufunc.__name__} cannot combine shapes {a.shape} and {b.shape}.") from error
    except TypeError as error:
        raise ArgumentError(f"{ufunc.__name__} is not defined for {a.dtype} and {b.dtype}.") from error


def add(a: Any, b: Any) -> Tensor:
    """Return a + b."""
    a, b = _operands(a, b)
    return record("add", _apply(np.add, a, b), (a, b), lambda g: (g, g))


def subtract(a: Any, b: Any) -> Tensor:
    """Return a - b."""
    a, b = _operands(a, b)
    return record("subtract", _apply(np.subtract, a, b), (a, b), lambda g: (g, -g))


def multiply(a: Any, b: Any) -> Tensor:
    """Return a * b."""
    a, b = _operands(a, b)
    x, y, for_a, for_b = a._data, b._data, a._requires_grad, b._requires_grad
    return record(
        "multiply", _apply(np.multiply, a, b), (a, b), lambda g: (g * y if for_a else None, g * x if for_b else None)
    )


def divide(a: Any, b: Any) -> Tensor:
    """Return a / b; float32 if both are integers."""
    a, b = _operands(a, b)
    if a.dtype.kind in "iub":
        a, b = a.to(get_default_dtype()), b.to(get_default_dtype())
    x, y, for_a, for_b = a._data, b._data, a._requires_grad, b._requires_grad
    out = silently(_apply, np.true_divide, a, b)
    return record("divide", out, (a, b), lambda g: (g / y if for_a else None, -g * x / (y * y) if for_b else None))


def power(a: Any, b: Any) -> Tensor:
    """Return a ** b. The gradient is 0 for a where b is 0, and for b where a is 0 and b is not negative."""
    a, b = _operands(a, b)
    x, y, for_a, for_b = a._data, b._data, a._requires_grad, b._requires_grad
    out = silently(_apply, np.power, a, b)

    def backward(g: np.ndarray) -> tuple[np.ndarray | None, np.ndarray | None]:
        by_base = np.where(y == 0, 0, g * y * np.power(x, y - 1)) if for_a else None
        by_exponent = np.where((x == 0) & (y >= 0), 0, g * out * np.log(x)) if for_b else None
        return by_base, by_exponent

    return record("power", out, (a, b), backward)


def matmul(a: Any, b: Any) -> Tensor:
    """Return a @ b as NumPy and torch do: leading axes broadcast.

    A vector is a row on the left and a column on the right.
    """
    a, b = _operands(a, b)
    if a.ndim == 0 or b.ndim == 0:
        raise ShapeError(f"matmul cannot combine shapes {a.shape} and {b.shape}. Use * with a single number.")
    out = _apply(np.matmul, a, b)
    if out.dtype is not a._data.dtype and a.dtype == b.dtype:
        out = out.astype(a.dtype)  # bfloat16, which NumPy multiplies in float32
    x = a._data if a.ndim > 1 else a._data[None, :]  # (..., n, k)
    y = b._data if b.ndim > 1 else b._data[:, None]  # (..., k, m)
    b_is_vector, for_a, for_b = b.ndim == 1, a._requires_grad, b._requires_grad
    full = (*np.broadcast_shapes(x.shape[:-2], y.shape[:-2]), x.shape[-2], y.shape[-1])

    def backward(g: np.ndarray) -> tuple[np.ndarray | None, np.ndarray | None]:
        g = g.reshape(full)  # (..., n, m)
        by_a = g @ y.swapaxes(-1, -2) if for_a else None
        by_b = x.swapaxes(-1, -2) @ g if for_b else None
        return by_a, by_b[..., 0] if by_b is not None and b_is_vector else by_b

    return record("matmul", out, (a, b), backward)


def negative(a: Tensor) -> Tensor:
    """Return -a."""
    return record("negative", -a._data, (a,), lambda g: (-g,))


def invert(a: Tensor) -> Tensor:
    """Return ~a, which has no gradient. Raises ArgumentError unless a holds integers or booleans."""
    if a.dtype.kind not in "iub":
        raise ArgumentError(f"invert is not defined for {a.dtype}.")
    return derive("invert", np.invert(a._data), (a,))


def without_gradient(ufunc: np.ufunc, a: Any, b: Any) -> Tensor:
    """Return ufunc(a, b) without a gradient: a comparison or a bitwise operation."""
    a, b = _operands(a, b)
    return derive(ufunc.__name__, _apply(ufunc, a, b), (a, b))


def in_place(ufunc: np.ufunc, target: Tensor, other: Any) -> Tensor:
    """Write ufunc(target, other) into the array of target and return target."""
    require_outside_graph(target, other)
    array = np.asarray(other)
    if not broadcasts_to(array.shape, target.shape):
        raise ShapeError(f"{ufunc.__name__} in place cannot broadcast shape {array.shape} to {target.shape}.")
    if target.dtype.kind in "iub" and (ufunc is np.true_divide or array.dtype.kind == "f"):
        raise ArgumentError(f"{ufunc.__name__} in place cannot keep floats in {target.dtype}. Call .float() first.")
    silently(ufunc, target._data, array, out=target._data, casting="same_kind")
    observe(f"in-place {ufunc.__name__}", target, (target,))
    return target


def require_outside_graph(target: Tensor, other: Any) -> None:
    """Raise GraphError if changing target in place would invalidate the recorded graph."""
    if is_grad_enabled() and (target._requires_grad or (isinstance(other, Tensor) and other._requires_grad)):
        raise GraphError(
            "tensors that are part of a recorded graph cannot be changed in place. To update values, do it under "
            "no_grad(); for a step of the computation, write a = a + b instead of a += b."
        )


def absolute(a: Tensor) -> Tensor:
    """Return |a|. The gradient is 0 at 0 and NaN at NaN."""
    x = a._data
    return record("abs", np.abs(x), (a,), lambda g: (g * np.sign(x),))


def exp(a: Tensor) -> Tensor:
    """Return e ** a."""
    out = silently(np.exp, _floats(a))
    return record("exp", out, (a,), lambda g: (g * out,))


def log(a: Tensor) -> Tensor:
    """Return the natural logarithm: -inf at 0, NaN below."""
    x = _floats(a)
    out = silently(np.log, x)
    return record("log", out, (a,), lambda g: (g / x,))


def sqrt(a: Tensor) -> Tensor:
    """Return the square root: NaN below 0."""
    out = silently(np.sqrt, _floats(a))
    return record("sqrt", out, (a,), lambda g: (g / (2 * out),))


def tanh(a: Tensor) -> Tensor:
    """Return the hyperbolic tangent, in (-1, 1)."""
    out = np.tanh(_floats(a))
    return record("tanh", out, (a,), lambda g: (g * (1 - out * out),))


def sigmoid(a: Tensor) -> Tensor:
    """Return 1 / (1 + exp(-a)), in (0, 1), without overflow for any a."""
    x = widened(_floats(a))
    small = np.exp(-np.abs(x))  # at most 1
    out = np.where(x >= 0, 1, small) / (1 + small)
    return record("sigmoid", narrowed(out, a), (a,), lambda g: (g * (out * (1 - out)),))


def relu(a: Tensor) -> Tensor:
    """Return max(a, 0); NaN stays NaN. The gradient at 0 and NaN is 0."""
    x = a._data
    out = np.maximum(x, np.zeros(x.shape, x.dtype))  # several times faster than with the number 0
    return record("relu", out, (a,), lambda g: (g * (out > 0),))


def clamp(a: Tensor, low: Number | None, high: Number | None) -> Tensor:
    """Return a limited to [low, high]. The gradient is 0 outside the limits and passes at the limits.

    Floats keep their dtype; integers limited by a float become float32.
    """
    if low is None and high is None:
        raise ArgumentError("clamp needs a min, a max, or both.")
    x = a._data if a.dtype.kind != "b" else a._data.astype(np.int64)
    if x.dtype.kind in "iu" and any(isinstance(bound, float) for bound in (low, high)):
        x = _floats(a)
    least, most = (None if bound is None else _limit(bound, x.dtype) for bound in (low, high))
    out, inside = x, np.ones(x.shape, bool)
    if least is not None:
        out, inside = np.maximum(x, least), x >= least
    if most is not None:
        out, inside = np.minimum(out, most), inside & (x <= most)
    return record("clamp", out, (a,), lambda g: (g * inside,), {"low": least, "high": most})


def _limit(bound: Number, dtype: np.dtype[Any]) -> np.ndarray:
    """Return a limit in dtype: infinite if it exceeds the range of a float, the nearest integer for integers."""
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        bound = min(max(bound, info.min), info.max)
    return silently(np.asarray, bound, dtype)


def masked_fill(a: Tensor, mask: Any, value: Number) -> Tensor:
    """Return a with value wherever mask is True. mask: bool, broadcastable to the shape of a."""
    masked = np.asarray(mask)
    if masked.dtype != bool:
        raise ArgumentError(f"masked_fill needs a bool mask, not {masked.dtype}.")
    if not broadcasts_to(masked.shape, a.shape):
        raise ShapeError(f"masked_fill cannot broadcast a mask of shape {masked.shape} to {a.shape}.")
    out = np.where(masked, np.asarray(value, a.dtype), a._data)
    return record("masked_fill", out, (a,), lambda g: (np.where(masked, 0, g),), {"mask": masked, "value": value})


def where(condition: Any, a: Any, b: Any) -> Tensor:
    """Return a where condition is True and b elsewhere. condition: bool. All three broadcast."""
    chosen = np.asarray(condition)
    if chosen.dtype != bool:
        raise ArgumentError(f"where needs a bool condition, not {chosen.dtype}.")
    if not isinstance(a, Tensor) and not isinstance(b, Tensor):
        a = Tensor(a)
    a, b = _operands(a, b)
    out = np.where(chosen, a._data, b._data)
    arguments = {"condition": chosen}
    return record("where", out, (a, b), lambda g: (np.where(chosen, g, 0), np.where(chosen, 0, g)), arguments)


def _floats(a: Tensor) -> np.ndarray:
    """Return the array for a function of real numbers: integers become float32."""
    return a._data if a.dtype.kind not in "iub" else a._data.astype(get_default_dtype())
