"""An exception before a chosen bytecode of the library: what a signal handler or another thread may raise anywhere."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from memory import make

import statezoo.core

ROOT = Path(statezoo.core.__file__).parents[1]
_OURS = tuple(f"{ROOT / package}/" for package in ("core", "checkpoints", "zoo"))
# Functions of a user that the library calls.
_USERS = ("load_state_dict", "set_extra_state", "get_extra_state", "train")


class Opcodes:
    """A count of the bytecodes that run in frames of the library, with an exception before one of them.

    at: the number of that bytecode, from 1; None counts only.
    """

    def __init__(self, at: int | None = None, exception: type[BaseException] = KeyboardInterrupt) -> None:
        self.at, self.exception, self.count = at, exception, 0
        self.place = ""  # where the exception was raised: file, line and function

    def call(self, function: Callable[[], Any]) -> Any:
        """Call function and return its result."""
        before = sys.gettrace()
        sys.settrace(self._enter)
        try:
            return function()
        finally:
            sys.settrace(before)

    def _enter(self, frame: FrameType, event: str, argument: Any) -> Any:
        if not frame.f_code.co_filename.startswith(_OURS) and frame.f_code.co_name not in _USERS:
            return None
        frame.f_trace_opcodes = True
        return self._step

    def _step(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "opcode":
            self.count += 1
            if self.count == self.at:
                code = frame.f_code
                self.place = f"{code.co_filename.removeprefix(f'{ROOT}/')}:{frame.f_lineno} {code.co_name}"
                raise self.exception(f"before bytecode {self.at}")
        return self._step


class Trials:
    """A change in memory, interrupted before each of its bytecodes. See memory.py.

    count: the number of its bytecodes. ends: "old" and "new", as far as they were seen.
    """

    def __init__(self, name: str) -> None:
        self.name, self.ends = name, set[str]()
        case = make(name)  # also makes what all cases share
        case.change()
        case = make(name)
        self._old = case.describe()
        opcodes = Opcodes()
        opcodes.call(case.change)
        self._new, self.count = case.describe(), opcodes.count
        assert self._old != self._new, f"{name} changes nothing"

    def failure(self, at: int, exception: type[BaseException] = KeyboardInterrupt) -> str | None:
        """Interrupt the change before bytecode `at`. Return what is wrong then, or None."""
        case, opcodes = make(self.name), Opcodes(at, exception)
        with contextlib.suppress(exception):
            opcodes.call(case.change)
        found = case.describe()
        if found not in (self._old, self._new):
            return f"{self.name}: half changed by {exception.__name__} before bytecode {at}, in {opcodes.place}"
        self.ends.add("old" if found == self._old else "new")
        return None
