"""Random numbers, drawn from an explicit `numpy.random.Generator` or from the default generator.

The default generator starts from seed 0 in every process, so a program that draws the same things in the same order
gets the same numbers. `get_rng_state` and `set_rng_state` save and restore the state of a generator.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

import numpy as np

from ..commit.block import Setting
from ..errors import ArgumentError

# Created on first use: NumPy imports numpy.random lazily, and a loaded model draws nothing. A dict, because its
# setdefault needs no lock, which a signal handler or a forked child could find held.
_made: dict[str, np.random.Generator] = {}
_seeds = {"default": 0}


class _StandIn:
    """A copy of the default generator at the start of the block, created on the first draw."""

    def __init__(self, outside: _StandIn | None) -> None:
        self._made: dict[str, np.random.Generator] = {}
        if outside is not None:
            self._state = outside.state
        else:
            self._state = _made["default"].bit_generator.state if _made else None

    @property
    def state(self) -> Mapping[str, Any] | None:
        return self._made["default"].bit_generator.state if self._made else self._state

    @property
    def generator(self) -> np.random.Generator:
        if not self._made:
            generator = np.random.default_rng(0)
            if self._state is not None:
                generator.bit_generator.state = self._state
            self._made.setdefault("default", generator)
        return self._made["default"]


_stand_in: ContextVar[_StandIn | None] = ContextVar("statezoo_stand_in_generator", default=None)


def default_generator() -> np.random.Generator:
    """Return the default generator, which is always the same object.

    Inside `undisturbed_generator`, return the generator of that block instead.
    """
    stand_in = _stand_in.get()
    if stand_in is not None:
        return stand_in.generator
    if not _made:
        _made.setdefault("default", np.random.default_rng(0))
    return _made["default"]


def manual_seed(seed: int) -> np.random.Generator:
    """Seed the default generator and return it. seed: an int; a negative one counts from 2 ** 64, as in torch."""
    generator = default_generator()
    generator.bit_generator.state = fresh_state(seed)
    _seeds["default"] = seed
    return generator


def initial_seed() -> int:
    """Return the seed of the default generator."""
    return _seeds["default"]


def fresh_state(seed: int) -> Mapping[str, Any]:
    """Return the state of a generator with this seed."""
    return np.random.default_rng(seed + 2**64 if seed < 0 else seed).bit_generator.state


def get_rng_state(generator: np.random.Generator | None = None) -> dict[str, Any]:
    """Return the state of the generator (None means the default one), in NumPy's format.

    The state is a dict of integers of up to 128 bits, arrays, and the name of the bit generator. It determines all
    draws, but not the generators that `spawn` returns.
    """
    return dict((generator or default_generator()).bit_generator.state)


def set_rng_state(state: Mapping[str, Any], generator: np.random.Generator | None = None) -> None:
    """Set the generator (None means the default one) to a state that `get_rng_state` returned.

    Raises ArgumentError if the state is invalid or belongs to another kind of generator; nothing is changed in that
    case.
    """
    bit_generator = (generator or default_generator()).bit_generator
    kind, was = type(bit_generator).__name__, state.get("bit_generator")
    if was != kind:
        raise ArgumentError(
            f"the state belongs to the bit generator {was}, but this one is a {kind}; nothing was changed."
        )
    try:
        # Try a new one first: NumPy checks while it writes, so a bad state could be half written.
        type(bit_generator)().state = state
    except (AssertionError, IndexError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise ArgumentError(f"this is not a state of a {kind}; nothing was changed: {error!r}.") from error
    bit_generator.state = state


def undisturbed_generator() -> Setting:
    """Return a context in which this thread draws from a copy of the default generator.

    The default generator itself does not change, and other threads can still draw from it.
    """
    return Setting(_stand_in, lambda outside: _StandIn(outside))
