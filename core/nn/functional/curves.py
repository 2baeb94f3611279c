"""The elementwise activations: each with its value at x and the gradient of x, given the gradient g of the value y.

x is float32 or float64. The gradients at the corners and at NaN are PyTorch's.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ...arrays.silence import silently
from ...autograd import operations
from ...autograd.dtypes import narrowed, widened
from ...autograd.tape import NONE, assign, require_changeable
from ...autograd.tensor import Tensor, as_tensor, record
from ...errors import ArgumentError

__all__ = [
    "celu", "celu_", "elu", "elu_", "hardshrink", "hardsigmoid", "hardswish", "hardtanh", "hardtanh_", "leaky_relu",
    "leaky_relu_", "logsigmoid", "mish", "relu", "relu6", "relu_", "selu", "selu_", "sigmoid", "silu", "softplus",
    "softshrink", "softsign", "tanh", "tanhshrink", "threshold", "threshold_",
]  # fmt: skip

Options = Mapping[str, float]

_SCALE, _ALPHA = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717  # Klambauer et al. 2017, eq. 14
# Those that only compare keep integers, and these two make floats of them, as in torch. The others need floats.
_OF_INTEGERS, _FROM_INTEGERS = ("hardtanh", "relu6", "threshold"), ("softsign", "tanhshrink")


# fmt: off
def _curve(name: str, input: Tensor, inplace: bool, value: Callable[[np.ndarray], Any],
           gradient: Callable[[np.ndarray, np.ndarray, Any], Any], options: Options = NONE) -> Tensor:
    """Return the activation of input as one operation. options: what determines it besides the input."""
    a = as_tensor(input)
    if a.dtype.kind in "iub" and name not in _OF_INTEGERS:
        if name not in _FROM_INTEGERS:
            raise ArgumentError(f"{name} needs floats, not {a.dtype}. Call .float() first.")
        a = a.float()
    x = widened(a._data)
    y = silently(value, x)
    return given(record(name, narrowed(y, a), (a,), lambda g: (gradient(g, x, y),), options), a, inplace)


def given(out: Tensor, input: Tensor, inplace: bool) -> Tensor:
    """Return out, or with inplace=True make the input that result, as `relu_` of a tensor does, and return it."""
    if not inplace:
        return out
    require_changeable(input)
    return assign(input, out, out._operation or "activation")


def sigmoid_of(x: np.ndarray) -> np.ndarray:
    """Return 1 / (1 + exp(-x)) of an array."""
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, small) / (1 + small)


def softplus_of(x: np.ndarray) -> np.ndarray:
    """Return log(1 + exp(x)) of an array."""
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _slope_of_mish(x: np.ndarray) -> np.ndarray:
    bent = np.tanh(softplus_of(x))
    return bent + x * (1 - bent * bent) * sigmoid_of(x)


# A table: the activations one below the other, each with its signature, its formula and its two functions.
def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """Return max(x, 0); NaN stays NaN. The gradient at 0 and NaN is 0."""
    return given(operations.relu(as_tensor(input)), input, inplace)
def sigmoid(input: Tensor) -> Tensor:
    """Return 1 / (1 + exp(-x)), without overflow for any x. Integers become float32."""
    return operations.sigmoid(as_tensor(input))
def tanh(input: Tensor) -> Tensor:
    """Return the hyperbolic tangent of x. Integers become float32."""
    return operations.tanh(as_tensor(input))
def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """Return x where x > 0, otherwise negative_slope * x."""
    return _curve("leaky_relu", input, inplace, lambda x: np.where(x > 0, x, x * negative_slope),
                  lambda g, x, y: np.where(x > 0, g, g * negative_slope), {"negative_slope": negative_slope})
def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """Return x where x > 0, otherwise alpha * (exp(x) - 1). Source: Clevert et al. 2015, arXiv:1511.07289, eq. 15."""
    return _elu("elu", input, inplace, 1.0, alpha, 1.0, {"alpha": alpha})
def celu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """Return x where x > 0, otherwise alpha * (exp(x / alpha) - 1). Source: Barron 2017, arXiv:1704.07483, eq. 2."""
    return _elu("celu", input, inplace, 1.0, alpha, 1 / alpha, {"alpha": alpha})
def selu(input: Tensor, inplace: bool = False) -> Tensor:
    """Return elu(x, 1.6733) * 1.0507. Source: Klambauer et al. 2017, arXiv:1706.02515, eq. 2 and 14."""
    return _elu("selu", input, inplace, _SCALE, _ALPHA, 1.0)
def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """Return x * sigmoid(x). Source: Elfwing et al. 2017, arXiv:1702.03118, eq. 6 and 7."""
    return _curve("silu", input, inplace, lambda x: x * sigmoid_of(x),
                  lambda g, x, y: g * (sigmoid_of(x) * (1 + x - y)))
def mish(input: Tensor, inplace: bool = False) -> Tensor:
    """Return x * tanh(softplus(x)). Source: Misra 2019, arXiv:1908.08681, eq. 1 and 2."""
    return _curve("mish", input, inplace, lambda x: x * np.tanh(softplus_of(x)), lambda g, x, y: g * _slope_of_mish(x))
def softplus(input: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """Return log(1 + exp(beta * x)) / beta; x itself where beta * x > threshold."""
    return _curve("softplus", input, False, lambda x: np.where(x * beta > threshold, x, softplus_of(x * beta) / beta),
                  lambda g, x, y: np.where(x * beta > threshold, g, g * sigmoid_of(x * beta)),
                  {"beta": beta, "threshold": threshold})
def softsign(input: Tensor) -> Tensor:
    """Return x / (1 + |x|). Integers become float32."""
    return _curve("softsign", input, False, lambda x: x / (1 + np.abs(x)),
                  lambda g, x, y: g / (1 + np.abs(x)) ** 2)
def hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    """Return x limited to [min_val, max_val]. The gradient at and beyond the limits is 0."""
    return _limited("hardtanh", input, inplace, min_val, max_val, {"min_val": min_val, "max_val": max_val})
def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """Return x limited to [0, 6]."""
    return _limited("relu6", input, inplace, 0, 6)
def hardswish(input: Tensor, inplace: bool = False) -> Tensor:
    """Return x * relu6(x + 3) / 6. Source: Howard et al. 2019, arXiv:1905.02244, section 5.2."""
    return _curve("hardswish", input, inplace, lambda x: x * np.clip(x + 3, 0, 6) / 6,
                  lambda g, x, y: np.where(x <= -3, 0, np.where(x < 3, g * (x / 3 + 0.5), g)))
def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """Return relu6(x + 3) / 6."""
    return _curve("hardsigmoid", input, inplace, lambda x: np.clip(x + 3, 0, 6) / 6,
                  lambda g, x, y: np.where((x > -3) & (x < 3), g / 6, 0))
def hardshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """Return x where |x| > lambd, otherwise 0."""
    return _curve("hardshrink", input, False, lambda x: np.where(np.abs(x) <= lambd, 0, x),
                  lambda g, x, y: np.where(np.abs(x) <= lambd, 0, g), {"lambd": lambd})
def softshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """Return x moved towards 0 by lambd, 0 if it is nearer than that. Raises ArgumentError if lambd is negative."""
    if lambd < 0:
        raise ArgumentError(f"softshrink: lambd must be at least 0, not {lambd}.")
    return _curve("softshrink", input, False, lambda x: x - np.clip(x, -lambd, lambd),
                  lambda g, x, y: np.where(np.abs(x) <= lambd, 0, g), {"lambd": lambd})
def tanhshrink(input: Tensor) -> Tensor:
    """Return x - tanh(x). Integers become float32."""
    return _curve("tanhshrink", input, False, lambda x: x - np.tanh(x), lambda g, x, y: g * np.tanh(x) ** 2)
def threshold(input: Tensor, threshold: float, value: float, inplace: bool = False) -> Tensor:
    """Return x where x > threshold, otherwise value."""
    return _curve("threshold", input, inplace, lambda x: np.where(x <= threshold, x.dtype.type(value), x),
                  lambda g, x, y: np.where(x <= threshold, 0, g), {"threshold": threshold, "value": value})
def logsigmoid(input: Tensor) -> Tensor:
    """Return log(sigmoid(x)), accurate for any x."""
    return _curve("logsigmoid", input, False, lambda x: -softplus_of(-x), lambda g, x, y: g * sigmoid_of(-x))
# fmt: on


def _elu(
    name: str, input: Tensor, inplace: bool, scale: float, alpha: float, rate: float, options: Options = NONE
) -> Tensor:
    """Return scale * x where x > 0, otherwise scale * alpha * (exp(rate * x) - 1)."""
    return _curve(
        name, input, inplace, lambda x: np.where(x <= 0, np.expm1(x * rate) * (alpha * scale), x * scale),
        lambda g, x, y: np.where(x <= 0, g * (np.exp(x * rate) * (alpha * scale * rate)), g * scale), options,
    )  # fmt: skip


def _limited(name: str, input: Tensor, inplace: bool, low: float, high: float, options: Options = NONE) -> Tensor:
    if low > high:
        raise ArgumentError(f"{name}: min_val {low} is greater than max_val {high}. Exchange them.")
    return _curve(
        name, input, inplace, lambda x: np.clip(x, x.dtype.type(low), x.dtype.type(high)),
        lambda g, x, y: np.where((x <= low) | (x >= high), 0, g), options,
    )  # fmt: skip


relu_, leaky_relu_, elu_, celu_, selu_, hardtanh_, threshold_ = (
    functools.partial(each, inplace=True) for each in (relu, leaky_relu, elu, celu, selu, hardtanh, threshold)
)
