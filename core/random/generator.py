"""Generator: torch's methods on a generator of NumPy. A file of its own, because numpy.random is slow to import."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from ..autograd.devices import CPU, Device, require_cpu
from . import fresh_state, get_rng_state, set_rng_state


class Generator(np.random.Generator):
    """A random generator, for every argument `generator`. Its draws are those of NumPy, not of torch."""

    device, get_state = CPU, get_rng_state

    def __init__(self, device: Device = None) -> None:
        require_cpu(device)
        super().__init__(np.random.PCG64())
        self.manual_seed(67280421310721)  # as torch's

    def manual_seed(self, seed: int) -> Self:
        """Seed the generator and return it."""
        self.bit_generator.state, self._seed = fresh_state(seed), seed
        return self

    def initial_seed(self) -> int:
        """Return the seed."""
        return self._seed

    def set_state(self, state: Any) -> Self:
        """Set a state that `get_state` returned, and return the generator."""
        set_rng_state(state, self)
        return self

    def __reduce__(self) -> Any:
        return Generator, (), (self._seed, self.get_state())

    def __setstate__(self, state: Any) -> None:
        self.manual_seed(state[0]).set_state(state[1])
