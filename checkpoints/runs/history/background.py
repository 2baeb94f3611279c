"""Saving while training goes on: a snapshot of the state, and a thread that writes it.

The snapshot is copied on the thread that asks for it, so it is the state of that moment whatever happens to the arrays
afterwards. Its memory is used again by the next one: a run takes the room of one further state, and no more.

The thread is one that the interpreter waits for when it ends, and there is a new one for each job: none idles, nor has
to be told to end. In a forked process there is none, and what its parent was doing is its parent's alone.
"""

from __future__ import annotations

import atexit
import copy
import os
import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ...files import packed_of
from ...state import dtypes
from ...state.sharing import unpack


class Snapshot:
    """Copies of states, one at a time: each takes the memory of the one before."""

    def __init__(self) -> None:
        self._buffers: dict[str, np.ndarray] = {}

    def take(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """Return a copy of what save_file takes: equal values, sharing memory as they do; what is deferred is made.

        Raises StateError for what cannot be kept.
        """
        packed = packed_of(state)
        earlier, self._buffers = self._buffers, {}  # the handler of a signal may take one meanwhile
        buffers: dict[str, np.ndarray] = {}
        for name, value in packed.stored.items():
            array = dtypes.little_endian(np.asarray(value))
            buffer = earlier.get(name)
            if buffer is None or buffer.shape != array.shape or buffer.dtype != array.dtype:
                buffer = np.empty(array.shape, array.dtype)
            raw = np.dtype(f"V{array.itemsize}")  # moved as bytes: not even the payload of a NaN changes
            np.copyto(buffer.view(raw), array.view(raw))
            buffers[name] = buffer
        self._buffers = buffers
        packed.stored, packed.extra = dict(buffers), copy.deepcopy(packed.extra)
        return unpack(packed)


class Background:
    """Does one job at a time on a thread. What a job raises, the next call raises."""

    def __init__(self) -> None:
        self._running: _Job | None = None

    def start(self, job: Callable[[], None]) -> None:
        """Start a job, when the one before has ended. Raises what that one raised; then this one is not started."""
        self.wait()
        if not threading.main_thread().is_alive():  # the interpreter is ending, and waits for no further thread
            job()
            return
        running = _Job(job)
        # One that nobody waits for must not fail in silence.
        atexit.register(running.finish)
        self._running = running
        try:
            running.thread.start()
        except RuntimeError:  # the system gives no further thread
            running.run()

    def wait(self) -> None:
        """Wait until no job is running. Raises what the last one raised, once."""
        running = self._running
        if running is not None:
            running.join()
            if self._running is running:  # another thread may have waited, too
                self._running = None
            atexit.unregister(running.finish)
            running.finish()


class _Job:
    def __init__(self, work: Callable[[], None]) -> None:
        self._work: Callable[[], None] | None = work
        self._error: BaseException | None = None
        self._process = os.getpid()
        # Thread.join takes a thread for ended once Ctrl-C has interrupted it (CPython issue 90882).
        self._ended = threading.Event()
        self.thread = threading.Thread(target=self.run, name="statezoo-save", daemon=False)

    def join(self) -> None:
        """Wait for the end of the work, unless an interruption came before its beginning."""
        if os.getpid() == self._process and (self.thread.ident is not None or self._work is None):
            self._ended.wait()

    def finish(self) -> None:
        """Raise what the work raised, in the process that started it."""
        error, self._error = self._error, None
        if error is not None and os.getpid() == self._process:
            raise error

    def run(self) -> None:
        """Do the work."""
        work, self._work = self._work, None
        try:
            assert work is not None
            work()
        except BaseException as error:  # handed on, whatever it is
            self._error = error
        finally:
            self._ended.set()
