"""Saving while training continues: a snapshot of the state, and a thread that writes it.

The snapshot is copied on the calling thread, so later changes to the arrays do not affect it. The next snapshot reuses
its memory: a run needs room for one more state.

Each job has its own thread, which the interpreter waits for when it exits: no thread idles or has to be stopped. A
forked process has none of these threads, and leaves it to its parent to finish writing.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np

from ...files import packed_of
from ...state.sharing import unpack
from ...state.snapshot import copied_at_once


class Snapshot(NamedTuple):
    """A copy of a state, and the memory that its arrays are in."""

    state: dict[str, Any]
    memory: np.ndarray


class SnapshotMemory:
    """The memory for snapshots. Each new one reuses the memory of an earlier one that was given back."""

    def __init__(self) -> None:
        self._free: list[np.ndarray] = []

    def take(self, state: Mapping[str, Any]) -> Snapshot:
        """Return a copy of a state as `save_file` takes it, with the same sharing. Deferred arrays are computed.

        Raises StateError if the state cannot be saved.
        """
        packed = packed_of(state)
        earlier = None
        with suppress(IndexError):
            earlier = self._free.pop()
        packed, memory = copied_at_once(packed, earlier)
        return Snapshot(unpack(packed), memory)

    def give_back(self, snapshot: Snapshot) -> None:
        """Let the next snapshot reuse the memory of one that has been written."""
        self._free[:] = [snapshot.memory]


class Background:
    """A runner of one job at a time, on a thread. The next call raises what a job raised.

    A signal handler may interrupt a call and make another. It does not wait for a job whose start it interrupted.
    """

    def __init__(self) -> None:
        self._jobs: list[_Job] = []  # more than one only if a signal handler starts one

    def start(self, work: Callable[[], None]) -> None:
        """Wait for the last job, then start another. If the last job raised, raise that instead of starting."""
        self.wait()
        if not threading.main_thread().is_alive():  # the interpreter is exiting, and waits for no more threads
            work()
            return
        job = _Job(work)
        atexit.register(job.raise_error)  # a failure must not go unnoticed if nobody waits for the job
        self._jobs.append(job)
        job.start()

    def wait(self) -> None:
        """Wait until no job is running. Raises once what the last job raised."""
        for job in list(self._jobs):
            if job.join():
                with suppress(ValueError):  # another thread, or a signal handler, was faster
                    self._jobs.remove(job)
                atexit.unregister(job.raise_error)
                job.raise_error()


class _Job:
    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self._errors: list[BaseException] = []
        self._process = os.getpid()
        self._runner: int | None = None
        self._is_started = False
        # Neither Thread.join nor an Event: after Ctrl-C the first returns too early (CPython issue 90882), and a signal
        # handler that waits for the second may wait for the code that it interrupted.
        self._ended, self._is_running = False, threading.Lock()
        self._is_running.acquire()
        self._thread = threading.Thread(target=self.run, name="statezoo-save", daemon=False)

    def start(self) -> None:
        """Run the work on a thread, or here if the system cannot start another thread."""
        try:
            self._thread.start()
            self._is_started = True
        except RuntimeError:
            self.run()

    def join(self) -> bool:
        """Wait until the job ends. Return False if the caller is a signal handler that interrupted its start or run."""
        if os.getpid() != self._process:
            return True
        # A new thread waits for the code that starts it. Once the work has begun, nothing holds it up.
        is_interrupted = self._runner == threading.get_ident() or (self._runner is None and not self._is_started)
        if is_interrupted and not self._ended:
            return False
        while not self._ended:
            if self._is_running.acquire(timeout=1):
                self._is_running.release()
        return True

    def raise_error(self) -> None:
        """Raise once, in the process that started the job, what the job raised."""
        if self._errors and os.getpid() == self._process:
            raise self._errors.pop()

    def run(self) -> None:
        self._runner = threading.get_ident()
        try:
            self._work()
        except BaseException as error:  # for the next call, whatever it is
            self._errors.append(error)
        finally:
            del self._work  # and the state that it saves
            self._ended = True
            self._is_running.release()
