"""Runs that leave no trace: what they may change is recorded before and restored after, in the same memory."""

from __future__ import annotations

import random
from typing import Any

import numpy as np

from ...commit.block import Block
from ...commit.snapshot import Snapshot, steps_to_restore
from ...random import undisturbed_generator


def undisturbed(*things: Any) -> Block[Snapshot]:
    """Return a context that yields a Snapshot of things. Its end restores it and all shared random generators."""
    snapshot = Snapshot(*things)
    begin, end = undisturbed_generator().steps()
    # A forward may draw from the shared generators; nothing here does.
    shared = [(np.random.set_state, np.random.get_state()), *steps_to_restore(random.getstate.__self__)]  # noqa: NPY002
    snapshot.steps[:0] = [*end, *shared]
    return Block(begin, snapshot.steps, snapshot)
