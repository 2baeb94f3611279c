"""The process that saved a checkpoint, as its line in the log names it: "host/number/start".

A checkpoint that a living process saved is left to that process. Only processes of this machine can be seen: one of
another machine counts as dead.
"""

from __future__ import annotations

import os
from contextlib import suppress

_own: tuple[int, str] = (0, "")


def this_process() -> str:
    """Return the text that names this process."""
    global _own
    if _own[0] != os.getpid():  # not yet known, or this process is forked
        _own = os.getpid(), f"{_host()}/{os.getpid()}/{_start_of(os.getpid()) or 0}"
    return _own[1]


def is_another_alive(saver: str) -> bool:
    """Return True if a text names a process, other than this one, that is still running on this machine."""
    if saver == this_process():
        return False
    with suppress(ValueError, OverflowError):
        host, number, start = saver.rsplit("/", 2)
        return host == _host() and int(number) > 0 and _start_of(int(number)) == int(start)
    return False


def _host() -> str:
    return os.uname().nodename if hasattr(os, "uname") else os.environ.get("COMPUTERNAME", "")


def _start_of(number: int) -> int | None:
    """Return when a process was started: in ticks where /proc says so, otherwise 0. Return None if it has ended."""
    if not os.path.exists("/proc/self/stat"):
        return _is_running(number)
    try:
        with open(f"/proc/{number}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()  # the name before it may hold anything
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def _is_running(number: int) -> int | None:
    if os.name != "posix":  # os.kill would end the process
        return None
    try:
        os.kill(number, 0)
    except PermissionError:
        return 0
    except OSError:
        return None
    return 0
