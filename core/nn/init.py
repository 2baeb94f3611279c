"""Initial values for parameters, written into the memory of a tensor in its own dtype.

Each function takes a Tensor, or an array such as `weight.data`, and returns it. fan_in and fan_out of a weight
(out, in, *kernel) are in and out times the size of the kernel. generator: the source of the draws; None means the
default one (random.py).

Sources: Glorot and Bengio 2010, "Understanding the difficulty of training deep feedforward neural networks" (xavier);
He et al. 2015, arXiv:1502.01852, eq. 15 (kaiming).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np

from ..autograd.tensor import Tensor
from ..commit.block import Setting
from ..errors import ArgumentError, ShapeError
from ..random import default_generator
from .module.parameter import Parameter

if TYPE_CHECKING:
    from numpy.random import Generator

Mode = Literal["fan_in", "fan_out"]
Filled = TypeVar("Filled", bound="Tensor | np.ndarray")

_skipping: ContextVar[bool] = ContextVar("statezoo_skipping_init", default=False)


def skip_init() -> Setting:
    """Return a context in which the functions here skip Parameters: they neither write to them nor draw for them.

    For a model whose parameters are all about to be loaded: their memory is reserved but not touched until the file is
    known to fit. Other tensors, such as buffers that no file holds, are still initialized.
    """
    return Setting(_skipping, lambda outside: True)


def _left_alone(tensor: Any) -> bool:
    return _skipping.get() and isinstance(tensor, Parameter)


def _fill(tensor: Filled, values: Callable[[], Any]) -> Filled:
    """Write values() into the memory of tensor, unless it is left alone."""
    if not _left_alone(tensor):
        (tensor._data if isinstance(tensor, Tensor) else tensor)[...] = values()
    return tensor


def uniform_(tensor: Filled, a: float = 0.0, b: float = 1.0, generator: Generator | None = None) -> Filled:
    """Fill tensor with draws from the uniform distribution on [a, b)."""
    return _fill(tensor, lambda: (generator or default_generator()).uniform(a, b, tensor.shape))


def normal_(tensor: Filled, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None) -> Filled:
    """Fill tensor with draws from the normal distribution."""
    return _fill(tensor, lambda: (generator or default_generator()).normal(mean, std, tensor.shape))


def trunc_normal_(tensor: Filled, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0,
                  generator: Generator | None = None) -> Filled:  # fmt: skip
    """Fill tensor with draws from the normal distribution under the condition that they lie in [a, b]."""
    if not a <= b or std <= 0:
        raise ArgumentError(f"trunc_normal_ needs a <= b and a positive std, not a={a}, b={b} and std={std}.")
    return _fill(tensor, lambda: _truncated(tensor.shape, mean, std, a, b, generator or default_generator()))


def constant_(tensor: Filled, val: float) -> Filled:
    """Fill tensor with val."""
    return _fill(tensor, lambda: val)


def zeros_(tensor: Filled) -> Filled:
    """Fill tensor with 0."""
    return constant_(tensor, 0.0)


def ones_(tensor: Filled) -> Filled:
    """Fill tensor with 1."""
    return constant_(tensor, 1.0)


def xavier_uniform_(tensor: Filled, gain: float = 1.0, generator: Generator | None = None) -> Filled:
    """Fill tensor from U(-b, b) with b = gain * sqrt(6 / (fan_in + fan_out)). Source: eq. 16."""
    bound = gain * math.sqrt(6 / _at_least_one(sum(_fans(tensor))))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Filled, gain: float = 1.0, generator: Generator | None = None) -> Filled:
    """Fill tensor from N(0, s) with s = gain * sqrt(2 / (fan_in + fan_out)). Source: eq. 12."""
    return normal_(tensor, 0.0, gain * math.sqrt(2 / _at_least_one(sum(_fans(tensor)))), generator)


def kaiming_uniform_(tensor: Filled, a: float = 0, mode: Mode = "fan_in", nonlinearity: str = "leaky_relu",
                     generator: Generator | None = None) -> Filled:  # fmt: skip
    """Fill tensor from U(-b, b) with b = gain * sqrt(3 / fan), where gain is `calculate_gain(nonlinearity, a)`."""
    bound = math.sqrt(3) * _kaiming_std(tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(tensor: Filled, a: float = 0, mode: Mode = "fan_in", nonlinearity: str = "leaky_relu",
                    generator: Generator | None = None) -> Filled:  # fmt: skip
    """Fill tensor from N(0, s) with s = gain / sqrt(fan), where gain is `calculate_gain(nonlinearity, a)`."""
    return normal_(tensor, 0.0, _kaiming_std(tensor, a, mode, nonlinearity), generator)


def eye_(tensor: Filled) -> Filled:
    """Fill a matrix with the identity: 1 on the diagonal, 0 elsewhere."""
    _require_matrix("eye_", tensor)
    return _fill(tensor, lambda: np.eye(tensor.shape[0], tensor.shape[1]))


def dirac_(tensor: Filled, groups: int = 1) -> Filled:
    """Fill the weight (out, in, *kernel) of a convolution so that it passes its input on, within each group."""
    if not 3 <= tensor.ndim <= 5 or tensor.shape[0] % groups:
        raise ShapeError(f"dirac_ fills (out, in, *kernel) with groups that divide out, not {tuple(tensor.shape)}.")
    out, width, *kernel = tensor.shape
    values, within = np.zeros(tensor.shape), np.arange(out) % (out // groups)
    (rows,) = (within < width).nonzero()
    values[(rows, within[rows], *(side // 2 for side in kernel))] = 1
    return _fill(tensor, lambda: values)


def orthogonal_(tensor: Filled, gain: float = 1, generator: Generator | None = None) -> Filled:
    """Fill tensor, seen as a matrix (rows, all other axes), with orthonormal rows or columns times gain.

    Raises ShapeError if it has fewer than two axes. Source: Saxe et al. 2013, arXiv:1312.6120, section 3.
    """
    if tensor.ndim < 2:
        raise ShapeError(f"orthogonal_ needs two or more axes, not shape {tuple(tensor.shape)}.")

    def values() -> np.ndarray:
        rows, columns = tensor.shape[0], math.prod(tensor.shape[1:])
        drawn = (generator or default_generator()).normal(size=(max(rows, columns), min(rows, columns)))
        q, r = np.linalg.qr(drawn)
        q *= np.copysign(1, np.diag(r))  # makes it uniform (Mezzadri 2007, arXiv:math-ph/0609050, section 5)
        return (gain * (q if rows >= columns else q.T)).reshape(tensor.shape)

    return _fill(tensor, values)


def sparse_(tensor: Filled, sparsity: float, std: float = 0.01, generator: Generator | None = None) -> Filled:
    """Fill a matrix from N(0, std), with the part `sparsity` of each column (rounded up) set to 0.

    Source: Martens 2010, "Deep learning via Hessian-free optimization", section 5.
    """
    _require_matrix("sparse_", tensor)
    draws, zeros = generator or default_generator(), math.ceil(sparsity * tensor.shape[0])
    return _fill(
        tensor,
        lambda: np.where(draws.random(tensor.shape).argsort(axis=0) < zeros, 0, draws.normal(0, std, tensor.shape)),
    )


def _require_matrix(name: str, tensor: Any) -> None:
    if tensor.ndim != 2:
        raise ShapeError(f"{name} fills a matrix, not shape {tuple(tensor.shape)}.")


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """Return the factor that preserves the variance through a nonlinearity, with torch's values.

    param: the negative slope of "leaky_relu"; None means 0.01. Raises ArgumentError if the name is unknown.
    """
    if nonlinearity == "leaky_relu":
        return math.sqrt(2 / (1 + (0.01 if param is None else param) ** 2))
    gains = {"linear": 1.0, "sigmoid": 1.0, "tanh": 5 / 3, "relu": math.sqrt(2), "selu": 3 / 4}
    gains |= dict.fromkeys((f"conv{kind}{n}d" for kind in ("", "_transpose") for n in (1, 2, 3)), 1.0)
    if nonlinearity not in gains:
        raise ArgumentError(
            f"unknown nonlinearity {nonlinearity!r}. Choose one of {', '.join([*gains, 'leaky_relu'])}."
        )
    return gains[nonlinearity]


def _kaiming_std(tensor: Tensor | np.ndarray, a: float, mode: Mode, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise ArgumentError(f"mode must be 'fan_in' or 'fan_out', not {mode!r}.")
    fan_in, fan_out = _fans(tensor)
    return calculate_gain(nonlinearity, a) / math.sqrt(_at_least_one(fan_in if mode == "fan_in" else fan_out))


def _fans(tensor: Tensor | np.ndarray) -> tuple[int, int]:
    if tensor.ndim < 2:
        raise ShapeError(f"fan_in and fan_out need a weight with two or more axes, not shape {tensor.shape}.")
    fan_out, fan_in, *kernel = tensor.shape
    return fan_in * math.prod(kernel), fan_out * math.prod(kernel)


def _at_least_one(fan: int) -> int:
    """Return fan, or 1 if it is 0: a weight without elements needs no values."""
    return max(fan, 1)


def _truncated(shape: tuple[int, ...], mean: float, std: float, a: float, b: float, draws: Generator) -> np.ndarray:
    """Return draws from N(mean, std) under the condition that they lie in [a, b], by rejection from a uniform draw."""
    low, high = (a - mean) / std, (b - mean) / std
    mode = min(max(0, low), high)  # the most likely value, in units of std; beyond 9 of them, nothing is left
    z, left = np.empty(math.prod(shape)), np.arange(math.prod(shape))
    while left.size:
        z[left] = draws.uniform(max(low, mode - 9), min(high, mode + 9), left.size)
        left = left[draws.random(left.size) > np.exp((mode * mode - z[left] ** 2) / 2)]
    return (mean + std * z).reshape(shape).clip(a, b)
