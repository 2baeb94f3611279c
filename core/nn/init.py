"""Initial values for parameters, written into the memory of a tensor in its own dtype.

Each function returns the tensor. fan_in and fan_out of a weight (out, in, *kernel) are in and out times the size of the
kernel. generator: the source of the draws; None means the default one (random.py).
"""

from __future__ import annotations

import math
from contextvars import ContextVar
from typing import TYPE_CHECKING, Literal

from ..autograd.tensor import Tensor
from ..commit.block import Setting
from ..errors import ArgumentError, ShapeError
from ..random import default_generator
from .module.parameter import Parameter

if TYPE_CHECKING:
    from numpy.random import Generator

Mode = Literal["fan_in", "fan_out"]

_skipping: ContextVar[bool] = ContextVar("statezoo_skipping_init", default=False)


def skip_init() -> Setting:
    """Return a context in which the functions here skip Parameters: they neither write to them nor draw for them.

    For a model whose parameters are all about to be loaded: their memory is reserved but not touched until the file is
    known to fit. Other tensors, such as buffers that no file holds, are still initialized.
    """
    return Setting(_skipping, lambda outside: True)


def _left_alone(tensor: Tensor) -> bool:
    return _skipping.get() and isinstance(tensor, Parameter)


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Fill tensor with draws from the uniform distribution on [a, b)."""
    if not _left_alone(tensor):
        tensor._data[...] = (generator or default_generator()).uniform(a, b, tensor.shape)
    return tensor


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Fill tensor with draws from the normal distribution."""
    if not _left_alone(tensor):
        tensor._data[...] = (generator or default_generator()).normal(mean, std, tensor.shape)
    return tensor


def constant_(tensor: Tensor, val: float) -> Tensor:
    """Fill tensor with val."""
    if not _left_alone(tensor):
        tensor._data[...] = val
    return tensor


def zeros_(tensor: Tensor) -> Tensor:
    """Fill tensor with 0."""
    return constant_(tensor, 0.0)


def ones_(tensor: Tensor) -> Tensor:
    """Fill tensor with 1."""
    return constant_(tensor, 1.0)


def xavier_uniform_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Fill tensor from U(-b, b) with b = gain * sqrt(6 / (fan_in + fan_out)).

    Source: Glorot and Bengio 2010, "Understanding the difficulty of training deep feedforward neural networks", eq. 16.
    """
    bound = gain * math.sqrt(6 / _at_least_one(sum(_fans(tensor))))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Fill tensor from N(0, s) with s = gain * sqrt(2 / (fan_in + fan_out)).

    Source: Glorot and Bengio 2010, "Understanding the difficulty of training deep feedforward neural networks", eq. 12.
    """
    return normal_(tensor, 0.0, gain * math.sqrt(2 / _at_least_one(sum(_fans(tensor)))), generator)


def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0,
    mode: Mode = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """Fill tensor from U(-b, b) with b = gain * sqrt(3 / fan), where gain is `calculate_gain(nonlinearity, a)`.

    Source: He et al. 2015, arXiv:1502.01852, eq. 15 (the same variance, spread evenly).
    """
    bound = math.sqrt(3) * _kaiming_std(tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: Tensor,
    a: float = 0,
    mode: Mode = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """Fill tensor from N(0, s) with s = gain / sqrt(fan), where gain is `calculate_gain(nonlinearity, a)`.

    Source: He et al. 2015, arXiv:1502.01852, eq. 15.
    """
    return normal_(tensor, 0.0, _kaiming_std(tensor, a, mode, nonlinearity), generator)


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """Return the factor that preserves the variance through a nonlinearity, with torch's values.

    param: the negative slope of "leaky_relu"; None means 0.01. Raises ArgumentError if the name is unknown.
    """
    if nonlinearity == "leaky_relu":
        return math.sqrt(2 / (1 + (0.01 if param is None else param) ** 2))
    gains = {"linear": 1.0, "sigmoid": 1.0, "tanh": 5 / 3, "relu": math.sqrt(2), "selu": 3 / 4}
    if nonlinearity not in gains:
        raise ArgumentError(
            f"unknown nonlinearity {nonlinearity!r}. Choose one of {', '.join([*gains, 'leaky_relu'])}."
        )
    return gains[nonlinearity]


def _kaiming_std(tensor: Tensor, a: float, mode: Mode, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise ArgumentError(f"mode must be 'fan_in' or 'fan_out', not {mode!r}.")
    fan_in, fan_out = _fans(tensor)
    return calculate_gain(nonlinearity, a) / math.sqrt(_at_least_one(fan_in if mode == "fan_in" else fan_out))


def _fans(tensor: Tensor) -> tuple[int, int]:
    if tensor.ndim < 2:
        raise ShapeError(f"fan_in and fan_out need a weight with two or more axes, not shape {tensor.shape}.")
    fan_out, fan_in, *kernel = tensor.shape
    return fan_in * math.prod(kernel), fan_out * math.prod(kernel)


def _at_least_one(fan: int) -> int:
    """Return fan, or 1 if it is 0: a weight without elements needs no values."""
    return max(fan, 1)
