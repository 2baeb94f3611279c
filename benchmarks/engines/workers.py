"""Processes that each train as one contestant, with a number of threads that is set before they start.

Orders and answers go through a pipe; a block of steps is timed inside the process, so the pipe does not count.
"""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import time
import tracemalloc
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np
from engines.work import WORK, Task

# What each library reads when it starts: OpenBLAS, OpenMP (PyTorch), XLA.
ONE_THREAD = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NPROC": "1",
    "PJRT_NPROC": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
}
_SPAWN = multiprocessing.get_context("spawn")  # a fork would keep the threads of the process it came from


class Proof(NamedTuple):
    """Evidence that contestants compute the same: the losses of the first steps, then the output for Work.one."""

    losses: np.ndarray
    output: np.ndarray


class Memory(NamedTuple):
    """The memory of one step, in bytes above what was held before it: its peak, and what is still held after it."""

    steps: int
    peak: int
    held: int


class Worker:
    """The process of one contestant. absent: why it cannot be used here. without: the work that it does not do."""

    def __init__(self, name: str, one_thread: bool) -> None:
        self.name = name
        self._pipe, theirs = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=_serve, args=(theirs, name), daemon=True)
        with _environment(one_thread):
            self._process.start()
        theirs.close()
        self.absent: str
        self.without: tuple[str, ...]
        self.absent, self.without = self._pipe.recv()

    def ask(self, order: str, work: str, *arguments: Any) -> Any:
        """Return the result of the function of that name in _ORDERS. Raises RuntimeError with its error if it fails."""
        self._pipe.send((order, work, arguments))
        worked, answer = self._pipe.recv()
        if not worked:
            raise RuntimeError(f"{self.name}, {work}: {answer}")
        return answer

    def close(self) -> None:
        if not self.absent:
            self._pipe.send(None)
        self._process.join()
        self._pipe.close()


@contextlib.contextmanager
def _environment(one_thread: bool) -> Iterator[None]:
    """Set the number of threads that a process started meanwhile sees, or unset it for the default."""
    before = {name: os.environ.pop(name) for name in ONE_THREAD if name in os.environ}
    os.environ.update(ONE_THREAD if one_thread else {})
    try:
        yield
    finally:
        for name in ONE_THREAD:
            os.environ.pop(name, None)
        os.environ.update(before)


def _serve(pipe: Connection, name: str) -> None:
    try:
        contestant = importlib.import_module(f"engines.in_{name}")
    except ImportError as error:
        pipe.send((f"{type(error).__name__}: {error}", ()))
        return
    pipe.send(("", getattr(contestant, "WITHOUT", ())))
    tasks: dict[str, Task] = {}
    while message := pipe.recv():
        order, work, arguments = message
        try:
            if work not in tasks:
                tasks[work] = contestant.build(WORK[work]())
            pipe.send((True, _ORDERS[order](tasks[work], *arguments)))
        except Exception as error:
            pipe.send((False, f"{type(error).__name__}: {error}"))


def prove(task: Task, steps: int) -> Proof:
    losses = np.array([task.step().item() for _ in range(steps)])
    return Proof(losses, np.asarray(task.infer()).copy())


def seconds(task: Task, action: str, count: int) -> float:
    """Return the seconds of one action in a block of count, after a tenth of them untimed."""
    act: Callable[[], object] = getattr(task, action)
    for _ in range(count // 10):
        act()
    start = time.perf_counter()
    for _ in range(count):
        act()
    return (time.perf_counter() - start) / count


def memory(task: Task, after: tuple[int, ...]) -> list[Memory]:
    """Return the memory of a step after each of these numbers of steps; NumPy reports its arrays to tracemalloc."""
    found, done = [], 0
    tracemalloc.start()
    for steps in after:
        for _ in range(steps - done):
            task.step()
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        task.step()
        held, peak = tracemalloc.get_traced_memory()
        found.append(Memory(steps, peak - before, held - before))
        done = steps + 1
    tracemalloc.stop()
    return found


_ORDERS: dict[str, Callable[..., Any]] = {"prove": prove, "seconds": seconds, "memory": memory}
