"""Tasks on several threads, all of which have ended when the call returns."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable

Task = Callable[[], object]
MOST_THREADS = 4


def run_on_threads(tasks: Iterable[Task]) -> None:
    """Run each task on the next free thread. Raises as run_lanes does."""
    lane = deque(tasks)
    run_lanes([lane] * min(len(lane), os.cpu_count() or 1, MOST_THREADS))


def run_lanes(lanes: list[deque[Task]]) -> None:
    """Run the tasks of each lane in order on a thread of its own, those of the first on this one; empty the lanes.

    Threads may share a lane. Raises the exception of the first task that failed, or an interrupt; the rest is skipped.
    """
    ends = threading.Semaphore(0)
    errors: list[BaseException] = []
    ended: list[None] = []

    def work(lane: deque[Task]) -> None:
        while lane and not errors:
            try:
                task = lane.popleft()
            except IndexError:  # another thread took the last
                return
            try:
                task()
            except BaseException as error:
                errors.append(error)

    def work_and_say_so(lane: deque[Task]) -> None:
        work(lane)
        ended.append(None)
        ends.release()

    threads = [
        threading.Thread(target=work_and_say_so, args=(lane,), name="statezoo", daemon=True) for lane in lanes[1:]
    ]
    try:
        for thread in threads:
            thread.start()
        for lane in lanes[:1]:
            work(lane)
    except BaseException as error:  # an interrupt
        errors.append(error)
    # No thread may outlive this call: it would use freed memory, or write into the next file that is opened.
    # After an interrupted join, Python believes that a running thread has ended.
    while len(ended) < sum(thread.ident is not None for thread in threads):
        try:
            ends.acquire(timeout=1)
        except BaseException as error:
            errors.append(error)
    if errors:
        raise errors[0]
