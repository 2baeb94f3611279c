"""Saving in the background: later changes do not affect the snapshot, and no failure goes unnoticed."""

import itertools
import os
import pickle
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statezoo.checkpoints import CheckpointError, Deferred, History, WriteError, load_file, open_checkpoint, save_file
from statezoo.checkpoints.runs.history import background as module
from statezoo.checkpoints.runs.history.background import Background, SnapshotMemory
from statezoo.checkpoints.testing import compare_states
from statezoo.core import Linear

DTYPES = ["f4", ">f8", "i2", "?", "c8", "u1"]
LAYOUTS = {
    "plain": lambda array: [array],
    "tied": lambda array: [array, array],
    "transposed": lambda array: [array, array.T],
    "only transposed": lambda array: [array.T, array.T[1:]],
    "strided": lambda array: [array[:, ::2]],
    "overlapping": lambda array: [array[:3], array[1:]],
    "empty": lambda array: [array[:0]],
    "a number": lambda array: [array[0, 0]],
}


def state_of(dtype: str, layouts: list[str], seed: int) -> tuple[dict[str, Any], list[np.ndarray]]:
    """Return a state, and the arrays that hold its memory."""
    rng = np.random.default_rng(seed)
    bases = [rng.integers(0, 2, (4, 6)).astype(dtype) for _ in layouts]
    state: dict[str, Any] = {"_extra_state": {"epochs": [seed]}}
    for number, (layout, base) in enumerate(zip(layouts, bases, strict=True)):
        state |= {f"{number}.{place}": array for place, array in enumerate(LAYOUTS[layout](base))}
    return state, bases


@settings(deadline=None)
@given(
    st.sampled_from(DTYPES), st.lists(st.sampled_from(list(LAYOUTS)), max_size=4), st.integers(0, 99), st.integers(1, 3)
)
def test_a_snapshot_is_not_affected_by_later_changes_to_the_arrays(
    tmp_path_factory: pytest.TempPathFactory, dtype: str, layouts: list[str], seed: int, times: int
):
    folder, memory = tmp_path_factory.mktemp("states"), SnapshotMemory()
    for number in range(times):
        state, bases = state_of(dtype, layouts, seed + number)
        save_file(state, folder / "now.safetensors", durable=False)
        taken = memory.take(state)
        for base in bases:
            base[...] = np.logical_not(base)
        state["_extra_state"]["epochs"].append("later")
        save_file(taken.state, folder / "later.safetensors", durable=False)
        assert (folder / "later.safetensors").read_bytes() == (folder / "now.safetensors").read_bytes()
        memory.give_back(taken)


def test_a_training_loop_that_keeps_writing_does_not_tear_a_background_save(tmp_path: Path):
    weights = np.zeros((64, 4096), "f4")
    with History(tmp_path, keep_last=20, background=True, durable=False) as history:
        for step in range(20):
            weights += 1
            history.save(step, {"weights": weights, "tied": weights})
            weights[::2] += 0.25  # while the thread writes
            weights[::2] -= 0.25
    for saved in history:
        loaded = load_file(saved.path)
        assert (loaded["weights"] == saved.step + 1).all()
        assert loaded["tied"] is loaded["weights"]


def test_nans_in_a_snapshot_keep_their_payload():
    nans = np.array([0x7FA00001, 0xFFC12345], "u4").view("f4")
    assert SnapshotMemory().take({"nans": nans}).state["nans"].tobytes() == nans.tobytes()


def test_a_snapshot_reuses_returned_memory_of_about_its_size():
    memory = SnapshotMemory()
    first = memory.take({"kept": np.ones(50), "other": np.ones(50), "gone": np.ones(50)})
    memory.give_back(first)
    second = memory.take({"kept": np.zeros(50), "other": np.zeros((50, 1))})
    assert np.shares_memory(second.memory, first.memory)
    assert list(second.state) == ["kept", "other"]
    memory.give_back(second)
    assert not np.shares_memory(memory.take({"gone": np.ones(5)}).memory, first.memory)


def test_a_snapshot_does_not_reuse_memory_that_was_not_returned():
    memory = SnapshotMemory()
    first = memory.take({"a": np.ones(5)})
    assert not np.shares_memory(memory.take({"a": np.zeros(5)}).state["a"], first.state["a"])


def test_a_snapshot_of_an_open_checkpoint_or_deferred_arrays_holds_their_values(tmp_path: Path):
    base = np.arange(6.0).reshape(2, 3)
    save_file({"base": base, "view": base.T}, tmp_path / "a.h5", durable=False)
    with open_checkpoint(tmp_path / "a.h5") as checkpoint:
        taken = SnapshotMemory().take(checkpoint).state
    assert list(compare_states({"base": base, "view": base.T}, taken)) == []
    taken = SnapshotMemory().take({"later": Deferred((2, 3), base.dtype, lambda: base)}).state
    np.testing.assert_array_equal(taken["later"], base)


def test_a_model_is_saved_with_its_ties_while_its_weights_change(tmp_path: Path):
    model = Linear(3, 3, bias=False)
    model.register_parameter("tied", model.weight)
    before = model.weight.data.copy()
    with History(tmp_path, background=True, durable=False) as history:
        path = history.save(1, model)
        model.weight.data[...] = 0
    loaded = load_file(path)
    np.testing.assert_array_equal(loaded["weight"], before)
    assert loaded["tied"] is loaded["weight"]


def test_jobs_run_one_at_a_time():
    background, gate, running, most = Background(), threading.Event(), [], []

    def job() -> None:
        running.append(1)
        most.append(len(running))
        gate.wait()
        running.pop()

    background.start(job)
    opener = threading.Timer(0.05, gate.set)
    opener.start()
    background.start(job)
    assert gate.is_set()
    background.wait()
    opener.join()
    assert most == [1, 1]


def test_a_job_runs_at_once_if_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(module, "start_new_thread", refuse)
    background, done = Background(), []
    background.start(partial(done.append, 1))
    assert done == [1]
    with pytest.raises(WriteError, match="without a thread"):
        background.start(partial(fail, "without a thread"))
    background.wait()


def fail(text: str) -> None:
    raise WriteError(text)


def test_the_next_call_raises_the_error_of_a_job_once_and_starts_nothing():
    background, done = Background(), []
    background.start(partial(fail, "first"))
    with pytest.raises(WriteError, match=r"^first$"):
        background.start(partial(done.append, 1))
    background.wait()
    assert done == []
    background.start(partial(done.append, 2))
    background.wait()
    assert done == [2]


@pytest.fixture
def failing(tmp_path: Path) -> History:
    """A history whose next save will fail, because a folder is at its path."""
    (tmp_path / "step-00000005.safetensors").mkdir()
    history = History(tmp_path, metric="loss", mode="min", background=True, durable=False)
    history.save(5, {"a": np.ones(3)}, {"loss": 1.0})
    return history


@pytest.mark.parametrize(
    "call",
    [
        lambda history: history.save(6, {"a": np.ones(3)}, {"loss": 1.0}),
        History.latest,
        History.best,
        History.load,
        History.log,
        History.close,
        list,
    ],
    ids=["save", "latest", "best", "load", "log", "close", "list"],
)
def test_any_next_call_raises_the_error_of_a_background_save(failing: History, call: Any):
    with pytest.raises(WriteError, match=r"step-00000005.safetensors is a folder, and nothing was written"):
        call(failing)
    failing.close()


def test_leaving_the_block_raises_the_error_of_the_last_save(failing: History):
    with pytest.raises(WriteError, match="is a folder"), failing:
        pass


def test_an_error_in_the_block_is_raised_with_the_error_of_the_last_save_as_a_note(failing: History):
    with pytest.raises(ZeroDivisionError) as caught, failing:
        raise ZeroDivisionError
    assert "The last save in the background failed as well" in caught.value.__notes__[0]
    assert "is a folder" in caught.value.__notes__[0]


def test_a_state_that_cannot_be_saved_is_an_error_at_once_and_nothing_is_written(tmp_path: Path):
    history = History(tmp_path, background=True)
    with pytest.raises(CheckpointError, match="'a' is str, not an array"):
        history.save(1, {"a": "text"})
    with pytest.raises(CheckpointError, match="the metadata 'epoch' is int"):
        history.save(1, {}, metadata={"epoch": 1})  # pyright: ignore[reportArgumentType]
    assert list(history) == []


# Real processes, whose writer takes half a second before it begins.
PROGRAM = """
import os, signal, sys, threading, time
import numpy as np
from statezoo.checkpoints import History
from statezoo.checkpoints.runs.history import history as module

quick = module.save_file
def slow(*arguments, **keywords):
    time.sleep(0.5)
    quick(*arguments, **keywords)
module.save_file = slow

folder = sys.argv[1]
history = History(folder, background=True)
state = {"a": np.arange(100_000.0)}
history.save(1, state)
history.save(2, state)
state["a"][:] = -1
"""


def run(folder: Path, program: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM + program, str(folder)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == status, done.stderr
    return done


def intact(folder: Path) -> list[int]:
    """Return the steps in a folder, after checking that each holds what the program saved."""
    steps = []
    for saved in History(folder):
        np.testing.assert_array_equal(load_file(saved.path)["a"], np.arange(100_000.0))
        steps.append(saved.step)
    return steps


@pytest.mark.parametrize(
    ("end", "status"),
    [("", 0), ("sys.exit(3)", 3), ("1 / 0", 1)],
    ids=["ends", "exits", "raises"],
)
def test_a_process_that_exits_right_after_a_save_waits_for_it(tmp_path: Path, end: str, status: int):
    run(tmp_path, end, status)
    assert intact(tmp_path) == [1, 2]
    assert len(History(tmp_path).log()) == 2


def test_a_process_that_exits_in_a_signal_handler_waits_for_the_save(tmp_path: Path):
    program = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7)); os.kill(os.getpid(), signal.SIGTERM)"
    run(tmp_path, program, 7)
    assert intact(tmp_path) == [1, 2]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_process_killed_during_a_save_leaves_the_earlier_checkpoints_and_nothing_incomplete(
    tmp_path: Path, number: int
):
    program = f"""
import statezoo.checkpoints.files.plan as plan
def dying(*_):
    os.kill(os.getpid(), {int(number)})
    time.sleep(60)
history.close()
plan.write_all = dying
history.save(3, state)
time.sleep(60)
"""
    run(tmp_path, program, -number)
    assert intact(tmp_path) == [1, 2]
    assert [entry.name for entry in tmp_path.glob(".statezoo-*")] != []
    History(tmp_path, durable=False).save(4, {"a": np.arange(100_000.0)})
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [
        "history.jsonl", *(f"step-0000000{step}.safetensors" for step in (1, 2, 4))
    ]  # fmt: skip


def test_the_error_of_a_last_save_that_nothing_waits_for_is_printed_at_exit(tmp_path: Path):
    done = run(tmp_path, "history.close(); os.mkdir(folder + '/step-00000003.safetensors'); history.save(3, state)")
    assert "step-00000003.safetensors is a folder, and nothing was written" in done.stderr


def test_a_save_while_the_interpreter_exits_runs_at_once(tmp_path: Path):
    run(tmp_path, "import atexit; state['a'] = np.arange(100_000.0); atexit.register(history.save, 3, state)")
    assert intact(tmp_path) == [1, 2, 3]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("delay_s", [0, 1], ids=["in flight", "failed"])
def test_a_forked_process_does_not_wait_for_its_parents_save_or_raise_its_error(tmp_path: Path, delay_s: int):
    program = (
        f"delay_s = {delay_s}"
        + """
history.close()
os.mkdir(folder + "/step-00000003.safetensors")
state["a"] = np.arange(100_000.0)
history.save(3, state)
time.sleep(delay_s)
child = os.fork()
if not child:
    history.close()                  # the failure belongs to the parent
    History(folder + "/child", background=True).save(1, state)
    history.save(4, state)           # after the parent has finished its save
    sys.exit(5)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
try:
    history.close()
except OSError:
    sys.exit(6)
"""
    )
    run(tmp_path, program, 6)
    (tmp_path / "step-00000003.safetensors").rmdir()
    assert intact(tmp_path) == [1, 2, 4]
    assert intact(tmp_path / "child") == [1]


def test_a_wait_for_a_save_can_be_interrupted_and_repeated(tmp_path: Path):
    program = """
threading.Timer(0.1, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
try:
    history.close()
except KeyboardInterrupt:
    history.close()
    sys.exit(8)
"""
    run(tmp_path, program, 8)
    assert intact(tmp_path) == [1, 2]


@pytest.mark.parametrize("background", [False, True])
def test_threads_that_save_to_one_history_save_complete_states(tmp_path: Path, background: bool):
    history = History(tmp_path, keep_last=99, durable=False, background=background)

    def save(first: int) -> None:
        for step in range(first, 24, 4):
            history.save(step, {name: np.full(50_000, step) for name in "abcd"})

    with history, ThreadPoolExecutor(4) as threads:
        for ended in [threads.submit(save, first) for first in range(4)]:
            ended.result()
    assert [saved.step for saved in history] == list(range(24))
    for saved in history:
        assert all((array == saved.step).all() for array in load_file(saved.path).values())


def test_a_save_and_a_signal_handlers_save_in_the_middle_of_it_are_both_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    history = History(tmp_path, durable=False, background=True)
    history.save(0, {name: np.zeros(500_000) for name in "abcd"})
    history.close()
    calls = itertools.count(1)

    def interrupted(array: np.ndarray) -> np.ndarray:
        if next(calls) == 2:  # the first array has been copied
            history.save(2, {name: np.full(500_000, 2.0) for name in "abcd"})
        return array

    monkeypatch.setattr("statezoo.checkpoints.state.dtypes.little_endian", interrupted)
    history.save(1, {name: np.ones(500_000) for name in "abcd"})
    assert [saved.step for saved in history] == [0, 1, 2]
    for saved in history:
        assert all((array == saved.step).all() for array in load_file(saved.path).values())


INTERRUPTED_START = """
import random, signal, sys
import numpy as np
from statezoo.checkpoints import History, load_file

def interrupt(*_):
    raise KeyboardInterrupt

rng = random.Random(3)
signal.signal(signal.SIGALRM, interrupt)
history = History(sys.argv[1], keep_last=500, background=True, durable=False)
interrupted = 0
for step in range(400):
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-5, 0.001))
            history.save(step, {"a": np.full(200_000, float(step)), "b": np.full(5, float(step))})
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        interrupted += 1
history.close()
for saved in history:
    loaded = load_file(saved.path)
    values = {*np.unique(loaded["a"]), *np.unique(loaded["b"])}
    assert values == {float(saved.step)}, (saved.step, values)
print(interrupted, len(list(history)))
"""


def test_saves_interrupted_at_their_start_do_not_reuse_memory_that_is_being_written(tmp_path: Path):
    command = [sys.executable, "-c", INTERRUPTED_START, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    interrupted, saved = map(int, done.stdout.split())
    assert interrupted > 20
    assert saved >= 400 - interrupted


IN_A_WORKER = """
import multiprocessing, pickle, sys
import numpy as np
from statezoo.checkpoints import History, load_file, open_checkpoint, save_file

def work(history, checkpoint):
    assert (checkpoint["a"][...] == 1).all()
    assert history.latest().step == 1
    history.save(2, {"a": np.full(100_000, 2.0)})  # not closed: the process waits for the save when it ends

if __name__ == "__main__":
    folder = sys.argv[1]
    history = History(folder, keep_last=9, background=True, durable=False)
    history.save(1, {"a": np.ones(100_000)})
    history.close()
    with open_checkpoint(history.latest().path) as checkpoint:
        process = multiprocessing.get_context(sys.argv[2]).Process(target=work, args=(history, checkpoint))
        process.start()
        process.join()
    assert process.exitcode == 0
    history.save(3, {"a": np.full(100_000, 3.0)})
    history.close()
    assert [saved.step for saved in history] == [1, 2, 3]
    assert all((load_file(saved.path)["a"] == saved.step).all() for saved in history)
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_worker_of_multiprocessing_takes_a_history_and_an_open_checkpoint(tmp_path: Path, method: str):
    (tmp_path / "program.py").write_text(IN_A_WORKER)
    command = [sys.executable, str(tmp_path / "program.py"), str(tmp_path / "runs"), method]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr


def test_a_pickled_history_opens_the_same_folder_with_the_same_rules(tmp_path: Path):
    history = History(tmp_path, 5, 2, 10, "loss", "min", format="hdf5", background=True, durable=False)
    history.save(1, {"a": np.ones(3)}, {"loss": 1.0})
    history.close()
    copy = pickle.loads(pickle.dumps(history))
    assert copy.folder == history.folder
    copy.save(2, {"a": np.zeros(3)}, {"loss": 0.5})
    copy.close()
    best = history.best()
    assert best is not None
    assert best.step == 2
    assert best.path.endswith(".h5")
