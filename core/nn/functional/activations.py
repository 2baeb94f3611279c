"""The activations that curves.py cannot hold: gelu with its erf, and those along an axis or with a weight or a draw."""

from __future__ import annotations

import functools
import math
import warnings
from typing import Any, Literal

import numpy as np

from ...arrays.special import erf
from ...autograd.dtypes import narrowed, widened
from ...autograd.tensor import Tensor, as_tensor, record
from ...errors import ArgumentError, ShapeError
from ...random import default_generator
from .curves import given, leaky_relu, sigmoid_of

__all__ = ["gelu", "glu", "gumbel_softmax", "log_softmax", "prelu", "rrelu", "rrelu_", "softmax", "softmin"]


def gelu(input: Tensor, approximate: Literal["none", "tanh"] = "none") -> Tensor:
    """Return x * Phi(x), where Phi is the normal distribution function: exact, or its tanh approximation.

    input (x): any float dtype.  Raises ArgumentError if approximate is neither.
    Source: Hendrycks and Gimpel 2016, arXiv:1606.08415, section 2.
    """
    if approximate == "none":
        return _gelu_exact(as_tensor(input))
    if approximate == "tanh":
        return _gelu_tanh(as_tensor(input))
    raise ArgumentError(f"gelu: approximate must be 'none' or 'tanh', not {approximate!r}.")


def _gelu_exact(x: Tensor) -> Tensor:
    a = widened(x._data)  # the polynomials overflow float16
    phi = erf(a * math.sqrt(0.5))
    phi += 1
    phi *= 0.5

    def backward(g: np.ndarray) -> tuple[np.ndarray]:
        slope = np.asarray(a * a)  # phi + a exp(-a^2 / 2) / sqrt(2 pi), computed in one array
        slope *= -0.5
        np.exp(slope, out=slope)
        slope *= a
        slope *= 1 / math.sqrt(2 * math.pi)
        slope += phi
        slope *= g
        return (slope,)

    return record("gelu", narrowed(a * phi, x), (x,), backward, {"approximate": "none"})


def _gelu_tanh(x: Tensor) -> Tensor:
    a = widened(x._data)
    slope, cubic = math.sqrt(2 / math.pi), 0.044715
    bend = np.tanh(slope * a * (1 + cubic * a * a))

    def backward(g: np.ndarray) -> tuple[np.ndarray]:
        inner = slope * (1 + 3 * cubic * a * a)
        return (g * (0.5 * (1 + bend) + 0.5 * a * (1 - bend * bend) * inner),)

    return record("gelu", narrowed(0.5 * a * (1 + bend), x), (x,), backward, {"approximate": "tanh"})


def softmax(input: Tensor, dim: int | None = None, *, dtype: Any = None) -> Tensor:
    """Return exp(input) divided by its sum along dim, without overflow. A row of only -inf gives NaN.

    dim: None chooses an axis by torch's old rule and warns.  dtype: the input is cast to it first, if given.
    """
    x, dim = _along(input, dim, dtype)
    p = np.exp(_log_probabilities(x, dim))

    def backward(g: np.ndarray) -> tuple[np.ndarray]:
        weighed = g * p
        return (weighed - p * weighed.sum(axis=dim, keepdims=True),)

    return record("softmax", narrowed(p, x), (x,), backward, {"dim": dim})


def log_softmax(input: Tensor, dim: int | None = None, *, dtype: Any = None) -> Tensor:
    """Return the logarithm of `softmax`, accurate even where softmax is nearly 0."""
    x, dim = _along(input, dim, dtype)
    out = _log_probabilities(x, dim)

    def backward(g: np.ndarray) -> tuple[np.ndarray]:
        g = widened(g)
        return (g - np.exp(out) * g.sum(axis=dim, keepdims=True),)

    return record("log_softmax", narrowed(out, x), (x,), backward, {"dim": dim})


def softmin(input: Tensor, dim: int | None = None, *, dtype: Any = None) -> Tensor:
    """Return the `softmax` of -input."""
    return softmax(-as_tensor(input), dim, dtype=dtype)


def gumbel_softmax(logits: Tensor, tau: float = 1, hard: bool = False, eps: float = 1e-10, dim: int = -1) -> Tensor:
    """Return softmax((logits + noise) / tau) along dim, with noise from the Gumbel distribution.

    hard: return 1 for the largest and 0 for the others, with the gradient of the soft result.  eps: not used, as in
    torch.
    Source: Jang, Gu and Poole 2016, arXiv:1611.01144, eq. 2 and section 2.2.
    """
    noise = default_generator().gumbel(size=logits.shape).astype(logits.dtype)
    soft = softmax((logits + Tensor(noise)) / tau, dim)
    if not hard:
        return soft
    picked = np.zeros(soft.shape, soft.dtype)
    np.put_along_axis(picked, soft._data.argmax(axis=dim, keepdims=True), 1, axis=dim)
    return Tensor(picked) - soft.detach() + soft


def glu(input: Tensor, dim: int = -1) -> Tensor:
    """Return a * sigmoid(b), where a and b are the halves of input along dim.

    Raises ShapeError if the axis has an odd size. Source: Dauphin et al. 2016, arXiv:1612.08083, section 3.
    """
    x = as_tensor(input)
    _require_axis(x, dim)
    if x.shape[dim] % 2:
        raise ShapeError(f"glu splits dim {dim} into halves; the input {x.shape} has {x.shape[dim]} there.")
    a, b = np.split(widened(x._data), 2, axis=dim)
    gate = sigmoid_of(b)
    slope = a * (gate * (1 - gate))
    out = narrowed(a * gate, x)
    return record("glu", out, (x,), lambda g: (np.concatenate((g * gate, g * slope), axis=dim),), {"dim": dim})


def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """Return x where x > 0, otherwise weight * x. weight: (1,), or (C,) for an input (N, C, ...).

    Raises ShapeError if the sizes differ. Source: He et al. 2015, arXiv:1502.01852, eq. 1.
    """
    x, w = as_tensor(input), as_tensor(weight)
    if w.ndim > 1 or (w.numel() != 1 and (x.ndim < 2 or x.shape[1] != w.numel())):
        raise ShapeError(f"prelu: weight {w.shape} must have one element, or one for each channel of {x.shape}.")
    a, each = widened(x._data), w.numel() > 1
    slope = np.where(a > 0, 1, w._data.reshape((-1,) + (1,) * (a.ndim - 2) if each else ())).astype(a.dtype, copy=False)
    others = tuple(axis for axis in range(a.ndim) if axis != 1 or not each)

    def backward(g: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return g * slope, np.where(a > 0, 0, g * a).sum(axis=others).reshape(w.shape)

    return record("prelu", narrowed(a * slope, x), (x, w), backward)


def rrelu(input: Tensor, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False,
          inplace: bool = False) -> Tensor:  # fmt: skip
    """Return x where x > 0, otherwise a * x; a is drawn from U(lower, upper) in training, else their mean.

    Source: Xu et al. 2015, arXiv:1505.00853, section 2.4.
    """
    if not training:
        return leaky_relu(input, (lower + upper) / 2, inplace)
    x = as_tensor(input)
    slope = np.where(x._data > 0, 1, default_generator().uniform(lower, upper, x.shape)).astype(x.dtype)
    return given(record("rrelu", x._data * slope, (x,), lambda g: (g * slope,)), x, inplace)


def _along(input: Tensor, dim: int | None, dtype: Any) -> tuple[Tensor, int]:
    """Return the input in dtype, and the axis."""
    x = as_tensor(input) if dtype is None else as_tensor(input).to(dtype)
    if dim is None:
        dim = 0 if x.ndim in (0, 1, 3) else 1
        warnings.warn(f"softmax without a dim took dim {dim} of {x.shape}. Pass dim={dim}.", stacklevel=3)
    _require_axis(x, dim)
    return x, dim


def _require_axis(x: Tensor, dim: int) -> None:
    if not -max(x.ndim, 1) <= dim < max(x.ndim, 1):  # a single number counts as one axis, as in torch
        raise ShapeError(f"there is no dim {dim} in a tensor of shape {x.shape}.")


def _log_probabilities(x: Tensor, dim: int) -> np.ndarray:
    a = widened(x._data)
    with np.errstate(invalid="ignore", divide="ignore"):  # -inf - -inf, or no elements
        shifted = a - a.max(axis=dim, keepdims=True, initial=-np.inf)
        return shifted - np.log(np.exp(shifted).sum(axis=dim, keepdims=True))


rrelu_ = functools.partial(rrelu, inplace=True)
