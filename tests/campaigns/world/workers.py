"""The processes of the model of the world, which save, load and die."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


class Worker:
    """A process that saves and loads."""

    def __init__(self) -> None:
        command = [sys.executable, Path(__file__).with_name("world_worker.py")]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def begin(self, task: str, **arguments: Any) -> None:
        """Give it a task."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([task, arguments]) + "\n")
        self._process.stdin.flush()

    def result(self) -> Any:
        """Return the result of the task. Raises EOFError if the process died."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise EOFError(f"the process ended with status {self._process.wait()}")
        return json.loads(line)

    def do(self, task: str, **arguments: Any) -> Any:
        """Give it a task and return the result."""
        self.begin(task, **arguments)
        return self.result()

    def end(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()


# Shared by all stories, because starting a process is slow. The third one replaces the next one that dies.
_workers: list[Worker] = []


def worker(number: int) -> Worker:
    """Return one of two processes. Start it if necessary."""
    while len(_workers) < 3:
        _workers.append(Worker())
    return _workers[number]


def killed_or_done(number: int) -> bool:
    """Return True if a process that should die did. End it otherwise. Either way another process takes its place."""
    try:
        worker(number).result()
        is_dead = False
    except EOFError:
        is_dead = True
    worker(number).end()
    _workers[number] = _workers.pop()
    return is_dead


def end_all() -> None:
    """End all processes."""
    while _workers:
        _workers.pop().end()
