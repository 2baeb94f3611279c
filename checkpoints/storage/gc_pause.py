"""Keeping Python's garbage collector from looking for garbage where there is none."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collection() -> Iterator[None]:
    """Let no garbage be looked for while the block runs.

    The collector looks each time that some hundred objects were made. A header makes a hundred thousand at a stroke,
    none of them garbage, and looking through them again and again takes a third of the time of a load.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
