"""An exception before a chosen bytecode of the library: what a signal handler or another thread may raise anywhere."""

from __future__ import annotations

import contextlib
import dis
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from memory import CHECKED_ONLY, TRACELESS, make

import statezoo.core

ROOT = Path(statezoo.core.__file__).parents[1]
_OURS = tuple(f"{ROOT / package}/" for package in ("core", "checkpoints", "zoo"))
# Functions of a user that the library calls.
_USERS = ("load_state_dict", "set_extra_state", "get_extra_state", "train")


# Python 3.11 looks for signals after these, and at the start of a function.
_CHECKED = (None, "CALL", "CALL_FUNCTION_EX", "CALL_KW", "JUMP_BACKWARD")


class Opcodes:
    """A count of the bytecodes that run in frames of the library, with an exception before one of them.

    at: the number of that bytecode, from 1; None counts only. everywhere: False counts only the bytecodes before which
    Python looks for signals: at the start of a function, after a call, and at the end of a loop. Nothing written in
    Python, not even `finally`, can hold against an exception before each bytecode.
    """

    def __init__(
        self, at: int | None = None, exception: type[BaseException] = KeyboardInterrupt, everywhere: bool = True
    ) -> None:
        self.at, self.exception, self.everywhere, self.count = at, exception, everywhere, 0
        self._before: dict[int, str] = {}  # the last bytecode of each frame, by its id
        self.place = ""  # where the exception was raised: file, line and function
        # Held here: Python 3.11 does not hold a trace function while it calls it, and may drop it meanwhile.
        self._on_enter, self._on_step = self._enter, self._step

    def call(self, function: Callable[[], Any]) -> Any:
        """Call function and return its result."""
        before = sys.gettrace()
        sys.settrace(self._on_enter)
        try:
            return function()
        finally:
            sys.settrace(before)

    def _enter(self, frame: FrameType, event: str, argument: Any) -> Any:
        if not frame.f_code.co_filename.startswith(_OURS) and frame.f_code.co_name not in _USERS:
            return None
        frame.f_trace_opcodes = True
        self._before.pop(id(frame), None)
        return self._on_step

    def _step(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "opcode":
            before = self._before.get(id(frame))
            self._before[id(frame)] = dis.opname[frame.f_code.co_code[frame.f_lasti]]
            if not self.everywhere and before not in _CHECKED:
                return self._on_step
            self.count += 1
            if self.count == self.at:
                code = frame.f_code
                self.place = f"{code.co_filename.removeprefix(f'{ROOT}/')}:{frame.f_lineno} {code.co_name}"
                raise self.exception(f"before bytecode {self.at}")
        return self._on_step


class Trials:
    """A change in memory, interrupted before each of its bytecodes. See memory.py.

    count: the number of its bytecodes. ends: "old" and "new", as far as they were seen; what leaves no trace is "old".
    """

    def __init__(self, name: str) -> None:
        self.name, self.ends = name, set[str]()
        case = make(name)  # also makes what all cases share
        case.change()
        self._old = make(name).describe()
        case = make(name)  # another one: a look at `.data` makes the next look shorter
        opcodes = Opcodes(everywhere=name not in CHECKED_ONLY)
        opcodes.call(case.change)
        self._new, self.count = case.describe(), opcodes.count
        assert (self._old == self._new) == (name in TRACELESS), name

    def failure(self, at: int, exception: type[BaseException] = KeyboardInterrupt) -> str | None:
        """Interrupt the change before bytecode `at`. Return what is wrong then, or None."""
        case, opcodes = make(self.name), Opcodes(at, exception, self.name not in CHECKED_ONLY)
        with contextlib.suppress(exception):
            opcodes.call(case.change)
        found = case.describe()
        if found not in (self._old, self._new):
            return f"{self.name}: half changed by {exception.__name__} before bytecode {at}, in {opcodes.place}"
        self.ends.add("old" if found == self._old else "new")
        return None
