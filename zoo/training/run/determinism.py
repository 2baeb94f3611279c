"""What makes a run come out in the same bits on any number of processors: one thread."""

from collections.abc import Iterator
from contextlib import contextmanager

from ...extras import require


@contextmanager
def one_thread() -> Iterator[None]:
    """Let NumPy's linear algebra use one thread inside: with another number it adds in another order.

    Small matrices are faster so, too. Raises MissingExtraError without threadpoolctl.
    """
    with require("threadpoolctl", "threadpoolctl").threadpool_limits(1):
        yield
