"""Open files that a forked child does not share with its parent.

A child has a copy of every descriptor, and a lock ends only when all copies are closed: it would outlive the parent.
So each file that may carry a lock is an OwnFile, and the child closes its copy first of all. A fork waits, up to a
second, for other threads that are in the middle of opening or closing such a file.

No lock does this: a signal handler would wait for the code that it interrupted, or for a thread that waits for it.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import TypeVar

T = TypeVar("T")

_CLOSE_ON_EXEC = getattr(os, "O_CLOEXEC", 0)
_MOST_WAIT_S = 1.0
_PAUSE_S = 0.0005

# The descriptors of each file, by the identity of their list, with a reference that says whether the file still exists.
_files: dict[int, tuple[weakref.ref[OwnFile], list[int]]] = {}
_busy: dict[int, int] = {}  # the thread of each call that opens or closes
_forking: list[int] = []  # the threads that are forking


class OwnFile:
    """An open file that a forked child does not share. It is closed at the latest when the object is freed."""

    __slots__ = ("__weakref__", "_opened")

    def __init__(self) -> None:
        self._opened: list[int] = []

    @property
    def number(self) -> int:
        """The descriptor, or -1 while no file is open. In a forked child, it leads to an empty pipe."""
        return next(iter(self._opened), -1)

    def open(self, path: str, flags: int, mode: int = 0o666) -> None:
        """Open a path. Raises OSError."""
        _close_forgotten()
        _files[id(self._opened)] = weakref.ref(self), self._opened
        # In one C call, as below: an interrupt between the system call and an assignment would lose the descriptor.
        unforked(partial(self._opened.extend, map(os.open, (path,), (flags | _CLOSE_ON_EXEC,), (mode,))))

    def apply(self, function: Callable[[int, int], object], argument: int) -> None:
        """Call function(descriptor, argument), if the file is open. Raises as the function does."""
        # In one C call: a handler may close the file, and then the number may be another file's.
        deque(map(function, self._opened, (argument,)), maxlen=0)

    def close(self) -> None:
        """Close the file, if it is open. Raises OSError."""
        _close_all(self._opened)
        _files.pop(id(self._opened), None)

    def __del__(self) -> None:
        if getattr(self, "_opened", None):  # an interrupt may have ended __init__
            with suppress(OSError):
                self.close()


def _close_all(numbers: list[int]) -> None:
    with suppress(IndexError):  # from pop(), when the list is empty
        unforked(partial(deque, map(os.close, iter(numbers.pop, None)), 0))


def _close_forgotten() -> None:
    """Close the files of objects that are gone: an interrupt may have ended their __del__."""
    for key, (file, numbers) in _files.copy().items():
        if file() is None:
            with suppress(OSError):
                _close_all(numbers)
            _files.pop(key, None)


def unforked(step: Callable[[], T]) -> T:
    """Call a step while no other thread forks. Wait for a fork up to a second: a handler may have interrupted it."""
    me, deadline = threading.get_ident(), time.monotonic() + _MOST_WAIT_S
    call = id(deadline)  # not the thread: a signal handler may call this in the middle of a call
    while True:
        try:
            _busy[call] = me
            if not _others(_forking, me) or time.monotonic() > deadline:
                return step()
        finally:
            try:
                _busy.pop(call, None)
            finally:  # an interrupt may have ended the first attempt
                _busy.pop(call, None)
        time.sleep(_PAUSE_S)


def _others(threads: Iterable[int], me: int) -> set[int]:
    return set(threads) - {me}


def _before_fork() -> None:
    me = threading.get_ident()
    deadline = time.monotonic() + _MOST_WAIT_S
    _forking.append(me)
    while _others(_busy.copy().values(), me) and time.monotonic() < deadline:
        time.sleep(_PAUSE_S)


def _after_fork_in_parent() -> None:
    with suppress(ValueError):  # an interrupt ended the step before
        _forking.remove(threading.get_ident())


def _after_fork_in_child() -> None:
    """Replace each file by an empty pipe. Its number stays in use: code that goes on must not write to another file.

    No other thread is left, but this one may be in a signal handler that interrupted a step.
    """
    me = threading.get_ident()
    _forking[:] = [thread for thread in _forking if thread == me]
    for call, thread in _busy.copy().items():
        if thread != me:
            _busy.pop(call, None)
    _after_fork_in_parent()
    for _, numbers in _files.copy().values():
        for number in numbers.copy():
            with suppress(OSError):
                os.close(number)
            try:
                _occupy(number)
            except OSError:
                numbers.remove(number)


def _occupy(number: int) -> None:
    """Make a number the end of a pipe that nobody writes to. Raises OSError.

    It takes no writes, and a change of its mode or owner changes nothing else, unlike that of the null device.
    """
    reading, writing = os.pipe()
    os.close(writing)
    if reading != number:
        os.dup2(reading, number, inheritable=False)
        os.close(reading)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
