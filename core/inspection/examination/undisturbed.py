"""Runs that leave no trace: what they may change is recorded before and restored after, in the same memory."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ...commit.snapshot import Snapshot, steps_to_restore
from ...commit.steps import run
from ...random import undisturbed_generator


@contextmanager
def undisturbed(*things: Any) -> Iterator[Snapshot]:
    """Yield a Snapshot of things. At the end, restore everything in it and all shared random generators."""
    snapshot = Snapshot(*things)
    # A forward may draw from the shared generators; nothing here does.
    snapshot.steps += steps_to_restore(random.getstate.__self__)
    snapshot.steps.append((np.random.set_state, np.random.get_state()))  # noqa: NPY002
    try:
        with undisturbed_generator():
            yield snapshot
    finally:
        run(snapshot.steps)
