"""Elementwise operations and matmul, each forward next to its gradient.

Operands are Tensors, arrays or numbers. dtypes follow torch where NumPy would promote float32: a number takes the
dtype of the tensor it is combined with, integers combined with floats take the dtype of the floats, and dividing
integers gives float32. At a pole or on overflow (x / 0, log(0), exp(1000)) the result is infinity or NaN, without a
warning; sums and products that overflow keep NumPy's warning.
"""

from __future__ import annotations

import builtins
import inspect
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays import special
from ..arrays.silence import silently
from ..errors import ArgumentError, ShapeError
from .dtypes import get_default_dtype, narrowed, promoted, widened
from .shaping import broadcasts_to
from .tape import as_tensor, derive, is_tensor, named, record

if TYPE_CHECKING:
    from .tensor import Number, Tensor

__all__ = [
    "abs", "absolute", "acos", "add", "addcdiv", "addcmul", "addmm", "asin", "atan", "atan2", "baddbmm", "bitwise_and",
    "bitwise_left_shift", "bitwise_not", "bitwise_or", "bitwise_right_shift", "bitwise_xor", "bmm", "ceil", "clamp",
    "clamp_max", "clamp_min", "clip", "cos", "cosh", "cross", "div", "divide", "dot", "einsum", "eq", "erf", "exp",
    "exp2", "expm1", "floor", "floor_divide", "fmod", "ge", "gt", "isfinite", "isinf", "isnan", "kron", "le", "lerp",
    "log", "log1p", "log2", "log10", "logical_and", "logical_not", "logical_or", "logical_xor", "lt", "masked_fill",
    "matmul", "maximum", "minimum", "mm", "mul", "multiply", "mv", "nan_to_num", "ne", "neg", "negative", "outer",
    "pow", "reciprocal", "relu", "remainder", "round", "rsqrt", "sigmoid", "sign", "sin", "sinh", "sqrt", "square",
    "sub", "subtract", "tan", "tanh", "true_divide", "trunc", "where",
]  # fmt: skip


def _operands(a: Any, b: Any) -> tuple[Tensor, Tensor]:
    """Return both as Tensors, with dtypes that make NumPy promote them as this module promises."""
    if not is_tensor(b):
        b = _alike(b, a if is_tensor(a) else as_tensor(a))
    if not is_tensor(a):
        a = _alike(a, b)
    if a._data.dtype is not b._data.dtype:
        dtype = promoted(a._data, b._data)
        if dtype.kind in "fcV" or dtype != np.result_type(a._data.dtype, b._data.dtype):
            a, b = a.to(dtype), b.to(dtype)
    return a, b


def _alike(value: Any, tensor: Tensor) -> Tensor:
    """Return value as a Tensor. A number takes the dtype of the tensor it is combined with, if that can hold it."""
    if isinstance(value, float | np.floating):
        return as_tensor(np.asarray(value, tensor.dtype if tensor.dtype.kind in "fcV" else get_default_dtype()))
    if isinstance(value, int) and tensor.dtype.kind != "b":
        try:
            return as_tensor(np.asarray(value, tensor.dtype))
        except OverflowError:
            return as_tensor(value)
    return as_tensor(value)


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


def add(input: Any, other: Any, *, alpha: float = 1) -> Tensor:
    """Return input + alpha * other."""
    a, b = _operands(input, other if alpha == 1 else multiply(other, alpha))
    return record("add", _apply(np.add, a, b), (a, b), lambda g: (g, g))


def subtract(input: Any, other: Any, *, alpha: float = 1) -> Tensor:
    """Return input - alpha * other."""
    a, b = _operands(input, other if alpha == 1 else multiply(other, alpha))
    return record("subtract", _apply(np.subtract, a, b), (a, b), lambda g: (g, -g))


def multiply(input: Any, other: Any) -> Tensor:
    """Return input * other."""
    a, b = _operands(input, other)
    for_a, for_b = a._requires_grad, b._requires_grad
    x, y = a._data if for_b else None, b._data if for_a else None
    return record(
        "multiply", _apply(np.multiply, a, b), (a, b), lambda g: (g * y if for_a else None, g * x if for_b else None)
    )


def divide(input: Any, other: Any, *, rounding_mode: str | None = None) -> Tensor:
    """Return input / other, floats if both are integers; or rounded ("floor", "trunc"), without a gradient."""
    if rounding_mode == "floor":
        return floor_divide(input, other)
    a, b = _operands(input, other)
    if rounding_mode == "trunc":
        return derive("divide", np.trunc(a._data / b._data).astype(np.result_type(a._data, b._data)), (a, b))
    if a.dtype.kind in "iub":
        a, b = a.to(get_default_dtype()), b.to(get_default_dtype())
    for_a, for_b = a._requires_grad, b._requires_grad
    x, y = a._data if for_b else np.empty(0), b._data
    out = silently(_apply, np.true_divide, a, b)
    return record("divide", out, (a, b), lambda g: (g / y if for_a else None, -g * x / (y * y) if for_b else None))


def power(input: Any, exponent: Any) -> Tensor:
    """Return input ** exponent. The gradient is 0 for x where y is 0, and for y where x is 0 and y is not negative."""
    a, b = _operands(input, exponent)
    x, y, for_a, for_b = a._data, b._data, a._requires_grad, b._requires_grad
    out = silently(_apply, np.power, a, b)

    def backward(g: np.ndarray) -> tuple[np.ndarray | None, np.ndarray | None]:
        by_base = np.where(y == 0, 0, g * y * np.power(x, y - 1)) if for_a else None
        by_exponent = np.where((x == 0) & (y >= 0), 0, g * out * np.log(x)) if for_b else None
        return by_base, by_exponent

    return record("power", out, (a, b), backward)


def matmul(input: Any, other: Any) -> Tensor:
    """Return input @ other; leading axes broadcast. A vector is a row on the left and a column on the right."""
    a, b = _operands(input, other)
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


# --- elementwise functions of two operands


def _of_two(ufunc: np.ufunc, back: Any = None) -> Callable[[Any, Any], Tensor]:
    """Return the function of two operands. back: from g, x and y to both gradients; None: without a gradient."""
    name = ufunc.__name__

    def function(input: Any, other: Any) -> Tensor:
        a, b = _operands(input, other)
        if ufunc is np.arctan2 and a.dtype.kind in "iub":
            a, b = a.to(get_default_dtype()), b.to(get_default_dtype())
        x, y, out = a._data, b._data, silently(_apply, ufunc, a, b)
        return derive(name, out, (a, b)) if back is None else record(name, out, (a, b), lambda g: back(g, x, y))

    return named(function, name, f"Return {name} of input and other, elementwise.")


def _shared(g: np.ndarray, is_less: np.ndarray, is_equal: np.ndarray) -> np.ndarray:
    """Return the part of the operand that was chosen unless it is less. Equal ones share the gradient, as in torch."""
    return np.where(is_equal, g / 2, np.where(is_less, 0, g)).astype(g.dtype, copy=False)


maximum = _of_two(np.maximum, lambda g, x, y: (_shared(g, x <= y, x == y), _shared(g, x >= y, x == y)))
minimum = _of_two(np.minimum, lambda g, x, y: (_shared(g, x >= y, x == y), _shared(g, x <= y, x == y)))
atan2 = _of_two(np.arctan2, lambda g, x, y: (g * y / (x * x + y * y), -g * x / (x * x + y * y)))
remainder = _of_two(np.remainder, lambda g, x, y: (g, -g * np.floor(x / y)))
fmod = _of_two(np.fmod, lambda g, x, y: (g, -g * np.trunc(x / y)))
eq, ne, lt, le = _of_two(np.equal), _of_two(np.not_equal), _of_two(np.less), _of_two(np.less_equal)
gt, ge, floor_divide = _of_two(np.greater), _of_two(np.greater_equal), _of_two(np.floor_divide)
logical_and, logical_or, logical_xor = map(_of_two, (np.logical_and, np.logical_or, np.logical_xor))
bitwise_and, bitwise_or, bitwise_xor = map(_of_two, (np.bitwise_and, np.bitwise_or, np.bitwise_xor))
bitwise_left_shift, bitwise_right_shift = map(_of_two, (np.left_shift, np.right_shift))


# --- of one: the name, the forward, the derivative times g, and what it is. The derivative says by the name of its
# argument what is kept from the forward pass: `x` the operand, `y` the result. None: no gradient.


def _of_one(
    name: str, forward: Callable[..., Any], derivative: Any, text: str, real: bool = True
) -> Callable[[Any], Tensor]:
    """Return the function of each element. real: integers become floats first."""
    keeps_out = bool(derivative) and inspect.getfullargspec(derivative).args[1] == "y"

    def function(input: Any) -> Tensor:
        a = as_tensor(input)
        x = _floats(a) if real else a._data
        y = silently(forward, x)
        kept = y if keeps_out else x
        return record(name, y, (a,), lambda g: (derivative(g, kept),)) if derivative else derive(name, y, (a,))

    return named(function, name, f"Return {text} of each element.")


def _zeros(g: np.ndarray, x: np.ndarray) -> np.ndarray:
    return np.zeros_like(g)


def _erf(x: np.ndarray) -> np.ndarray:
    return special.erf(widened(x)).astype(x.dtype, copy=False)


_LN_2, _LN_10, _2_BY_ROOT_PI = math.log(2), math.log(10), 2 / math.sqrt(math.pi)
negative = _of_one("negative", np.negative, lambda g, x: -g, "the negative", False)
absolute = _of_one("abs", np.abs, lambda g, x: g * np.sign(x), "the absolute value (gradient 0 at 0)", False)
square = _of_one("square", np.square, lambda g, x: g * (x + x), "the square", False)
exp = _of_one("exp", np.exp, lambda g, y: g * y, "e to the power")
exp2 = _of_one("exp2", np.exp2, lambda g, y: g * (y * _LN_2), "2 to the power")
expm1 = _of_one("expm1", np.expm1, lambda g, y: g * (y + 1), "e to the power, minus 1,")
log = _of_one("log", np.log, lambda g, x: g / x, "the natural logarithm (-inf at 0, NaN below)")
log2 = _of_one("log2", np.log2, lambda g, x: g / (x * _LN_2), "the logarithm to base 2")
log10 = _of_one("log10", np.log10, lambda g, x: g / (x * _LN_10), "the logarithm to base 10")
log1p = _of_one("log1p", np.log1p, lambda g, x: g / (x + 1), "the natural logarithm of 1 plus the value")
sqrt = _of_one("sqrt", np.sqrt, lambda g, y: g / (2 * y), "the square root (NaN below 0)")
rsqrt = _of_one("rsqrt", lambda x: 1 / np.sqrt(x), lambda g, y: g * (y * y * y) / -2, "1 / the square root")
reciprocal = _of_one("reciprocal", lambda x: 1 / x, lambda g, y: -g * y * y, "1 / the value")
sin = _of_one("sin", np.sin, lambda g, x: g * np.cos(x), "the sine")
cos = _of_one("cos", np.cos, lambda g, x: -g * np.sin(x), "the cosine")
tan = _of_one("tan", np.tan, lambda g, y: g * (1 + y * y), "the tangent")
asin = _of_one("asin", np.arcsin, lambda g, x: g / np.sqrt(1 - x * x), "the inverse sine")
acos = _of_one("acos", np.arccos, lambda g, x: -g / np.sqrt(1 - x * x), "the inverse cosine")
atan = _of_one("atan", np.arctan, lambda g, x: g / (1 + x * x), "the inverse tangent")
sinh = _of_one("sinh", np.sinh, lambda g, x: g * np.cosh(x), "the hyperbolic sine")
cosh = _of_one("cosh", np.cosh, lambda g, x: g * np.sinh(x), "the hyperbolic cosine")
tanh = _of_one("tanh", np.tanh, lambda g, y: g * (1 - y * y), "the hyperbolic tangent")
erf = _of_one("erf", _erf, lambda g, x: g * np.exp(-x * x) * _2_BY_ROOT_PI, "the error function")
floor = _of_one("floor", np.floor, _zeros, "the largest integer that is not greater", False)
ceil = _of_one("ceil", np.ceil, _zeros, "the smallest integer that is not smaller", False)
trunc = _of_one("trunc", np.trunc, _zeros, "the integer part", False)
sign = _of_one("sign", np.sign, _zeros, "the sign (-1, 0 or 1)", False)
isnan = _of_one("isnan", np.isnan, None, "whether it is NaN,", False)
isinf = _of_one("isinf", np.isinf, None, "whether it is infinite,", False)
isfinite = _of_one("isfinite", np.isfinite, None, "whether it is neither infinite nor NaN,", False)
logical_not = _of_one("logical_not", np.logical_not, None, "whether it is 0,", False)


def bitwise_not(input: Tensor) -> Tensor:
    """Return ~input, which has no gradient. Raises ArgumentError unless it holds integers or booleans."""
    if input.dtype.kind not in "iub":
        raise ArgumentError(f"invert is not defined for {input.dtype}.")
    return derive("invert", np.invert(input._data), (input,))


def round(input: Tensor, *, decimals: int = 0) -> Tensor:
    """Return each element rounded to a number of decimals, half to even. The gradient is 0."""
    return record("round", np.round(input._data, decimals), (input,), lambda g: (np.zeros_like(g),))


def nan_to_num(input: Tensor, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None) -> Tensor:
    """Return the elements with NaN and the infinities replaced: by default, by the largest finite numbers."""
    finite, out = np.isfinite(input._data), np.nan_to_num(input._data, nan=nan, posinf=posinf, neginf=neginf)
    return record("nan_to_num", out, (input,), lambda g: (g * finite,))


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


def clamp(input: Tensor, min: Any = None, max: Any = None) -> Tensor:
    """Return the elements limited to [min, max], numbers or Tensors. The gradient is 0 outside the limits.

    It passes at the limits. Floats keep their dtype; integers limited by a float become floats.
    """
    if min is None and max is None:
        raise ArgumentError("clamp needs a min, a max, or both.")
    a = input
    if is_tensor(min) or is_tensor(max):
        a = a if min is None else where(lt(a, min), min, a)
        return a if max is None else where(gt(a, max), max, a)
    x = a._data if a.dtype.kind != "b" else a._data.astype(np.int64)
    if x.dtype.kind in "iu" and any(isinstance(bound, float) for bound in (min, max)):
        x = _floats(a)
    least, most = (None if bound is None else _limit(bound, x.dtype) for bound in (min, max))
    out, inside = x, np.ones(x.shape, bool)
    if least is not None:
        out, inside = np.maximum(x, least), x >= least
    if most is not None:
        out, inside = np.minimum(out, most), inside & (x <= most)
    return record("clamp", out, (a,), lambda g: (g * inside,), {"low": least, "high": most})


clamp_min = named(lambda input, min: clamp(input, min), "clamp_min", "Return the elements, at least min.")
clamp_max = named(lambda input, max: clamp(input, None, max), "clamp_max", "Return the elements, at most max.")


def _limit(bound: Number, dtype: np.dtype[Any]) -> np.ndarray:
    """Return a limit in dtype: infinite if it exceeds the range of a float, the nearest integer for integers."""
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        bound = builtins.min(builtins.max(bound, info.min), info.max)
    return silently(np.asarray, bound, dtype)


def masked_fill(input: Tensor, mask: Any, value: Any) -> Tensor:
    """Return the elements with value wherever mask is True. mask: bool, broadcastable to the shape of input."""
    a, value = input, value.item() if is_tensor(value) else value
    masked = np.asarray(mask)
    if masked.dtype != bool:
        raise ArgumentError(f"masked_fill needs a bool mask, not {masked.dtype}.")
    if not broadcasts_to(masked.shape, a.shape):
        raise ShapeError(f"masked_fill cannot broadcast a mask of shape {masked.shape} to {a.shape}.")
    out = np.where(masked, np.asarray(value, a.dtype), a._data)
    return record("masked_fill", out, (a,), lambda g: (np.where(masked, 0, g),), {"mask": masked, "value": value})


def where(condition: Any, input: Any = None, other: Any = None) -> Any:
    """Return input where condition is True and other elsewhere. condition: bool. All three broadcast.

    With the condition alone, return the indices where it is True, as `nonzero(as_tuple=True)` does.
    """
    if input is None and other is None:
        return tuple(as_tensor(index) for index in np.nonzero(np.atleast_1d(condition)))
    chosen = np.asarray(condition)
    if chosen.dtype != bool:
        raise ArgumentError(f"where needs a bool condition, not {chosen.dtype}.")
    a, b = _operands(input, other)
    out = np.where(chosen, a._data, b._data)
    arguments = {"condition": chosen}
    return record("where", out, (a, b), lambda g: (np.where(chosen, g, 0), np.where(chosen, 0, g)), arguments)


def _floats(a: Tensor) -> np.ndarray:
    """Return the array for a function of real numbers: integers become float32."""
    return a._data if a.dtype.kind not in "iub" else a._data.astype(get_default_dtype())


# --- combinations

lerp = named(
    lambda input, end, weight: add(input, multiply(weight, subtract(end, input))), "lerp",
    "Return input + weight * (end - input).",
)  # fmt: skip
addcmul = named(
    lambda input, tensor1, tensor2, *, value=1: add(input, multiply(tensor1, tensor2), alpha=value), "addcmul",
    "Return input + value * tensor1 * tensor2.",
)  # fmt: skip
addcdiv = named(
    lambda input, tensor1, tensor2, *, value=1: add(input, divide(tensor1, tensor2), alpha=value), "addcdiv",
    "Return input + value * tensor1 / tensor2.",
)  # fmt: skip
addmm = named(
    lambda input, mat1, mat2, *, beta=1, alpha=1: add(multiply(input, beta), matmul(mat1, mat2), alpha=alpha), "addmm",
    "Return beta * input + alpha * (mat1 @ mat2).",
)  # fmt: skip
baddbmm = addmm
outer = named(lambda input, vec2: mm(input[:, None], vec2[None]), "outer", "Return all products (n, m) of two vectors.")


def _product(name: str, axes: tuple[int, int]) -> Callable[[Tensor, Tensor], Tensor]:
    def function(input: Tensor, other: Tensor) -> Tensor:
        if (input.ndim, other.ndim) != axes:
            raise ShapeError(f"{name} needs operands with {axes} axes, not of shapes {input.shape} and {other.shape}.")
        return matmul(input, other)

    return named(function, name, f"Return matmul of operands with {axes[0]} and {axes[1]} axes.")


mm, bmm, mv, dot = _product("mm", (2, 2)), _product("bmm", (3, 3)), _product("mv", (2, 1)), _product("dot", (1, 1))


def kron(input: Tensor, other: Tensor) -> Tensor:
    """Return the Kronecker product of tensors with as many axes."""
    sizes = [n * m for n, m in zip(input.shape, other.shape, strict=True)]
    a = input.reshape([size for n in input.shape for size in (n, 1)])
    return multiply(a, other.reshape([size for m in other.shape for size in (1, m)])).reshape(*sizes)


def cross(input: Tensor, other: Tensor, dim: int = -1) -> Tensor:
    """Return the cross product of vectors of three elements along dim."""
    a, b = ([x.roll(shift, dim) for shift in (-1, -2)] for x in (input, other))
    return a[0] * b[1] - a[1] * b[0]


def einsum(equation: str, *operands: Any) -> Tensor:
    """Return the sum of products that an equation like "bij,bjk->bik" describes. "..." stands for leading axes."""
    parts = list(operands[0] if len(operands) == 1 and not is_tensor(operands[0]) else operands)
    terms, out = _terms(equation, parts)
    for at, term in enumerate(terms):
        for letter in {letter for letter in term if term.count(letter) == 2}:  # "ii" is the diagonal of both axes
            parts[at] = parts[at].diagonal(0, terms[at].index(letter), terms[at].rindex(letter))
            terms[at] = terms[at].replace(letter, "") + letter
    dtype = promoted(*(part._data for part in parts))
    tensors = tuple(part.to(dtype) for part in parts)
    arrays = [widened(tensor._data) for tensor in tensors]

    def of(at: int, g: np.ndarray) -> np.ndarray:
        others = [other for other in range(len(terms)) if other != at]
        lost = "".join(set(terms[at]) - set("".join([out, *map(terms.__getitem__, others)])))  # summed in this one only
        ones = np.ones([arrays[at].shape[terms[at].index(letter)] for letter in lost], g.dtype)
        text = ",".join([out, *map(terms.__getitem__, others), lost])
        return np.einsum(f"{text}->{terms[at]}", g, *map(arrays.__getitem__, others), ones, optimize=True)

    try:
        data = np.einsum(f"{','.join(terms)}->{out}", *arrays, optimize=True)
    except ValueError as error:
        raise ShapeError(f"einsum {equation!r} does not fit the shapes {[part.shape for part in parts]}.") from error
    back = lambda g: [of(at, widened(g)) if t._requires_grad else None for at, t in enumerate(tensors)]  # noqa: E731
    return record("einsum", narrowed(data, tensors[0]), tensors, back, {"equation": equation})


def _terms(equation: str, operands: list[Tensor]) -> tuple[list[str], str]:
    """Return the letters of each operand and of the result, with letters in place of "..."."""
    given, arrow, out = equation.replace(" ", "").partition("->")
    terms, spare = given.split(","), "".join(set("ZYXWVUTSRQPONMLKJIHGFEDCBA") - set(equation))
    if len(terms) != len(operands):
        raise ArgumentError(f"einsum {equation!r} names {len(terms)} operands, but got {len(operands)}.")
    hidden = [operand.ndim - len(term.replace("...", "")) for term, operand in zip(terms, operands, strict=True)]
    letters = spare[: builtins.max(hidden)] if "..." in given else ""
    terms = [term.replace("...", letters[len(letters) - count :]) for term, count in zip(terms, hidden, strict=True)]
    if not arrow:
        once = [letter for letter in set(given) - set(".,") if given.count(letter) == 1]
        out = "..." + "".join(sorted(once))
    return terms, out.replace("...", letters)


clip, sub, mul, div, pow, neg, abs = clamp, subtract, multiply, divide, power, negative, absolute
true_divide, invert = divide, bitwise_not
