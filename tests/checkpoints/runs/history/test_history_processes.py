"""Several processes that save to one folder, and processes that are killed."""

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from history_states import LOWEST, names, state, steps

from statezoo.checkpoints import History, load_file, open_checkpoint
from statezoo.checkpoints.runs.history import savers
from statezoo.checkpoints.runs.history.log import Log


def test_checkpoints_that_another_process_saved_meanwhile_are_kept(tmp_path: Path):
    one, other = History(tmp_path, keep_last=1, durable=False), History(tmp_path, keep_last=1, durable=False)
    other.save(5, state(5))
    for step in (10, 11):
        one.save(step, state())
    assert steps(tmp_path) == [5, 11]
    other.save(6, state(6))
    assert steps(tmp_path) == [6, 11]
    one.save(6, state(7))  # the same step, from the other history
    other.save(4, state(8))
    assert steps(tmp_path) == [4, 6, 11]
    History(tmp_path, keep_last=1, durable=False).save(12, state())  # a run that starts later removes all others
    assert steps(tmp_path) == [12]


def test_an_open_checkpoint_can_be_read_after_it_is_removed(tmp_path: Path):
    history = History(tmp_path, keep_last=1, durable=False)
    with open_checkpoint(history.save(1, state(1))) as checkpoint:
        mapped = load_file(tmp_path / "step-00000001.safetensors", mmap=True)
        history.save(2, state(2))
        assert steps(tmp_path) == [2]
        np.testing.assert_array_equal(checkpoint["weight"][:], state(1)["weight"])
        np.testing.assert_array_equal(mapped["weight"], state(1)["weight"])


SAVER = """
import os, sys
import numpy as np
from statezoo.checkpoints import History, load_file
folder, first, count, share = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "True"
history = History(folder, keep_last=2, metric="loss", mode="min", durable=False, share=share)
for step in range(first, first + 2 * count, 2):
    path = history.save(step, {"frozen": np.ones(20_000), "weight": np.full(20_000, step, "f4")}, {"loss": -step})
    assert load_file(path)["weight"][0] == step
"""


def start(folder: Path, *arguments: Any) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", SAVER, str(folder), *map(str, arguments)]
    return subprocess.Popen(command, stderr=subprocess.PIPE)


@pytest.mark.parametrize("share", [False, True])
def test_processes_saving_to_one_folder_at_once_lose_no_checkpoints_or_lines(tmp_path: Path, share: bool):
    count = 40
    processes = [start(tmp_path, first, count, share) for first in (0, 1)]
    for process in processes:
        _, errors = process.communicate(timeout=100)
        assert process.returncode == 0, errors.decode()
    history = History(tmp_path, **LOWEST)
    assert sorted(record.step for record in history.log()) == list(range(2 * count))
    found = [saved.step for saved in history]
    assert {2 * count - 2, 2 * count - 1} <= set(found)
    for saved in history:
        assert load_file(saved.path)["weight"][0] == saved.step
    assert [name for name in names(tmp_path) if name.endswith(".tmp")] == []


@pytest.mark.parametrize("share", [False, True])
def test_a_process_killed_at_any_moment_leaves_complete_checkpoints_and_the_next_save_removes_the_rest(
    tmp_path: Path, share: bool
):
    rng, first = np.random.default_rng(3), 0
    for _ in range(8):
        process = start(tmp_path, first, 10**6, share)
        while not steps(tmp_path):
            time.sleep(0.01)
        time.sleep(0.3 + rng.random() / 5)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        history = History(tmp_path, **LOWEST)
        for saved in history:
            assert load_file(saved.path)["weight"][0] == saved.step
        latest = history.latest()
        assert latest is not None
        first = latest.step + 2
    last = History(tmp_path, keep_last=2, keep_best=0, durable=False, share=share)
    last.save(first, state())
    kept = [f"step-{saved.step:08}" + ("" if share else ".safetensors") for saved in last]
    assert names(tmp_path) == ["history.jsonl", *kept]
    assert len(kept) == 2


KEEPER = """
import sys
import numpy as np
from statezoo.checkpoints import History
history = History(sys.argv[1], keep_last=10, durable=False, share=sys.argv[2] == "True")
for step in range(5):
    history.save(step, {"weight": np.full(1000, float(step))}, {"loss": 1})
print("saved", flush=True)
sys.stdin.readline()
history.save(5, {"weight": np.full(1000, 5.0)}, {"loss": 1})
"""


@pytest.mark.parametrize("share", [False, True])
def test_what_a_living_process_saved_is_left_to_it_and_removed_once_it_has_ended(tmp_path: Path, share: bool):
    command = [sys.executable, "-c", KEEPER, str(tmp_path), str(share)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as keeper:
        assert keeper.stdout is not None
        assert keeper.stdout.readline() == "saved\n"
        other = History(tmp_path, keep_last=1, share=not share, durable=False)
        for step in (20, 21):
            other.save(step, state(step))
        assert steps(tmp_path) == [0, 1, 2, 3, 4, 21]
        keeper.communicate("\n", timeout=60)
        assert steps(tmp_path) == [0, 1, 2, 3, 4, 5, 21]
    other.save(22, state(22))
    assert steps(tmp_path) == [5, 22]  # which came after `other` was opened
    assert sorted(record.step for record in other.log()) == [0, 1, 2, 3, 4, 5, 20, 21, 22]


@pytest.mark.parametrize(
    "saver", ["", "x", "//", "host/0/0", "host/-1/0", f"host/{10**30}/0", f"{savers._host()}/{2**22 + 1}/5", "a/b/c"]
)
def test_a_process_that_is_not_running_here_is_not_alive(saver: str):
    assert not savers.is_another_alive(saver)


def test_another_process_is_alive_until_it_ends_and_this_one_is_no_other():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        saver = f"{savers._host()}/{process.pid}/{savers._start_of(process.pid)}"
        assert savers.is_another_alive(saver)
        assert not savers.is_another_alive(f"{savers._host()}/{process.pid}/1")  # an earlier one with its number
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # ended, but its parent has not asked yet
        assert not savers.is_another_alive(saver)
    assert not savers.is_another_alive(savers.this_process())


def test_a_log_removed_while_a_writer_waits_for_it_is_created_again_and_locked(tmp_path: Path):
    log, first, second = Log(str(tmp_path)), ExitStack(), ExitStack()
    with second, first:
        first.enter_context(log.locked())
        code = (
            f"from statezoo.checkpoints.runs.history.log import Log\nwith Log({str(tmp_path)!r}).locked(): print('in')"
        )
        waiting = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        time.sleep(0.7)
        assert waiting.poll() is None
        os.unlink(log.path)
        second.enter_context(log.locked())
        first.close()
        time.sleep(0.3)
        assert waiting.poll() is None
    output, _ = waiting.communicate(timeout=30)
    assert output == b"in\n"
