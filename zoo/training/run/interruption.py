"""Ctrl-C and SIGTERM as a flag, so that a training loop can stop between two steps."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """A flag that is true once a signal has arrived. signal: its number, or None."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def __bool__(self) -> bool:
        return self.signal is not None


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Yield a flag that becomes true at the first Ctrl-C or SIGTERM. A second one has its usual effect.

    Must be called in the main thread.
    """
    interruption = Interruption()
    before = {number: signal.getsignal(number) for number in _SIGNALS}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, frame: FrameType | None) -> None:
        interruption.signal = number
        restore()

    for number in _SIGNALS:
        signal.signal(number, note)
    try:
        yield interruption
    finally:
        restore()
