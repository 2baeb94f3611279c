"""Tasks on several threads, none of which outlives the call."""

import os
import subprocess
import sys
import threading
import time
from functools import partial
from typing import Any

import numpy as np
import pytest

from statezoo.checkpoints import CheckpointError, Deferred, load_file, save_file
from statezoo.checkpoints.storage import streams, threads
from statezoo.checkpoints.storage.threads import run_on_threads


def test_tasks_run_once_each_in_order_on_this_thread_and_others():
    here = threading.get_ident()
    both = threading.Barrier(2)
    done: list[int] = []
    idents: set[int] = set()

    def meet() -> None:
        both.wait()
        idents.add(threading.get_ident())

    run_on_threads([meet, meet, *(partial(done.append, number) for number in range(1000))], 2)
    assert sorted(done) == list(range(1000))
    assert here in idents
    assert len(idents) == 2
    done.clear()
    run_on_threads([partial(done.append, number) for number in range(1000)], 1)
    assert done == list(range(1000))


def test_an_empty_list_of_tasks_is_not_an_error():
    run_on_threads([])
    run_on_threads([], 3)


@pytest.mark.parametrize("failing", [0, 1])
def test_after_an_error_no_thread_starts_another_task(failing: int):
    begun, failed = threading.Event(), threading.Event()
    done: list[str] = []
    outlasted: list[bool] = []

    def fail() -> None:
        begun.wait()
        failed.set()
        raise ValueError("on purpose")

    def outlast_the_error() -> None:
        begun.set()
        failed.wait()
        time.sleep(0.2)
        outlasted.append(True)

    tasks = [outlast_the_error, outlast_the_error, *[partial(done.append, "late")] * 2]
    tasks[failing] = fail
    with pytest.raises(ValueError, match="on purpose"):
        run_on_threads(tasks, 2)
    assert done == []
    assert outlasted == [True]


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError()])
@pytest.mark.parametrize("most", [0, 1, 2])
def test_if_the_system_starts_no_more_threads_fewer_do_the_work(
    monkeypatch: pytest.MonkeyPatch, most: int, error: Exception
):
    started: list[int] = []
    start = threads.start_new_thread

    def start_few(*arguments: Any) -> int:
        if len(started) == most:
            raise error
        started.append(start(*arguments))
        return started[-1]

    monkeypatch.setattr(threads, "start_new_thread", start_few)
    done: list[int] = []
    run_on_threads([partial(done.append, number) for number in range(4)], 4)
    assert sorted(done) == [0, 1, 2, 3]
    assert len(started) == most


def test_threads_that_die_before_they_begin_are_not_waited_for(monkeypatch: pytest.MonkeyPatch):
    """Python has started them, but they got no memory."""
    monkeypatch.setattr(threads, "start_new_thread", lambda *arguments: 0)
    monkeypatch.setattr(threads, "_MOST_WAIT_S", 0.1)
    done: list[int] = []
    run_on_threads([partial(done.append, number) for number in range(4)], 4)
    assert done == [0, 1, 2, 3]
    assert threads.undisturbed(lambda: 5) == 5


def test_a_thread_that_begins_when_all_is_done_does_nothing(monkeypatch: pytest.MonkeyPatch):
    late: list[Any] = []
    monkeypatch.setattr(threads, "start_new_thread", lambda function, arguments: late.append(function))
    done: list[int] = []

    def fail() -> None:
        raise ValueError("on purpose")

    with pytest.raises(ValueError, match="on purpose"):
        run_on_threads([partial(done.append, 1), fail, partial(done.append, 2)], 4)
    for function in late:
        function()
    assert len(late) == 2
    assert done == [1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_in_a_signal_handler_does_not_wait_for_the_threads_of_its_parent():
    go_on, done = threading.Event(), []

    def fork() -> None:
        child = os.fork()
        if child:
            done.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
            go_on.set()

    def fork_here() -> None:
        both.wait()
        fork() if threading.get_ident() == here else go_on.wait()

    both, here, parent = threading.Barrier(2), threading.get_ident(), os.getpid()
    try:
        run_on_threads([fork_here, fork_here], 2)
    except CheckpointError as error:
        if os.getpid() != parent:
            os._exit(7 if "this process was forked while" in str(error) else 1)
        raise
    finally:
        if os.getpid() != parent:
            os._exit(2)
    assert done == [7]


AT_EXIT = """
import atexit, sys, threading
import numpy as np
from statezoo.checkpoints import load_file, save_file
path, kind = sys.argv[1:]
state = {str(number): np.full(1 << 18, number) for number in range(8)}
def save():
    save_file(state, path)
    load_file(path)
if kind == "atexit":
    atexit.register(save)
else:
    begun = threading.Event()
    def save_for_ever():
        begun.set()
        while True:
            save()
    threading.Thread(target=save_for_ever, daemon=True).start()
    begun.wait()
"""


@pytest.mark.parametrize("kind", ["atexit", "daemon"])
def test_a_save_while_the_interpreter_exits_neither_fails_nor_hangs(path: Any, kind: str):
    save_file({"old": np.ones(3)}, path)
    done = subprocess.run([sys.executable, "-c", AT_EXIT, path, kind], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert list(load_file(path)) in ([["old"]] if kind == "daemon" else []) + [list(map(str, range(8)))]
    save_file({"new": np.ones(3)}, path)
    assert list(path.parent.iterdir()) == [path]


def test_a_state_written_and_digested_by_different_threads_loads_unchanged(path: Any):
    rng = np.random.default_rng(0)
    made: list[str] = []

    def make(name: str) -> np.ndarray:
        made.append(name)
        return rng.random((300, 300))

    big = rng.random((800, 1000))
    state: dict[str, Any] = {
        "in place": big,
        "small": np.arange(5),
        "transposed": np.repeat(big, 2, axis=0)[::2].T,
        "big endian": big.astype(">f8"),
        "deferred": Deferred((300, 300), np.float64, partial(make, "deferred")),
        "also deferred": Deferred((300, 300), np.float64, partial(make, "also deferred")),
        "half": rng.random((900, 900)).astype(np.float16),
    }
    assert sum(np.prod(array.shape) * array.dtype.itemsize for array in state.values()) > streams._BYTES_WORTH_A_THREAD
    save_file(state, path)
    assert sorted(made) == ["also deferred", "deferred"]
    loaded = load_file(path)
    for name, array in state.items():
        if not isinstance(array, Deferred):
            assert np.array_equal(loaded[name], array)
