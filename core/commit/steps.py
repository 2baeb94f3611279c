"""Changes that happen together: an interrupt finds all of them made, or none.

Python runs signal handlers and raises asynchronous exceptions between two bytecodes, never inside a function written in
C. So a change of many arrays and dicts is first prepared as a list of steps, each a C function with its arguments, and
`run` then makes all of them in one call that executes no bytecode. Whatever can fail or runs Python code (checks,
conversions, new arrays) comes before it.
"""

from __future__ import annotations

import itertools
import operator
from collections import deque
from collections.abc import Iterable
from typing import Any

Step = tuple[Any, ...]  # a C function and its arguments


def run(steps: Iterable[Step]) -> None:
    """Run the steps in order, in one C call. Their functions must be written in C and must not fail."""
    deque(itertools.starmap(operator.call, [*steps]), maxlen=0)
