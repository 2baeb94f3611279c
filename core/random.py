"""Where random numbers come from: an explicit `numpy.random.Generator`, or the one of this module.

The module's generator starts from seed 0 in every process, so that a program that draws the same things in the same
order gets the same numbers. To keep and restore its state, read and set `default_generator().bit_generator.state`.
"""

from __future__ import annotations

import numpy as np

from .tensor import Tensor

_default = np.random.default_rng(0)


def default_generator() -> np.random.Generator:
    """Return the generator that is used wherever none is given. It is the same object for ever."""
    return _default


def manual_seed(seed: int) -> np.random.Generator:
    """Return the default generator, after starting it anew from seed."""
    _default.bit_generator.state = np.random.default_rng(seed).bit_generator.state
    return _default


def randn(*shape: int, generator: np.random.Generator | None = None) -> Tensor:
    """Return a float32 Tensor of this shape, drawn from the standard normal distribution."""
    return Tensor(np.asarray((generator or _default).standard_normal(shape, dtype=np.float32)))
