"""Tasks on several threads, none of which runs a task after the call has returned.

The threads are not threading.Thread objects, whose start() takes a lock that a signal handler may have interrupted the
holder of, and waits for the new thread, which may need that lock too, or may have died because it got no memory.
"""

from __future__ import annotations

import operator
import os
import sys
import threading
import time
from _thread import allocate_lock, start_new_thread
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import TypeVar

from ..errors import CheckpointError
from .forks import unforked

T = TypeVar("T")
Task = Callable[[], object]
_MOST_THREADS = 4
_MOST_WAIT_S = 10


def run_on_threads(tasks: Iterable[Task], number: int | None = None) -> None:
    """Run tasks in order, each on the next free thread. This thread is one of them.

    number: how many threads to use, or None for one a processor, up to 4. Fewer are used if the system starts no more.
    Raises the exception of the first task that failed, or an interrupt; the tasks that are left are not run.
    """
    if number == 1:
        deque(map(operator.call, tasks), maxlen=0)
        return
    work = _Work(tasks)
    number = _processors() if number is None else number
    _finish(work, partial(work.start, min(work.count, number) - 1), work.run)


def undisturbed(task: Callable[[], T]) -> T:
    """Call a function on another thread, where no signal comes in between, and while no other thread forks.

    An interrupt is raised when the call has ended. Raises as the function does, too.
    """
    results: list[T] = []
    work = _Work([lambda: results.append(unforked(task))])
    _finish(work, partial(work.start, 1), work.wait_for_takers, work.run)
    return results.pop()


def _finish(work: _Work, *steps: Task) -> None:
    """Call the steps, and wait until no other thread runs a task."""
    try:
        for step in steps:
            step()
    except BaseException as error:  # an interrupt
        work.errors.append(error)
    finally:
        try:
            work.wait()
        finally:  # an interrupt may have ended the first attempt
            work.wait()
    if work.errors:
        raise work.errors.pop(0)


def _processors() -> int:
    """Return how many processors this process may use, up to the most threads that are worth it."""
    allowed = getattr(os, "sched_getaffinity", None)  # Linux
    return min(len(allowed(0)) if allowed else os.cpu_count() or 1, _MOST_THREADS)


def observe() -> None:
    """Let debuggers and coverage tools see this thread, as threading.Thread does."""
    sys.settrace(threading.gettrace())
    sys.setprofile(threading.getprofile())


class _Work:
    """The tasks of one call, and the threads that run them.

    count: how many tasks there were. errors: what they raised, and the interrupts.
    """

    def __init__(self, tasks: Iterable[Task]) -> None:
        self._tasks = deque(tasks)
        self.count = len(self._tasks)
        self.errors: list[BaseException] = []
        self._are_started = False
        self._running: list[None] = []  # one entry for each other thread that may run a task
        self._bell, self._process = allocate_lock(), os.getpid()
        self._bell.acquire()

    def start(self, number: int) -> None:
        """Start that many threads, or fewer if the system starts no more."""
        with suppress(RuntimeError, MemoryError):
            for _ in range(number):
                start_new_thread(self._run_and_ring, ())
                self._are_started = True

    def wait_for_takers(self) -> None:
        """Wait until other threads have taken all tasks. Give up after a while: a thread may die before it begins."""
        deadline = time.monotonic() + _MOST_WAIT_S
        while self._are_started and self._tasks and time.monotonic() < deadline:
            self._bell.acquire(timeout=0.05)

    def run(self) -> None:
        """Run tasks until none is left or something has failed."""
        while not self.errors:
            try:
                task = self._tasks.popleft()
            except IndexError:  # none is left
                return
            try:
                task()
            except BaseException as error:
                self.errors.append(error)

    def _run_and_ring(self) -> None:
        # Without memory, a thread may end at any point. Before this line it has done nothing, and then it says so.
        self._running.append(None)
        try:
            observe()
            self.run()
        finally:
            self._running.pop()
            if self._bell.locked():
                with suppress(RuntimeError):  # another thread was faster
                    self._bell.release()

    def wait(self) -> None:
        """Wait until no other thread runs a task: it would use freed memory, or write into another file.

        A thread that begins later finds no task.
        """
        while True:
            try:
                self._tasks.clear()
                while self._running and os.getpid() == self._process:
                    self._bell.acquire(timeout=1)
                break
            except BaseException as error:
                self.errors.append(error)
        if self._running:
            text = "this process was forked while threads of its parent were at work. Call again here."
            self.errors.append(CheckpointError(text))
