"""An exception at a random moment: from a signal handler or another thread, or before a random bytecode."""

from __future__ import annotations

import ctypes
import random
import signal
import threading
from collections.abc import Callable
from typing import Any

from opcodes import Opcodes

from statezoo.checkpoints import CheckpointError


class OtherError(Exception):
    """What a handler of a user may raise."""


KINDS = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2", "thread", "bytecode")
RAISED: dict[str, type[BaseException]] = {"SIGTERM": SystemExit, "SIGUSR1": OtherError}
_MOST = 3  # the most exceptions in one call


class Interrupter:
    """A call with exceptions at random moments.

    kind: "SIGINT" is Ctrl-C, "SIGTERM" has a handler that raises SystemExit, "SIGUSR1" one that raises another error,
    and "SIGUSR2" one that does nothing, so that system calls are interrupted; "thread" is an exception that another
    thread sets (PyThreadState_SetAsyncExc), "bytecode" one that is raised before a random bytecode of the library.
    """

    def __init__(self, kind: str, rng: random.Random, duration_s: float, bytecodes: int) -> None:
        self.kind, self._rng, self._left = kind, rng, 0
        self._duration_s, self._bytecodes = duration_s, bytecodes
        self.exception = RAISED.get(kind, KeyboardInterrupt)

    def call(self, function: Callable[[], Any]) -> str:
        """Call function. Return "interrupted", or "done" if it came to its end. Another error comes through."""
        if self.kind == "bytecode":
            opcodes = Opcodes(self._rng.randrange(1, self._bytecodes + 2), everywhere=False)
            return self._outcome(lambda: opcodes.call(function))
        first_s = self._rng.uniform(1e-6, self._duration_s)
        again_s = self._rng.choice((0, 0, self._rng.uniform(1e-5, self._duration_s)))
        before = signal.signal(signal.SIGALRM, self._handle)
        try:
            self._left = 30 if self.kind == "SIGUSR2" else _MOST if again_s else 1
            # Not so often that nothing but the handler runs.
            signal.setitimer(signal.ITIMER_REAL, first_s, max(again_s, 1e-4))
            return self._outcome(function)
        finally:
            signal.signal(signal.SIGALRM, before)

    def _outcome(self, function: Callable[[], Any]) -> str:
        try:
            function()
            return "done"
        except self.exception:
            return "interrupted"
        except CheckpointError as error:  # raised in code of the user, it is the reason why a load refuses
            if self.kind not in str(error):
                raise
            return "interrupted"
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _handle(self, number: int, frame: Any) -> None:
        self._left -= 1
        if self._left <= 0:
            signal.setitimer(signal.ITIMER_REAL, 0)
        if self._left < 0 or frame.f_code.co_filename == __file__:
            return  # this campaign itself is not interrupted
        if self.kind == "thread":
            main = ctypes.c_ulong(threading.main_thread().ident or 0)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(main, ctypes.py_object(KeyboardInterrupt))
        elif self.kind != "SIGUSR2":
            raise self.exception(self.kind)
