"""A pause of the garbage collector while many objects are created."""

from __future__ import annotations

import gc
import os
import threading
from contextlib import suppress

_pausing: list[int] = []  # the threads that have turned the collector off


class without_collection:  # used as a function
    """Turn the garbage collector off during a `with` block.

    It runs after every few hundred new objects. A large header makes a hundred thousand of them, none of them garbage:
    checking them again and again takes a third of the time of a load.
    """

    def __init__(self) -> None:
        self._paused: list[int] = []

    def __enter__(self) -> None:
        try:
            if gc.isenabled():
                self._paused.append(threading.get_ident())
                _pausing.extend(self._paused)
                gc.disable()
        except BaseException:
            self._end()
            raise

    def __exit__(self, *_: object) -> None:
        self._end()

    def __del__(self) -> None:
        if hasattr(self, "_paused"):  # an interrupt may have ended __init__
            self._end()

    def _end(self) -> None:
        if self._paused:
            gc.enable()  # first of all: an interrupt comes after it
            with suppress(ValueError, IndexError):
                _pausing.remove(self._paused.pop())


def _end_those_of_others() -> None:
    """Turn the collector on in a forked child, which has none of the threads that turned it off."""
    if set(_pausing) - {threading.get_ident()}:
        _pausing.clear()
        gc.enable()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_end_those_of_others)
