"""Saving while training continues: a snapshot of the state, and a thread that writes it.

The snapshot is copied on the calling thread, so later changes to the arrays do not affect it. The next snapshot reuses
its memory: a run needs room for one more state.

Each job has its own thread, which the interpreter waits for when it exits: no thread idles or has to be stopped. A
forked process has none of these threads, and leaves it to its parent to finish writing.

The thread owns the snapshot until it has written it. One C call starts the thread and makes the job known to those who
wait for it: whatever an interrupt ends, no memory is reused while it is being written.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from _thread import allocate_lock, start_new_thread
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np

from ...errors import enough_memory
from ...files import packed_of
from ...state.sharing import unpack
from ...state.snapshot import copied_at_once
from ...storage.locks import await_thread
from ...storage.threads import observe


class Snapshot(NamedTuple):
    """A copy of a state, and the memory that its arrays are in."""

    state: dict[str, Any]
    memory: np.ndarray


class SnapshotMemory:
    """The memory for snapshots. Each new one reuses the memory of an earlier one that was given back."""

    def __init__(self) -> None:
        self._free: list[np.ndarray] = []

    @enough_memory("the state was not copied, and not saved", "Save it without background=True, which needs no copy.")
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

    A signal handler may interrupt a call and make another: nothing here waits for the code that it interrupted.
    """

    def start(self, work: Callable[[], None]) -> None:
        """Wait for the last job, then start another. If the last job raised, raise that instead of starting.

        If the system starts no thread, or the interpreter is exiting and waits for none, run the job here.
        """
        self.wait()
        if threading.main_thread().is_alive():
            job = _Job(self, work)
            with suppress(RuntimeError):
                _started.extend(zip((job,), map(start_new_thread, (job.run,), ((),)), strict=False))
                return
        work()

    def wait(self) -> None:
        """Wait until no job is running. Raises once what the last job raised."""
        for entry in _started.copy():
            job, thread = entry
            if job.owner is not self and not job.is_done:
                continue
            try:
                job.wait(thread)
                if job.error is not None and entry in _started:
                    raise job.error
            finally:
                if job.has_ended:
                    with suppress(ValueError):  # another thread, or a signal handler, was faster
                        _started.remove(entry)


class _Job:
    """A job of a runner, on a thread of its own. error: what it raised."""

    def __init__(self, owner: Background, work: Callable[[], None]) -> None:
        self.owner, self._work, self._process = owner, work, os.getpid()
        self.error: BaseException | None = None
        self.has_ended, self._is_running = False, allocate_lock()
        self._is_running.acquire()

    @property
    def is_done(self) -> bool:
        """Whether it has ended well."""
        return self.has_ended and self.error is None

    def run(self) -> None:
        try:
            observe()
            self._work()
        except BaseException as error:  # for the next call, whatever it is
            self.error = error
        finally:
            del self._work  # and the state that it saves
            self.has_ended = True
            self._is_running.release()

    def wait(self, thread: int) -> None:
        """Wait until it ends. A forked process has no such thread, and does not wait."""
        while not self.has_ended and os.getpid() == self._process:
            await_thread(thread, self._await_end)

    def _await_end(self) -> None:
        if self._is_running.acquire(timeout=1):
            self._is_running.release()  # for the code that this signal handler interrupted, if it waits as well


# The jobs whose end nobody has seen, with their threads.
_started: list[tuple[_Job, int]] = []


def _finish() -> None:
    """Wait for all jobs, and report what they raised as what the main thread raises is reported."""
    for entry in _started.copy():
        job, thread = entry
        job.wait(thread)
        with suppress(ValueError):
            _started.remove(entry)
            if job.error is not None:
                sys.excepthook(type(job.error), job.error, job.error.__traceback__)


# Processes of multiprocessing end without atexit, but wait for threads first. A thread may save while they wait.
with suppress(AttributeError, RuntimeError):
    threading._register_atexit(_finish)  # pyright: ignore[reportAttributeAccessIssue]
atexit.register(_finish)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_started.clear)
