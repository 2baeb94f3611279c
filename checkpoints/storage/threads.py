"""Tasks on several threads, all of which have ended when the call returns.

The threads are started by one C call each. threading.Thread.start() takes a lock that a signal handler may have
interrupted the holder of, and waits for the new thread, which may need that lock too.
"""

from __future__ import annotations

import os
from _thread import allocate_lock, start_new_thread
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress

from ..errors import CheckpointError

Task = Callable[[], object]
MOST_THREADS = 4


def run_on_threads(tasks: Iterable[Task]) -> None:
    """Run each task on the next free thread. Raises as run_lanes does."""
    lane = deque(tasks)
    run_lanes([lane] * min(len(lane), os.cpu_count() or 1, MOST_THREADS))


def run_lanes(lanes: list[deque[Task]]) -> None:
    """Run the tasks of each lane in order on a thread of its own, those of the first on this one; empty the lanes.

    Threads may share a lane. If the system starts no more threads, this one runs the lanes that are left. Raises the
    exception of the first task that failed, or an interrupt; the rest is skipped.
    """
    work = _Work()
    try:
        work.start(lanes[1:])
        for lane in lanes[:1] + lanes[1 + len(work.started) :]:
            work.run(lane)
    except BaseException as error:  # an interrupt
        work.errors.append(error)
    finally:
        try:
            work.wait()
        finally:  # an interrupt may have ended the first attempt
            work.wait()
    if work.errors:
        raise work.errors.pop(0)


class _Work:
    """The threads of one call. started: their identifiers. errors: what they raised, and the interrupts."""

    def __init__(self) -> None:
        self.started: list[int] = []
        self.errors: list[BaseException] = []
        self._ended: list[None] = []
        self._bell, self._process = allocate_lock(), os.getpid()
        self._bell.acquire()

    def start(self, lanes: list[deque[Task]]) -> None:
        """Start a thread for each lane, or fewer if the system starts no more."""
        with suppress(RuntimeError):
            for lane in lanes:
                # In one C call: an interrupt between the start and an assignment would lose a running thread.
                self.started.extend(map(start_new_thread, (self._run_and_ring,), ((lane,),)))

    def run(self, lane: deque[Task]) -> None:
        """Run the tasks of a lane until it is empty or something has failed."""
        while lane and not self.errors:
            try:
                task = lane.popleft()
            except IndexError:  # another thread took the last
                return
            try:
                task()
            except BaseException as error:
                self.errors.append(error)

    def _run_and_ring(self, lane: deque[Task]) -> None:
        self.run(lane)
        self._ended.append(None)
        with suppress(RuntimeError):  # it has rung already
            self._bell.release()

    def wait(self) -> None:
        """Wait for the threads. None may outlive the call: it would use freed memory, or write into another file."""
        while True:
            try:
                while len(self._ended) < len(self.started) and os.getpid() == self._process:
                    self._bell.acquire(timeout=1)
                break
            except BaseException as error:
                self.errors.append(error)
        if len(self._ended) < len(self.started):
            text = "this process was forked while threads of its parent were at work. Call again here."
            self.errors.append(CheckpointError(text))
