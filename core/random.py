"""Where random numbers come from: an explicit `numpy.random.Generator`, or the one of this module.

The module's generator starts from seed 0 in every process, so that a program that draws the same things in the same
order gets the same numbers. To keep and restore its state, read and set `default_generator().bit_generator.state`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from .tensor import Tensor

# Made when it is first asked for: NumPy imports numpy.random only then, and a loaded model draws nothing.
_default: np.random.Generator | None = None
_making = threading.Lock()


def default_generator() -> np.random.Generator:
    """Return the generator that is used wherever none is given. It is the same object for ever."""
    global _default
    with _making:
        if _default is None:
            _default = np.random.default_rng(0)
    return _default


def manual_seed(seed: int) -> np.random.Generator:
    """Return the default generator, after starting it anew from seed."""
    generator = default_generator()
    generator.bit_generator.state = np.random.default_rng(seed).bit_generator.state
    return generator


@contextmanager
def undisturbed_generator() -> Iterator[None]:
    """Give the default generator back in the state it had: what happens inside draws from it unseen."""
    state = None if _default is None else _default.bit_generator.state
    try:
        yield
    finally:
        if state is not None:
            default_generator().bit_generator.state = state
        elif _default is not None:
            manual_seed(0)  # it was made inside


def randn(*shape: int, generator: np.random.Generator | None = None) -> Tensor:
    """Return a float32 Tensor of this shape, drawn from the standard normal distribution."""
    return Tensor(np.asarray((generator or default_generator()).standard_normal(shape, dtype=np.float32)))
