"""A signal handler that saves during a save: both saves end, and neither harms the other."""

import collections
import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from history_states import names, steps

from statezoo.checkpoints import History, load_file

pytestmark = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers here")

PROGRAM = """
import random, signal, sys
import numpy as np
from statezoo.checkpoints import History

folder, way = sys.argv[1:]
rng, by_handler = random.Random(5), []
history = History(folder, keep_last=4, share=way == "share", background=way == "background", durable=False)

def state(step):
    return {"frozen": np.ones(20_000), "weight": np.full(20_000, float(step)), "step": np.array(step)}

def handler(*_):
    by_handler.append(1000 + len(by_handler))
    history.save(by_handler[-1], state(by_handler[-1]), {"loss": by_handler[-1]})

signal.signal(signal.SIGALRM, handler)
for step in range(150):
    signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-5, 0.005))
    history.save(step, state(step), {"loss": step})
    signal.setitimer(signal.ITIMER_REAL, 0)
history.save(150, state(150), {"loss": 150})  # removes what a save left that was interrupted after it had decided
history.close()
print(len(by_handler))
"""


@pytest.mark.parametrize("way", ["plain", "share", "background"])
def test_handlers_that_save_at_random_moments_of_a_save_do_not_wait_for_it(tmp_path: Path, way: str):
    command = [sys.executable, "-c", PROGRAM, str(tmp_path), way]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    by_handler = range(1000, 1000 + int(done.stdout))
    assert len(by_handler) > 5
    lines = collections.Counter(record.step for record in History(tmp_path).log())
    assert lines == collections.Counter([*range(151), *by_handler])
    suffix = "" if way == "share" else ".safetensors"
    assert names(tmp_path) == ["history.jsonl", *(f"step-{step:08}{suffix}" for step in steps(tmp_path))]
    assert len(steps(tmp_path)) <= 4 + 1  # a save keeps its own checkpoint, whatever its step
    for saved in History(tmp_path):
        loaded = load_file(saved.path)
        assert set(np.unique(loaded["weight"])) == {float(saved.step)} == {float(loaded["step"])}


@pytest.mark.parametrize("way", ["plain", "share", "background"])
def test_handlers_that_save_the_same_step_leave_one_complete_checkpoint(tmp_path: Path, way: str):
    program = PROGRAM.replace("history.save(by_handler[-1], state(by_handler[-1])", "history.save(step, state(step)")
    command = [sys.executable, "-c", program, str(tmp_path), way]
    subprocess.run(command, check=True, timeout=100)
    assert steps(tmp_path) == [147, 148, 149, 150]
    for saved in History(tmp_path):
        assert set(np.unique(load_file(saved.path)["weight"])) == {float(saved.step)}
        folder = Path(saved.path).parent
        assert way != "share" or len(names(folder)) == len(set(index_of(folder).values())) + 1


def index_of(folder: Path) -> dict[str, str]:
    return json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]


INTERRUPTED = """
import sys
import numpy as np
from statezoo.checkpoints import History
from statezoo.checkpoints.runs.history.log import OpenLog

history = History(sys.argv[1], share=sys.argv[2] == "True", durable=False)
append = OpenLog.append

def stop(*_):
    OpenLog.append = append
    history.save(2, {"a": np.zeros(9)}, {"loss": 2})
    sys.exit()

history.save(0, {"a": np.ones(9)}, {"loss": 0})
OpenLog.append = stop  # the checkpoint is written, but its line is not
try:
    history.save(1, {"a": np.ones(9)}, {"loss": 1})
except SystemExit:
    history.save(3, {"a": np.zeros(9)}, {"loss": 3})
"""


@pytest.mark.parametrize("share", [False, True])
def test_if_an_exception_in_a_handler_ends_a_save_the_next_save_adds_its_line(tmp_path: Path, share: bool):
    subprocess.run([sys.executable, "-c", INTERRUPTED, str(tmp_path), str(share)], check=True, timeout=60)
    log = History(tmp_path).log()
    assert sorted((record.step, record.metrics["loss"]) for record in log) == [(step, step) for step in range(4)]
    assert not [name for name in names(tmp_path) if name.endswith(".tmp")]
