"""Generator: torch's methods on a generator of NumPy. A file of its own, because numpy.random is slow to import."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from ..autograd.devices import Device, device, require_cpu
from . import fresh_state, get_rng_state, set_rng_state


class Generator(np.random.Generator):
    """A random generator, for every argument `generator`. Its draws are those of NumPy, not of torch."""

    device = device("cpu")

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

    def seed(self) -> int:
        """Seed the generator with a number from the system, and return that."""
        import secrets

        return self.manual_seed(secrets.randbits(63))._seed

    def get_state(self) -> dict[str, Any]:
        """Return the state, in NumPy's format."""
        return get_rng_state(self)

    def set_state(self, state: Mapping[str, Any]) -> Self:
        """Set a state that `get_state` returned, and return the generator."""
        set_rng_state(state, self)
        return self

    def __reduce__(self) -> Any:
        return _rebuilt, (self._seed, self.get_state())


def _rebuilt(seed: int, state: Mapping[str, Any]) -> Generator:
    return Generator().manual_seed(seed).set_state(state)
