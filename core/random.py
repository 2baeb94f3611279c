"""Where random numbers come from: an explicit `numpy.random.Generator`, or the one of this module.

The module's generator starts from seed 0 in every process, so that a program that draws the same things in the same
order gets the same numbers. `get_rng_state` and `set_rng_state` keep and restore its state, or another generator's.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property
from typing import Any

import numpy as np

from .autograd.tensor import Tensor
from .errors import ArgumentError

# Made when it is first asked for: NumPy imports numpy.random only then, and a loaded model draws nothing.
_default: np.random.Generator | None = None
_making = threading.Lock()


class _StandIn:
    """A copy of the default generator as it was when the block began, made when something is drawn."""

    def __init__(self) -> None:
        current = _stand_in.get()
        if current is not None:
            self._state = current.state
        else:
            self._state = None if _default is None else _default.bit_generator.state

    @property
    def state(self) -> Mapping[str, Any] | None:
        made = self.__dict__.get("generator")
        return made.bit_generator.state if made is not None else self._state

    @cached_property
    def generator(self) -> np.random.Generator:
        generator = np.random.default_rng(0)
        if self._state is not None:
            generator.bit_generator.state = self._state
        return generator


_stand_in: ContextVar[_StandIn | None] = ContextVar("statezoo_stand_in_generator", default=None)


def default_generator() -> np.random.Generator:
    """Return the generator that is used wherever none is given. It is the same object for ever.

    Inside `undisturbed_generator`, it is the generator of that block.
    """
    global _default
    stand_in = _stand_in.get()
    if stand_in is not None:
        return stand_in.generator
    with _making:
        if _default is None:
            _default = np.random.default_rng(0)
    return _default


def manual_seed(seed: int) -> np.random.Generator:
    """Return the default generator, after starting it anew from seed."""
    generator = default_generator()
    generator.bit_generator.state = np.random.default_rng(seed).bit_generator.state
    return generator


def get_rng_state(generator: np.random.Generator | None = None) -> dict[str, Any]:
    """Return all that decides what the generator (the default one, if none is given) draws next, as NumPy has it.

    A dict of integers of up to 128 bits, arrays, and the name of the bit generator. What `spawn` gives is not in it.
    """
    return dict((generator or default_generator()).bit_generator.state)


def set_rng_state(state: Mapping[str, Any], generator: np.random.Generator | None = None) -> None:
    """Let the generator (the default one, if none is given) go on from what `get_rng_state` returned.

    Raises ArgumentError if that is the state of another kind of generator, or none; nothing has changed then.
    """
    bit_generator = (generator or default_generator()).bit_generator
    kind, was = type(bit_generator).__name__, state.get("bit_generator")
    if was != kind:
        raise ArgumentError(f"the state is of a bit generator {was}, this one is a {kind}; it was not changed.")
    try:
        type(bit_generator)().state = state  # NumPy checks as it goes, and would leave half of a bad one
    except (AssertionError, IndexError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise ArgumentError(f"this is no state of a {kind}, which was not changed: {error!r}.") from error
    bit_generator.state = state


@contextmanager
def undisturbed_generator() -> Iterator[None]:
    """Let this thread draw from a copy of the default generator inside the block.

    The default generator itself is not changed, so other threads may draw from it meanwhile.
    """
    token = _stand_in.set(_StandIn())
    try:
        yield
    finally:
        _stand_in.reset(token)


def randn(*shape: int, generator: np.random.Generator | None = None) -> Tensor:
    """Return a float32 Tensor of this shape, drawn from the standard normal distribution."""
    return Tensor(np.asarray((generator or default_generator()).standard_normal(shape, dtype=np.float32)))
