"""What makes a run come out in the same bits: numbers drawn apart from everybody else's, and one thread."""

from collections.abc import Iterator
from contextlib import contextmanager

from ..core import default_generator
from .extras import require


@contextmanager
def undisturbed_generator() -> Iterator[None]:
    """Give the default generator back in the state it had: what happens inside draws from it unseen."""
    generator = default_generator()
    state = generator.bit_generator.state
    try:
        yield
    finally:
        generator.bit_generator.state = state


@contextmanager
def one_thread() -> Iterator[None]:
    """Let NumPy's linear algebra use one thread inside: with another number it adds in another order.

    Small matrices are faster so, too. Raises MissingExtraError without threadpoolctl.
    """
    with require("threadpoolctl", "threadpoolctl").threadpool_limits(1):
        yield
