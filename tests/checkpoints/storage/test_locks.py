"""The lock of the library: processes and threads wait for each other, signal handlers and forks do not."""

import dis
import errno
import fcntl
import itertools
import os
import pickle
import re
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from statezoo.checkpoints.errors import CheckpointError, LockedError, WriteError
from statezoo.checkpoints.storage import forks, locks
from statezoo.checkpoints.storage.forks import OwnFile
from statezoo.checkpoints.storage.locks import locked

HOLD = """
import sys, time
from statezoo.checkpoints.storage.forks import OwnFile
from statezoo.checkpoints.storage.locks import locked
with locked(sys.argv[1]) as is_locked:
    print(is_locked, flush=True)
    time.sleep(float(sys.argv[2]))
"""
pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock on tmp_path."""
    process = hold(tmp_path, 60)
    yield process
    process.kill()
    process.communicate()


def hold(path: Path, for_s: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLD, str(path), str(for_s)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "True\n"
    return process


def is_free(path: Path) -> bool:
    """Return True if another process could lock `path` now."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def in_thread(work: Callable[[], object]) -> list[BaseException]:
    """Run work on another thread, and return what it raised."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return errors


def enter(path: Path, wait_s: float = 0) -> None:
    with locked(path, wait_s=wait_s):
        pass


def test_a_lock_is_held_in_the_block_and_free_after_it(tmp_path: Path):
    with locked(tmp_path) as is_locked:
        assert is_locked
        assert not is_free(tmp_path)
    assert is_free(tmp_path)


def test_a_lock_is_free_after_an_exception(tmp_path: Path):
    with pytest.raises(RuntimeError, match="stop"), locked(tmp_path):
        raise RuntimeError("stop")
    assert is_free(tmp_path)


def test_a_missing_lock_file_is_created_on_request(tmp_path: Path):
    with locked(tmp_path / "log", create=True) as is_locked:
        assert is_locked
    assert (tmp_path / "log").read_bytes() == b""


@pytest.mark.skipif(not os.path.exists("/proc/locks"), reason="only Linux says who holds a lock")
def test_the_error_names_the_path_the_process_its_command_and_the_time(tmp_path: Path):
    before = time.time()
    holder = hold(tmp_path, 60)
    try:
        with pytest.raises(LockedError) as info:
            enter(tmp_path)
    finally:
        holder.kill()
        holder.communicate()
    text = str(info.value)
    assert text.startswith(f"{tmp_path} is locked by process {holder.pid} ({sys.executable} -c ")
    assert text.endswith("\nWait until it has finished, or stop it, and try again.")
    since = re.search(r"\) since (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)\.\n", text)
    assert since is not None
    locked_s = datetime.strptime(since[1], "%Y-%m-%d %H:%M:%S").timestamp()
    assert before - 1 <= locked_s <= time.time()


def test_a_wait_ends_with_an_error_after_its_limit(tmp_path: Path, holder: subprocess.Popen[str]):
    start = time.monotonic()
    with pytest.raises(LockedError, match=r"and was not released within 0\.3 s\."):
        enter(tmp_path, wait_s=0.3)
    assert 0.3 <= time.monotonic() - start < 10


def test_the_error_has_the_expected_types_and_can_be_pickled(tmp_path: Path, holder: subprocess.Popen[str]):
    with pytest.raises(TimeoutError) as info:
        enter(tmp_path)
    assert isinstance(info.value, CheckpointError)
    assert isinstance(info.value, WriteError)
    assert str(pickle.loads(pickle.dumps(info.value))) == str(info.value)


def test_another_process_waits_until_the_lock_is_released(tmp_path: Path):
    process = hold(tmp_path, 0.3)
    with locked(tmp_path, wait_s=60) as is_locked:
        assert is_locked
        assert process.wait(60) == 0
    process.communicate()


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path, holder: subprocess.Popen[str]):
    holder.kill()
    holder.wait()
    enter(tmp_path, wait_s=0)


def test_a_thread_may_enter_again_and_only_the_last_exit_releases(tmp_path: Path):
    before = open_files()
    with locked(tmp_path):
        with locked(tmp_path, wait_s=0) as is_locked:
            assert is_locked
        assert not is_free(tmp_path)
    assert is_free(tmp_path)
    assert open_files() == before


def test_one_file_under_two_names_is_one_lock(tmp_path: Path):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    with locked(tmp_path / "file"), locked(tmp_path / "link", wait_s=0) as is_locked:
        assert is_locked


def test_another_thread_waits_and_its_error_says_that_a_thread_holds_the_lock(tmp_path: Path):
    with locked(tmp_path):
        (error,) = in_thread(lambda: enter(tmp_path, wait_s=0.05))
        assert isinstance(error, LockedError)
        if os.path.exists("/proc/locks"):
            assert "is locked by another thread of this process" in str(error)
    assert in_thread(lambda: enter(tmp_path)) == []


def test_only_one_of_many_threads_is_in_the_block(tmp_path: Path):
    inside, most = [0], [0]

    def work() -> None:
        for _ in range(20):
            with locked(tmp_path):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                time.sleep(0.0002)
                inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]
    assert is_free(tmp_path)


class Interrupt(KeyboardInterrupt):
    """The exception that the traced interrupts below raise."""


# After these opcodes, Python checks for signals.
INTERRUPTIBLE = {"RESUME", "CALL", "CALL_KW", "CALL_FUNCTION_EX", "JUMP_BACKWARD"}


def at_each_moment(work: Callable[[], None], act: Callable[[], None]) -> int:
    """Run `work` once for each moment at which a signal can interrupt the code in locks.py, and call `act` there.

    Return the number of moments.
    """
    for count in itertools.count():
        moments = itertools.count()

        def trace(frame: Any, event: str, arg: Any, moments: Any = moments, at: int = count) -> Any:
            if frame.f_code.co_filename != locks.__file__:
                return None
            frame.f_trace_opcodes = True
            before = ""

            def follow(frame: Any, event: str, arg: Any) -> Any:
                nonlocal before
                if event == "opcode":
                    last, before = before, dis.opname[frame.f_code.co_code[frame.f_lasti]]
                    if last in INTERRUPTIBLE and next(moments) == at:
                        act()
                return follow

            return follow

        before = sys.gettrace()  # of a measurement of the coverage
        sys.settrace(trace)
        try:
            work()
        finally:
            sys.settrace(before)
        if next(moments) <= count:
            return count
    raise AssertionError


def test_a_signal_handler_can_enter_at_any_moment_of_the_code_it_interrupts(tmp_path: Path):
    entered: list[bool] = []

    def handler(*_: Any) -> None:
        with locked(tmp_path, wait_s=0) as is_locked:
            entered.append(is_locked)
            assert not is_free(tmp_path)

    def work() -> None:
        with locked(tmp_path, wait_s=0) as is_locked:
            assert is_locked
            assert not is_free(tmp_path)
        assert is_free(tmp_path)

    before = open_files()
    original = signal.signal(signal.SIGUSR1, handler)
    try:
        moments = at_each_moment(work, lambda: signal.raise_signal(signal.SIGUSR1))
    finally:
        signal.signal(signal.SIGUSR1, original)
    assert entered == [True] * moments
    assert moments > 30
    assert open_files() == before


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # an interrupt in __del__
def test_an_interrupt_at_any_moment_leaves_no_lock_and_no_open_file(tmp_path: Path):
    interrupted = []

    def interrupt() -> None:
        raise Interrupt

    def work() -> None:
        try:
            with locked(tmp_path, wait_s=0):
                pass
        except Interrupt:
            interrupted.append(True)
        assert is_free(tmp_path)
        assert open_files() == before

    before = open_files()
    moments = at_each_moment(work, interrupt)
    assert moments > 30
    assert len(interrupted) > moments - 10  # those in __del__ are reported by the interpreter


def test_a_forked_child_does_not_hold_the_lock_and_waits_like_another_process(tmp_path: Path):
    with locked(tmp_path):
        child = os.fork()
        if not child:
            try:
                enter(tmp_path)
            except LockedError as error:
                os._exit(0 if f"process {os.getppid()}" in str(error) or not os.path.exists("/proc/locks") else 2)
            os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        assert not is_free(tmp_path)
    assert is_free(tmp_path)


def test_a_forked_child_that_leaves_the_block_does_not_release_the_lock(tmp_path: Path):
    child = 0
    with locked(tmp_path):
        child = os.fork()
        if child:
            assert os.waitpid(child, 0)[1] == 0
            assert not is_free(tmp_path)
    if not child:
        os._exit(0)
    assert is_free(tmp_path)


FORK_AND_DIE = """
import os, signal, sys, threading, time
from statezoo.checkpoints.storage.forks import OwnFile
from statezoo.checkpoints.storage.locks import locked
ready = threading.Event()
def hold():
    with locked(sys.argv[1]):
        ready.set()
        time.sleep(60)
threading.Thread(target=hold, daemon=True).start()
ready.wait()
child = os.fork()
if not child:
    time.sleep(60)
    os._exit(0)
print(child, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_lock_of_a_killed_process_is_free_even_if_its_forked_child_lives(tmp_path: Path):
    command = [sys.executable, "-W", "ignore", "-c", FORK_AND_DIE, str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    process.wait()
    try:
        enter(tmp_path, wait_s=5)
    finally:
        os.kill(child, signal.SIGKILL)
        process.stdout.close()


def test_in_a_forked_child_a_file_it_must_not_share_is_one_that_nothing_else_has(tmp_path: Path):
    """Code of a save that goes on in the child sets the mode and the owner. On the null device, root would succeed."""
    file = OwnFile()
    file.open(str(tmp_path / "file"), os.O_RDWR | os.O_CREAT)
    child = os.fork()
    if not child:
        try:
            os.write(file.number, b"of the child")
        except OSError as error:
            status = os.fstat(file.number)
            os._exit(7 if error.errno == errno.EBADF and stat.S_ISFIFO(status.st_mode) else 2)
        os._exit(3)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert os.fstat(file.number).st_size == 0
    file.close()


def test_a_handler_may_wait_for_a_thread_that_opens_a_file_whatever_it_interrupted(tmp_path: Path):
    """With a lock around the opening of files, the thread would wait for the code that the handler interrupted."""

    def handler(*_: Any) -> None:
        thread = threading.Thread(target=enter, args=(tmp_path / "other", 60))
        thread.start()
        thread.join(30)
        ended.append(not thread.is_alive())

    ended: list[bool] = []
    (tmp_path / "other").mkdir()
    original = signal.signal(signal.SIGUSR1, handler)
    try:
        moments = at_each_moment(lambda: enter(tmp_path), lambda: signal.raise_signal(signal.SIGUSR1))
    finally:
        signal.signal(signal.SIGUSR1, original)
    assert ended == [True] * moments


def test_a_thread_that_is_waited_for_does_not_wait_for_a_lock_of_the_waiting_one(tmp_path: Path):
    errors: list[BaseException] = []
    ident: list[int] = []
    begun = threading.Event()

    def work() -> None:
        ident.append(threading.get_ident())
        begun.set()
        try:
            enter(tmp_path, wait_s=60)
        except LockedError as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    with locked(tmp_path):
        thread.start()
        begun.wait()
        locks.await_thread(ident[0], lambda: thread.join(30))
        assert not thread.is_alive()
    assert "is locked by code of this process that waits for this call to end.\n" in str(errors[0])


def test_a_child_forked_while_it_waits_for_a_lock_goes_on_waiting_like_another_process(tmp_path: Path):
    """The descriptor that it tried to lock is another file by now, which it must not take for the one to lock."""
    holder = hold(tmp_path, 60)
    children: list[int] = []

    def fork(*_: Any) -> None:
        children.append(os.fork())

    outcome = 1
    original, parent = signal.signal(signal.SIGALRM, fork), os.getpid()
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        enter(tmp_path, wait_s=0.5)
    except LockedError as error:
        outcome = 7 if f"process {holder.pid}" in str(error) else 2
    finally:
        if os.getpid() != parent:
            os._exit(outcome)
        signal.signal(signal.SIGALRM, original)
        holder.kill()
        holder.communicate()
    assert outcome == 7
    assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 7


@pytest.mark.parametrize(
    "start", ["subprocess.Popen(command, close_fds=False)", "os.posix_spawn(command[0], command, os.environ)"]
)
def test_the_lock_of_a_killed_process_is_free_even_if_a_program_that_it_started_lives(tmp_path: Path, start: str):
    program = f"""
import os, signal, subprocess, sys
from statezoo.checkpoints.storage.locks import locked
command = [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()"]
with locked(sys.argv[1]):
    {start}
    signal.pause()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdout.readline()  # the program runs
    process.kill()
    process.wait()
    enter(tmp_path, wait_s=0)
    process.stdin.close()
    process.stdout.close()


def test_forks_in_one_thread_while_another_opens_and_closes_files_leave_no_descriptor_in_the_children(
    tmp_path: Path, repeating: Any
):
    def open_and_close() -> None:
        file = OwnFile()
        file.open(str(tmp_path), os.O_RDONLY)
        file.close()

    with repeating(open_and_close):
        for _ in range(50):
            child = os.fork()
            if not child:
                left = [number for number in os.listdir("/proc/self/fd") if leads_to(number, tmp_path)]
                os._exit(len(left))
            assert os.waitpid(child, 0)[1] == 0


def leads_to(number: str, path: Path) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{number}") == str(path)
    except OSError:
        return False


def test_a_file_whose_finalizer_was_interrupted_is_closed_by_the_next_one_that_opens(tmp_path: Path):
    before = open_files()
    file = OwnFile()
    file.open(str(tmp_path), os.O_RDONLY)
    lost = file._opened
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OwnFile, "__del__", lambda self: None)
        del file
    assert len(lost) == 1
    enter(tmp_path)
    assert open_files() == before


def test_a_file_replaced_during_the_wait_is_locked_under_its_name(tmp_path: Path):
    log = tmp_path / "log"
    log.touch()
    holder = hold(log, 60)
    errors: list[list[BaseException]] = []

    def wait_and_check() -> None:
        with locked(log, wait_s=60, create=True):
            assert not is_free(log)

    thread = threading.Thread(target=lambda: errors.append(in_thread(wait_and_check)))
    thread.start()
    time.sleep(0.1)
    log.unlink()
    holder.kill()
    holder.communicate()
    thread.join()
    assert errors == [[]]
    assert log.exists()


@pytest.mark.parametrize("how", ["refused", "absent"])
def test_without_locks_the_block_runs_and_knows_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str):
    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    if how == "refused":
        monkeypatch.setattr(fcntl, "flock", refuse)
    else:
        monkeypatch.setattr(locks, "fcntl", None)
    before = open_files()
    with locked(tmp_path) as is_locked:
        assert is_locked is False
    assert open_files() == before


def test_a_path_that_cannot_be_opened_is_treated_as_having_no_locks(tmp_path: Path):
    with locked(tmp_path / "absent") as is_locked:
        assert is_locked is False
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_before_any_line_of_opening_a_file_is_raised_and_makes_no_fork_wait():
    def interrupted(step_of_call: int) -> bool:
        lines = itertools.count()

        def trace(frame: FrameType, event: str, argument: object) -> Any:
            if frame.f_code is not forks.unforked.__code__:
                return None
            if event == "line" and next(lines) == step_of_call:
                raise KeyboardInterrupt
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            forks.unforked(int)
        except KeyboardInterrupt:
            return True
        finally:
            sys.settrace(before)
        return False

    assert len(list(itertools.takewhile(bool, map(interrupted, itertools.count())))) >= 6
    assert not forks._busy
