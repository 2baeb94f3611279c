"""A Ctrl-C at many moments of a load, in the files in which it changes a model."""

import sys
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

# The files in which a load changes something.
_FILES = ("core/commit/commit.py", "core/commit/steps.py", "core/commit/block.py", "checkpoints/models/loading.py")


class _Interrupt:
    """A tracer that raises KeyboardInterrupt before bytecode number `at` of those files."""

    def __init__(self, at: int | None) -> None:
        self.at, self.count = at, 0

    def enter(self, frame: FrameType, event: str, argument: Any) -> Any:
        if not frame.f_code.co_filename.endswith(_FILES):
            return None
        frame.f_trace_opcodes = True
        return self.step

    def step(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "opcode":
            self.count += 1
            if self.count == self.at:
                raise KeyboardInterrupt
        return self.step

    def run(self, function: Callable[[], Any]) -> None:
        before = sys.gettrace()
        sys.settrace(self.enter)
        try:
            function()
        finally:
            sys.settrace(before)


def ends_of_interrupted(
    load: Callable[[], Any], describe: Callable[[], Any], reset: Callable[[], Any], moments: int
) -> list[Any]:
    """Interrupt a load at up to that many moments, each time from the same start, and return the different ends."""
    reset()
    counter = _Interrupt(None)
    counter.run(load)
    assert counter.count > 100
    ends: list[Any] = []
    # The last ones too, at which the load has happened.
    for at in {*range(1, counter.count, -(-counter.count // moments)), *range(counter.count - 8, counter.count + 1)}:
        reset()
        with suppress(KeyboardInterrupt):
            _Interrupt(at).run(load)
        if (end := describe()) not in ends:
            ends.append(end)
    return ends
