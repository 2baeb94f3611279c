"""Dropout, of a tensor or of attention weights."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...autograd.tensor import Tensor, record
from ...errors import ArgumentError
from ...random import default_generator
from .curves import given
from .spatial.windows import batched, by_dims


def dropout(
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False,
    generator: np.random.Generator | None = None,
) -> Tensor:  # fmt: skip
    """Zero each element with probability p and divide the others by 1 - p. Return input itself if not training.

    Raises ArgumentError if p is outside [0, 1].
    Source: Srivastava et al. 2014, JMLR 15, 1929-1958, section 10 ("inverted").
    """
    return given(_dropped(input, input.shape, p, training, generator), input, inplace)


def _dropout(dims: int, input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Zero each channel of input (N, C, *sizes) or (C, *sizes) with probability p; otherwise like `dropout`.

    Source: Tompson et al. 2015, arXiv:1411.4280, section 3.2.
    """
    batched(f"dropout{dims}d", input, input._data, dims)
    return given(_dropped(input, (*input.shape[:-dims], *[1] * dims), p, training), input, inplace)


dropout1d, dropout2d, dropout3d = by_dims(_dropout)


def _dropped(
    x: Tensor, shape: tuple[int, ...], p: float, training: bool, generator: np.random.Generator | None = None
) -> Tensor:
    """Return x times a mask of a shape that broadcasts to that of x."""
    keep = keep_scale(shape, x.dtype, p, training, generator)
    return x if keep is None else record("dropout", x._data * keep, (x,), lambda g: (g * keep,))


def require_probability(p: float) -> None:
    """Raise ArgumentError unless p is between 0 and 1."""
    if not 0 <= p <= 1:
        raise ArgumentError(f"dropout: p must be between 0 and 1, not {p}.")


def keep_scale(
    shape: tuple[int, ...], dtype: np.dtype[Any], p: float, training: bool, generator: np.random.Generator | None
) -> np.ndarray | None:
    """Return the dropout mask: 0 with probability p, otherwise 1 / (1 - p). Return None if it would change nothing."""
    require_probability(p)
    if not training or p == 0:
        return None
    kept = (generator or default_generator()).random(shape, np.float32) >= p
    return np.multiply(kept, 0 if p == 1 else 1 / (1 - p), dtype=dtype)
