"""The file lock of the library: one writer at a time, in one process or in many.

    with locked(folder) as is_locked:
        ...

The lock is the system's (flock). It ends with the block, or with the process. Another process waits for it, and so does
another thread of the same process. The same thread enters again at once, so a signal handler never waits for the code
that it interrupted. A forked child does not hold the lock of its parent.

Where there are no locks (Windows, some network file systems), `is_locked` is False and the block runs anyway.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from contextlib import suppress
from types import TracebackType

from ..errors import LockedError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

WAIT_S = 300.0
_MOST_PAUSE_S = 0.05
_MOST_COMMAND_LENGTH = 100
_CLOSE_ON_EXEC = getattr(os, "O_CLOEXEC", 0)

_Key = tuple[int, int]  # device and inode

_opening = threading.RLock()  # no fork happens between the opening of a file and its entry below
_numbers: set[int] = set()  # the descriptors that a forked child must not keep


class OwnFile:
    """An open file that a forked child does not share. It is closed at the latest when the object is freed."""

    __slots__ = ("_opened",)

    def __init__(self) -> None:
        self._opened: list[int] = []

    @property
    def number(self) -> int:
        """The descriptor, or -1 while no file is open."""
        return next(iter(self._opened), -1)

    def open(self, path: str, flags: int, mode: int = 0o666) -> None:
        """Open a path. Raises OSError."""
        with _opening:
            # In one C call, as below: an interrupt between the system call and an assignment would lose the descriptor.
            self._opened.extend(map(os.open, (path,), (flags | _CLOSE_ON_EXEC,), (mode,)))
            _numbers.update(self._opened)

    def unlock(self) -> None:
        """Release the lock on the file, if it is open."""
        if fcntl is not None:
            with suppress(OSError):
                deque(map(fcntl.flock, self._opened, (fcntl.LOCK_UN,)), maxlen=0)

    def close(self) -> None:
        """Close the file, if it is open. Raises OSError."""
        with _opening:
            _numbers.difference_update(self._opened)
            with suppress(IndexError):  # from pop(), when the list is empty
                deque(map(os.close, iter(self._opened.pop, None)), maxlen=0)

    def __del__(self) -> None:
        if self._opened:
            with suppress(OSError):
                self.close()


def try_lock(descriptor: int) -> bool | None:
    """Lock an open file unless it is locked. Return False if it is, or None if there are no locks."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


class _Held:
    """A lock that a thread holds or waits for. owners: the `locked` blocks in which it does, by id."""

    def __init__(self, file: OwnFile, key: _Key, among: dict[_Key, _Held], owner: int) -> None:
        self.file, self.key, self.among, self.owners = file, key, among, {owner}

    def release(self, owner: int) -> None:
        """Leave a block. The last one unlocks: in this order, a signal handler can come in between at any point."""
        self.owners.discard(owner)
        if self.owners:
            return
        self.file.unlock()
        if self.among.get(self.key) is self:
            self.among.pop(self.key, None)
        with suppress(OSError):
            self.file.close()


class _OfThread(threading.local):
    def __init__(self) -> None:
        self.held: dict[_Key, _Held] = {}


_of_thread = _OfThread()


class locked:  # used as a function
    """Hold the lock of a file or a folder during a `with` block. The block gets False where there are no locks.

    wait_s: how long to wait for another holder, in seconds. 0 tries once. create: make an empty file if there is none.
    A path that cannot be opened counts as having no locks; the block will then find out what is wrong with it.
    Raises LockedError, which names the holder, after wait_s.
    """

    def __init__(self, path: str | os.PathLike[str], wait_s: float = WAIT_S, *, create: bool = False) -> None:
        self._path = os.path.abspath(os.fspath(path))  # the program may change its folder
        self._wait_s = wait_s
        # A pipe at the path is not waited for.
        self._flags = (os.O_RDWR | os.O_CREAT if create else os.O_RDONLY) | getattr(os, "O_NONBLOCK", 0)
        self._held: _Held | None = None

    def __enter__(self) -> bool:
        try:
            is_locked = fcntl is not None and self._acquire()
            if not is_locked:
                self._release()
            return is_locked
        except BaseException:
            self._release()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._release()
        finally:  # an interrupt may have ended the first attempt
            self._release()

    def __del__(self) -> None:
        self._release()

    @property
    def is_nested(self) -> bool:
        """Whether this thread has the lock in another block too: this one interrupted that one, or runs inside it."""
        return self._held is not None and len(self._held.owners) > 1

    def _acquire(self) -> bool:
        deadline = time.monotonic() + self._wait_s
        while True:
            try:
                held = self._join() or self._open()
            except OSError:
                return False
            is_locked = self._wait(held, deadline)
            if not is_locked:
                return False
            if _key_of(self._path) == held.key:
                return True
            self._release()  # the file was replaced while we waited

    def _join(self) -> _Held | None:
        """Return the lock if this thread has it, or waits for it in code that a signal handler interrupted."""
        key = _key_of(self._path)
        self._held = held = None if key is None else _of_thread.held.get(key)
        if held is not None:
            held.owners.add(id(self))
        return held

    def _open(self) -> _Held:
        file = OwnFile()
        file.open(self._path, self._flags)
        status = os.fstat(file.number)
        key = status.st_dev, status.st_ino
        # Entered before it is locked: a signal handler from here on must find it.
        self._held = held = _Held(file, key, _of_thread.held, id(self))
        held.among[key] = held
        return held

    def _wait(self, held: _Held, deadline: float) -> bool | None:
        pause_s = 0.001
        while (is_locked := try_lock(held.file.number)) is False:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise self._error(_holder_of(held.key))
            time.sleep(min(pause_s, left_s))
            pause_s = min(2 * pause_s, _MOST_PAUSE_S)
        return is_locked

    def _error(self, holder: str) -> LockedError:
        waited = f" and was not released within {self._wait_s:g} s" if self._wait_s else ""
        return LockedError(
            f"{self._path} is locked by {holder}{waited}.\nWait until it has finished, or stop it, and try again."
        )

    def _release(self) -> None:
        held = self._held
        if held is not None:
            held.release(id(self))
            self._held = None


def _key_of(path: str) -> _Key | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _holder_of(key: _Key) -> str:
    """Return who holds the lock on a file, as far as Linux tells (/proc/locks)."""
    device, inode = f"{os.major(key[0]):02x}:{os.minor(key[0]):02x}", str(key[1])
    pids: list[str] = []
    with suppress(OSError), open("/proc/locks", encoding="ascii") as lines:
        # 1: FLOCK  ADVISORY  WRITE 4242 08:01:131077 0 EOF; a line with "->" is of a process that waits.
        for fields in map(str.split, lines):
            if fields[1] == "FLOCK" and fields[5].rpartition(":")[2] == inode:
                # Some file systems report another device here than in stat.
                pids.insert(0 if fields[5].startswith(device) else len(pids), fields[4])
    if not pids or int(pids[0]) <= 0:
        return "another process, perhaps on another machine"
    return "another thread of this process" if int(pids[0]) == os.getpid() else f"process {pids[0]}{_command(pids[0])}"


def _command(pid: str) -> str:
    with suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
        words = file.read().decode(errors="replace").split("\0")
        text = "".join(char if char.isprintable() else " " for char in " ".join(filter(None, words)))
        if text:
            return f" ({text[:_MOST_COMMAND_LENGTH]})"
    return ""


def _leave_to_parent() -> None:
    """Close all files above in a forked child, which shares them and their locks with its parent.

    Their numbers stay in use, for the null device: code that continues in the child must not write to another file.
    """
    for number in _numbers:
        with suppress(OSError):
            os.close(number)
            null = os.open(os.devnull, os.O_RDWR | _CLOSE_ON_EXEC)
            if null != number:
                os.dup2(null, number, inheritable=False)
                os.close(null)
    _of_thread.held.clear()
    _opening.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_opening.acquire, after_in_parent=_opening.release, after_in_child=_leave_to_parent)
