"""Running a function in a forked process with a fault at one of its system calls.

The kernel stops the process at every call (ptrace): there it is killed, or the call is skipped and gives an error, or
is made to write only half of what it should. This is what `strace --inject` does; but a fork of a process that has
imported everything takes milliseconds, and calls are counted over all threads.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import signal
import struct
from collections.abc import Callable
from typing import NamedTuple

# From <sys/ptrace.h> and, for the offsets of registers, <sys/user.h>.
_TRACEME, _POKEUSER, _CONT, _SYSCALL, _SETOPTIONS, _GET_SYSCALL_INFO = 0, 6, 7, 24, 0x4200, 0x420E
_TRACESYSGOOD, _TRACECLONE, _EXITKILL = 1, 8, 1 << 20
_ORIG_RAX, _RAX, _RDX = 8 * 15, 8 * 10, 8 * 12
_ENTRY = 1
_WAIT_FOR_THREADS_TOO = 0x40000000
_SYSCALL_STOP = signal.SIGTRAP | 0x80

# The x86-64 calls that reach a file system; at other calls (memory, threads, signals) a process is only killed.
FILE_CALLS = {
    0: "read", 1: "write", 2: "open", 3: "close", 4: "stat", 5: "fstat", 6: "lstat", 8: "lseek", 16: "ioctl",
    17: "pread64", 18: "pwrite64", 19: "readv", 20: "writev", 21: "access", 32: "dup", 40: "sendfile", 72: "fcntl",
    73: "flock", 74: "fsync", 75: "fdatasync", 76: "truncate", 77: "ftruncate", 78: "getdents", 79: "getcwd",
    82: "rename", 83: "mkdir", 84: "rmdir", 86: "link", 87: "unlink", 88: "symlink", 89: "readlink", 90: "chmod",
    91: "fchmod", 137: "statfs", 138: "fstatfs", 217: "getdents64", 221: "fadvise64", 257: "openat", 258: "mkdirat",
    262: "newfstatat", 263: "unlinkat", 264: "renameat", 265: "linkat", 266: "symlinkat", 267: "readlinkat",
    268: "fchmodat", 269: "faccessat", 285: "fallocate", 295: "preadv", 296: "pwritev", 306: "syncfs",
    316: "renameat2", 326: "copy_file_range", 327: "preadv2", 328: "pwritev2", 332: "statx",
}  # fmt: skip
_CLOSE = 3
# The calls whose third argument is the number of bytes to write.
_WRITES = {1: "write", 18: "pwrite64"}
# A call that nothing else makes marks where the traced code begins and ends.
_MARK = 110  # getppid

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long


class Fault(NamedTuple):
    """A fault at a call. kind: "kill", "short" (half is written) or "error" (the call fails with `code`)."""

    kind: str
    code: int = 0

    def strikes(self, number: int, argument: int) -> bool:
        """Return True if a call can have this fault. number: that of the call. argument: its third argument."""
        if self.kind == "short":
            return number in _WRITES and argument > 1
        return self.kind == "kill" or number in FILE_CALLS


class Trial(NamedTuple):
    """The end of a process.

    struck: the call that met the fault, None if there were fewer. report: what the function returned, None if it died.
    """

    struck: str | None
    report: bytes | None


def why_not() -> str | None:
    """Return the reason why this machine cannot trace, or None if it can."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return "calls are struck at on Linux on x86-64 only"
    try:
        trial = run(lambda: b"ran", Fault("kill"), 1 << 30)
    except OSError as error:
        return f"this system lets no process trace another: {error}"
    return None if trial.report == b"ran" else "this system lets no process trace another"


def run(function: Callable[[], bytes], fault: Fault, at: int) -> Trial:
    """Run a function in a fork, with the fault at call number `at` of the code that it calls through `marked`.

    function: returns at most 64 KiB. at: counted from 1, over the calls that can meet the fault.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        _run_as_child(function, writer)
    os.close(writer)
    try:
        tracer = _Tracer(pid, fault, at)
        tracer.follow()
        return Trial(tracer.struck, os.read(reader, 1 << 16) or None)
    finally:
        os.close(reader)


def marked(function: Callable[[], object]) -> None:
    """Call a function so that its system calls count."""
    os.getppid()
    try:
        function()
    finally:
        os.getppid()


def _run_as_child(function: Callable[[], bytes], writer: int) -> None:
    try:
        _ptrace(_TRACEME)
        os.kill(os.getpid(), signal.SIGSTOP)
        os.write(writer, function())
    finally:
        os._exit(0)


class _Tracer:
    """A tracer that follows a process and its threads call by call. struck: the name of the call with the fault."""

    def __init__(self, pid: int, fault: Fault, at: int) -> None:
        self.pid, self.fault, self.at = pid, fault, at
        self.struck: str | None = None
        self._marks = self._count = 0
        self._results: dict[int, int] = {}  # by thread: what a skipped call should return

    def follow(self) -> None:
        """Let the process, which is waiting to be traced, run to its end."""
        os.waitpid(self.pid, 0)
        _ptrace(_SETOPTIONS, self.pid, 0, _TRACESYSGOOD | _TRACECLONE | _EXITKILL)
        _resume(self.pid, _SYSCALL)
        while True:
            thread, status = os.waitpid(-1, _WAIT_FOR_THREADS_TOO)
            if os.WIFSTOPPED(status):
                signalled = os.WSTOPSIG(status)
                if signalled == _SYSCALL_STOP:
                    self._at_call(thread)
                # Tracing causes the others; all other signals are meant for the process.
                deliver = 0 if signalled in (_SYSCALL_STOP, signal.SIGTRAP, signal.SIGSTOP) else signalled
                _resume(thread, _SYSCALL if self._marks < 2 or self._results else _CONT, deliver)
            elif thread == self.pid:
                return

    def _at_call(self, thread: int) -> None:
        if thread in self._results:
            _poke(thread, _RAX, self._results.pop(thread))
            return
        call = _call_entered(thread)
        if call is None:
            return
        number, argument = call
        if number == _MARK:
            self._marks += 1
        elif self._marks == 1 and self.fault.strikes(number, argument):
            self._count += 1
            if self._count == self.at:
                self.struck = FILE_CALLS.get(number, f"call {number}")
                self._strike(thread, number, argument)

    def _strike(self, thread: int, number: int, argument: int) -> None:
        if self.fault.kind == "kill":
            os.kill(self.pid, signal.SIGKILL)
        elif self.fault.kind == "short":
            _poke(thread, _RDX, argument // 2)
        else:
            self._results[thread] = -self.fault.code
            if number != _CLOSE:  # Linux closes a descriptor even if it returns an error
                _poke(thread, _ORIG_RAX, -1)


def _call_entered(thread: int) -> tuple[int, int] | None:
    """Return the number and third argument of the call that a thread is about to make, or None at a return."""
    buffer = ctypes.create_string_buffer(88)
    _ptrace(_GET_SYSCALL_INFO, thread, len(buffer), ctypes.addressof(buffer))
    entry, number, _, _, argument = struct.unpack_from("<B23x4Q", buffer)
    return (number, argument) if entry == _ENTRY else None


def _poke(thread: int, register: int, value: int) -> None:
    _ptrace(_POKEUSER, thread, register, value & (1 << 64) - 1)


def _resume(thread: int, request: int, deliver: int = 0) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has just been killed
        _ptrace(request, thread, 0, deliver)


def _ptrace(request: int, thread: int = 0, address: int = 0, data: int = 0) -> None:
    if _libc.ptrace(request, thread, address, data) == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
