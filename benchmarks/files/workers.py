"""Processes that each do the work of one peer when told to, and measure it themselves.

A worker is forked from the process that made the state: all peers save the same memory, which exists only once.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import shutil
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

State = dict[str, np.ndarray]
Actions = dict[str, Callable[[], object]]
Peer = Callable[[State, Path], Actions]

# Some peers take minutes for 20,000 tensors.
PATIENCE_S = 120

_FORK = multiprocessing.get_context("fork")


class Measured(NamedTuple):
    """The cost of an action: its seconds, and its process's peak memory above that before all actions, in bytes."""

    seconds: float
    growth_bytes: float


def median(runs: list[Measured]) -> Measured:
    return Measured(statistics.median(r.seconds for r in runs), statistics.median(r.growth_bytes for r in runs))


class Worker:
    """The process of one peer. actions: what it can do, by name. absent: why it cannot be used, or not any more."""

    def __init__(self, name: str, peer: Peer, state: State, folder: Path) -> None:
        self.name = name
        self._folder = folder / name.replace(" ", "-")
        self._folder.mkdir()
        self._pipe, theirs = _FORK.Pipe()
        self._process = _FORK.Process(target=_serve, args=(theirs, peer, state, self._folder), daemon=True)
        self._process.start()
        theirs.close()
        self.actions: list[str] = []
        self.absent = ""
        answer = self._answer()
        if isinstance(answer, str):
            self.absent = self.absent or answer
        else:
            self.actions = answer

    def run(self, action: str, at_least_s: float) -> Measured:
        """Do an action once untimed, then repeat it for at_least_s seconds, at least once. Return the medians.

        Raises RuntimeError if the worker failed, with its error, or if it took more than PATIENCE_S.
        """
        if not self.absent:
            self._pipe.send((action, at_least_s))
        answer = self.absent or self._answer()
        if isinstance(answer, str):
            raise RuntimeError(f"{self.name}, {action}: {answer}")
        return Measured(*answer)

    def _answer(self) -> Any:
        """Return the worker's answer: a str if it failed. A worker that is late or dead is absent from then on."""
        try:
            if self._pipe.poll(PATIENCE_S):
                return self._pipe.recv()
            self.absent = f"took more than {PATIENCE_S} s, and was ended"
        except EOFError:
            self.absent = "its process died"
        self._process.kill()
        return self.absent

    def close(self) -> None:
        """End the process and remove its files."""
        if not self.absent:
            self._pipe.send(None)  # closing the pipe is not enough: workers forked later hold it open too
        self._process.join()
        self._pipe.close()
        shutil.rmtree(self._folder)


def _serve(pipe: Connection, peer: Peer, state: State, folder: Path) -> None:
    try:
        actions = peer(state, folder)
    except Exception as error:  # a peer that is not installed, or not usable here, is reported as such
        pipe.send(f"{type(error).__name__}: {error}".splitlines()[0])
        return
    _give_back_free_memory()
    held = _memory("VmRSS")
    pipe.send(list(actions))
    while order := pipe.recv():
        action, at_least_s = order
        try:
            seconds, peak = _measure(actions[action], at_least_s, folder if action.startswith("save") else None)
            pipe.send((seconds, peak - held))
        except Exception as error:
            pipe.send(f"{type(error).__name__}: {error}")


def _measure(action: Callable[[], object], at_least_s: float, written: Path | None) -> tuple[float, float]:
    """Return the median seconds and the peak memory. written: the folder to write to, empty at each start.

    The first time is not counted, because it pays for what others left: when free memory is fragmented, the system
    takes far longer to hand out a large block than to hand out the same block again.
    """
    _give_back_free_memory()
    _forget_peak()
    times: list[float] = []
    while len(times) < 2 or sum(times[1:]) < at_least_s:
        if written:
            _empty(written)
        start = time.perf_counter()
        result = action()
        times.append(time.perf_counter() - start)
        del result  # not timed: how fast memory is freed is not what is measured here
    peak = _memory("VmHWM")
    if written:
        _flush(written)
    return statistics.median(times[1:]), peak


def _empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def _flush(folder: Path) -> None:
    """Flush what was written to the disk, so that the next contestant does not wait for it."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


def _give_back_free_memory() -> None:
    # Memory that the C library kept from the last run would hide how much this one takes. Only glibc has the function.
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _memory(field: str) -> float:
    """Return a field of /proc/self/status in bytes: VmRSS, the memory held now, or VmHWM, its peak."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024
