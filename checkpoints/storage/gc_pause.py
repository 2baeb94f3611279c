"""A pause of the garbage collector while many objects are created."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collection() -> Iterator[None]:
    """Turn the garbage collector off during the block.

    It runs after every few hundred new objects. A large header makes a hundred thousand of them, none of them garbage:
    checking them again and again takes a third of the time of a load.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
