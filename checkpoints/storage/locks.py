"""The file lock of the library: one writer at a time, in one process or in many.

    with locked(folder) as is_locked:
        ...

The lock is the system's (flock). It ends with the block, or with the process. Another process waits for it, and so does
another thread of the same process. The same thread enters again at once, so a signal handler never waits for the code
that it interrupted. A forked child does not hold the lock of its parent (see forks.py).

Where there are no locks (Windows, some network file systems), `is_locked` is False and the block runs anyway.
"""

from __future__ import annotations

import os
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

from ..errors import LockedError
from .forks import OwnFile

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

WAIT_S = 300.0
_MOST_PAUSE_S = 0.05
_MOST_COMMAND_LENGTH = 100

_Key = tuple[int, int]  # device and inode


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


def _unlock(file: OwnFile) -> None:
    """Release the lock on a file, if it is open, even if another process has a copy of its descriptor."""
    if fcntl is not None:
        with suppress(OSError):
            file.apply(fcntl.flock, fcntl.LOCK_UN)


class _Held:
    """A lock that a thread holds or waits for. owners: the `locked` blocks in which it does, by id."""

    def __init__(self, file: OwnFile, key: _Key, owner: int) -> None:
        self.file, self.key, self.owners = file, key, {owner}
        self.thread, self.among = threading.get_ident(), _of_thread.held

    @property
    def is_current(self) -> bool:
        """Whether it is the one that the thread has for the file. In a forked child, those of the parent are not."""
        return self.among.get(self.key) is self

    def release(self, owner: int) -> None:
        """Leave a block. The last one unlocks: in this order, a signal handler can come in between at any point."""
        self.owners.discard(owner)
        if self.owners:
            return
        _unlock(self.file)
        if _threads.get(self.key) == self.thread:
            _threads.pop(self.key, None)
        if self.is_current:
            self.among.pop(self.key, None)
        with suppress(OSError):
            self.file.close()


class _OfThread(threading.local):
    def __init__(self) -> None:
        self.held: dict[_Key, _Held] = {}


_of_thread = _OfThread()
_threads: dict[_Key, int] = {}  # the thread that has each lock
_awaited: dict[int, int] = {}  # the thread that each thread waits for


def await_thread(thread: int, step: Callable[[], object]) -> None:
    """Call a step that waits for a thread. Meanwhile that thread does not wait for a lock that this one has."""
    me = threading.get_ident()
    before = _awaited.get(me)
    try:
        _awaited[me] = thread
        step()
    finally:  # as the first step: an interrupt comes after it
        if before is None:
            _awaited.pop(me, None)
        else:
            _awaited[me] = before


class locked:  # used as a function
    """Hold the lock of a file or a folder during a `with` block. The block gets False where there are no locks.

    wait_s: how long to wait for another holder, in seconds. 0 tries once. create: make an empty file if there is none.
    A path that cannot be opened counts as having no locks; the block will then find out what is wrong with it.
    Raises LockedError, which names the holder, after wait_s, or at once if the holder waits for this thread.
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
        if hasattr(self, "_held"):  # an interrupt may have ended __init__
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
            if is_locked is None:
                return False
            if is_locked and held.is_current and _key_of(self._path) == held.key:
                if _threads.get(held.key) != held.thread:
                    _threads[held.key] = held.thread
                    _note_time(held.file.number)
                return True
            self._release()  # the file was replaced while we waited, or this process was forked

    def _join(self) -> _Held | None:
        """Return the lock if this thread has it, or waits for it in code that a signal handler interrupted."""
        key = _key_of(self._path)
        self._held = held = None if key is None else _of_thread.held.get(key)
        if held is not None:
            held.owners.add(id(self))
        return held

    def _open(self) -> _Held:
        file = OwnFile()
        try:
            file.open(self._path, self._flags)
            status = os.fstat(file.number)
        except BaseException:  # an interrupt, whose traceback keeps the file alive
            file.close()
            raise
        key = status.st_dev, status.st_ino
        # Entered before it is locked: a signal handler from here on must find it.
        self._held = held = _Held(file, key, id(self))
        held.among[key] = held
        return held

    def _wait(self, held: _Held, deadline: float) -> bool | None:
        """Wait for the lock. Return False if a handler has forked meanwhile: the file is the parent's then."""
        pause_s = 0.001
        while held.is_current:
            is_locked = try_lock(held.file.number)
            if is_locked is not False:
                return is_locked
            if _waits_for_us(held.key):
                raise self._error("code of this process that waits for this call to end")
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                waited = f" and was not released within {self._wait_s:g} s" if self._wait_s else ""
                raise self._error(_holder_of(held.key) + waited)
            time.sleep(min(pause_s, left_s))
            pause_s = min(2 * pause_s, _MOST_PAUSE_S)
        return False

    def _error(self, holder: str) -> LockedError:
        return LockedError(
            f"{self._path} is locked by {holder}.\nWait until it has finished, or stop it, and try again."
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


def _waits_for_us(key: _Key) -> bool:
    """Return True if the thread that has a lock waits for this one, perhaps by way of others."""
    thread, me = _threads.get(key), threading.get_ident()
    seen: set[int] = set()
    while thread is not None and thread not in seen:
        seen.add(thread)
        thread = _awaited.get(thread)
        if thread == me:
            return True
    return False


def _note_time(descriptor: int) -> None:
    """Note since when a lock is held, for the messages of others: as the place of a lock on one byte (Linux).

    The file need not have that byte. Such a lock belongs to the open file, so it ends with it.
    """
    if fcntl is not None and hasattr(fcntl, "F_OFD_SETLK"):
        with suppress(OSError):
            note = struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, int(time.time()), 1, 0)
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, note)


def _holder_of(key: _Key) -> str:
    """Return who holds the lock on a file and since when, as far as Linux tells (/proc/locks)."""
    device, inode = f"{os.major(key[0]):02x}:{os.minor(key[0]):02x}", str(key[1])
    found: dict[str, list[str]] = {"FLOCK": [], "OFDLCK": []}  # the processes; the times
    with suppress(OSError), open("/proc/locks", encoding="ascii") as lines:
        # 1: FLOCK  ADVISORY  WRITE 4242 08:01:131077 0 EOF; a line with "->" is of a process that waits.
        # 2: OFDLCK ADVISORY  READ -1 08:01:131077 1785225600 1785225600: see _note_time.
        for fields in map(str.split, lines):
            if fields[1] in found and fields[5].rpartition(":")[2] == inode:
                value = fields[4] if fields[1] == "FLOCK" else fields[6]
                # Some file systems report another device here than in stat.
                found[fields[1]].insert(0 if fields[5].startswith(device) else len(found[fields[1]]), value)
    pid, since = (next(iter(values), "0") for values in found.values())
    time_text = f" since {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(int(since)))}" if int(since) else ""
    if int(pid) <= 0:
        return f"another process, perhaps on another machine{time_text}"
    return f"{'another thread of this process' if int(pid) == os.getpid() else _process(pid)}{time_text}"


def _process(pid: str) -> str:
    """Return a process with its command, if Linux tells it."""
    with suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
        words = file.read().decode(errors="replace").split("\0")
        text = "".join(char if char.isprintable() else " " for char in " ".join(filter(None, words)))
        if text:
            return f"process {pid} ({text[:_MOST_COMMAND_LENGTH]})"
    return f"process {pid}"


def _forget() -> None:
    """Forget the locks in a forked child: they are its parent's."""
    for what in _of_thread.held, _threads, _awaited:
        what.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
