"""The checkpoints that a history keeps, and the one that is the best."""

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from history_states import LOWEST, names, state, steps
from hypothesis import given, settings
from hypothesis import strategies as st

from statezoo.checkpoints import History, load_file, read_metadata
from statezoo.checkpoints.runs.history import files as history_files
from statezoo.checkpoints.runs.history import history as history_module
from statezoo.checkpoints.runs.history.retention import Retention, Saved


def test_names_have_the_step_in_at_least_eight_digits_and_steps_sort_as_numbers(tmp_path: Path):
    history = History(tmp_path, keep_last=9, durable=False)
    for step in (123_456_789_012, 0, 1200, 99_999_999):
        assert history.save(step, state()) == str(tmp_path / f"step-{step:08}.safetensors")
    assert names(tmp_path)[1:3] == ["step-00000000.safetensors", "step-00001200.safetensors"]
    assert [saved.step for saved in history] == [0, 1200, 99_999_999, 123_456_789_012]
    latest = history.latest()
    assert latest is not None
    assert latest.step == 123_456_789_012


def test_files_that_are_not_checkpoints_are_left_alone(tmp_path: Path):
    others = ["step-1.safetensors", "step-00000001.bin", "step-000000003.safetensors", "notes.txt"]
    for name in others:
        (tmp_path / name).write_text("mine")
    (tmp_path / "step-00000008.safetensors").mkdir()
    (tmp_path / "step-00000007").mkdir()
    (tmp_path / "step-00000007" / "mine.txt").write_text("mine")
    history = History(tmp_path, keep_last=1, durable=False)
    for step in (2, 3):
        history.save(step, state())
    assert [saved.step for saved in history] == [3]
    others += ["step-00000007", "step-00000008.safetensors"]
    assert set(names(tmp_path)) == {*others, "history.jsonl", "step-00000003.safetensors"}
    assert names(tmp_path / "step-00000007") == ["mine.txt"]


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize(
    "kind", [{"format": "safetensors"}, {"format": "hdf5"}, {"share": True}], ids=["safetensors", "hdf5", "share"]
)
def test_the_last_the_best_and_every_nth_are_kept(tmp_path: Path, kind: dict[str, Any], background: bool):
    losses = [5.0, 4.0, 1.0, math.nan, 3.0, 2.0, 9.0, 9.0, 9.0, 9.0, 9.0, 9.0]
    with History(tmp_path, 2, 2, 7, background=background, **LOWEST, **kind) as history:
        for step, loss in enumerate(losses):
            history.save(step, state(step), {"loss": loss, "other": 1})
    assert [saved.step for saved in history] == [0, 2, 5, 7, 10, 11]
    best, latest = history.best(), history.latest()
    assert best is not None
    assert latest is not None
    assert (best.step, best.metrics) == (2, {"loss": 1.0, "other": 1.0})
    assert latest.step == 11
    np.testing.assert_array_equal(load_file(best.path)["weight"], state(2)["weight"])
    assert len(names(tmp_path)) == 7


METRICS = st.dictionaries(st.integers(0, 30), st.none() | st.floats(width=16), max_size=12)


@settings(deadline=None)
@given(METRICS, st.integers(1, 4), st.integers(0, 3), st.none() | st.integers(1, 5), st.sampled_from(["min", "max"]))
def test_the_rule_keeps_the_steps_it_describes(
    values: dict[int, float | None], keep_last: int, keep_best: int, keep_every: int | None, mode: Any
):
    saves = [Saved(step, "", {} if value is None else {"m": value}) for step, value in values.items()]
    kept = Retention(keep_last, keep_best, keep_every, "m", mode).kept(saves)
    sign = 1 if mode == "min" else -1
    for step, value in values.items():
        newer = [other for other in values if other > step]
        is_last = len(newer) < keep_last
        is_best = value is not None and not math.isnan(value)
        if value is not None and is_best:
            rivals = [(sign * other_value, other) for other, other_value in values.items() if other_value is not None]
            is_best = sum(rival < (sign * value, step) for rival in rivals) < keep_best
        assert (step in kept) == (is_last or is_best or (keep_every is not None and step % keep_every == 0))


def test_the_newest_is_kept_even_if_it_is_the_worst(tmp_path: Path):
    history = History(tmp_path, keep_last=1, keep_best=1, **LOWEST)
    for step, loss in enumerate([0.5, 0.7, 0.9]):
        history.save(step, state(), {"loss": loss})
    assert [saved.step for saved in history] == [0, 2]


def test_an_earlier_step_is_kept_when_it_is_saved(tmp_path: Path):
    history = History(tmp_path, keep_last=2, durable=False)
    for step in (10, 20, 30):
        history.save(step, state())
    history.save(5, state())
    assert [saved.step for saved in history] == [5, 20, 30]
    history.save(6, state())
    assert [saved.step for saved in history] == [6, 20, 30]


def test_saving_a_step_again_replaces_it_in_either_format(tmp_path: Path):
    history = History(tmp_path, **LOWEST)
    history.save(1, state(1), {"loss": 3.0})
    history.save(1, state(2), {"loss": 2.0})
    assert history.best() == Saved(1, str(tmp_path / "step-00000001.safetensors"), {"loss": 2.0})
    other = History(tmp_path, format="hdf5", **LOWEST)
    other.save(1, state(3), {"loss": 1.0})
    assert other.best() == Saved(1, str(tmp_path / "step-00000001.h5"), {"loss": 1.0})
    assert names(tmp_path) == ["history.jsonl", "step-00000001.h5"]


def test_metrics_come_from_the_file_on_disk_even_if_it_has_the_inode_and_time_of_the_previous_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(history_files.Entry, "__hash__", lambda entry: hash(entry.path))
    monkeypatch.setattr(history_files.Entry, "__eq__", lambda one, other: one.path == other.path)
    history = History(tmp_path, **LOWEST)
    for loss in (2.0, 1.0):
        history.save(1, state(), {"loss": loss})
        assert [saved.metrics for saved in history] == [{"loss": loss}]


def test_a_history_keeps_its_folder_when_the_working_directory_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    history = History("runs", durable=False)
    (tmp_path / "runs" / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "runs" / "elsewhere")
    assert history.save(1, state()) == str(tmp_path / "runs" / "step-00000001.safetensors")
    assert steps(tmp_path / "runs") == [1]


@pytest.mark.parametrize(("mode", "best"), [("min", 2), ("max", 1)])
def test_the_earliest_of_equal_checkpoints_is_the_best_and_nan_never_is(tmp_path: Path, mode: Any, best: int):
    history = History(tmp_path, keep_last=9, metric="m", mode=mode, durable=False)
    assert history.best() is None
    for step, value in enumerate([math.nan, 3.0, -math.inf, 3.0, -math.inf, math.nan]):
        history.save(step, state(), {"m": value})
    history.save(6, state())
    found = history.best()
    assert found is not None
    assert found.step == best


def test_the_same_state_and_metrics_give_the_same_bytes_and_keep_the_metadata(tmp_path: Path):
    paths = [
        Path(History(tmp_path / name, durable=False).save(3, state(), {"b": 1, "a": np.float32(0.5)}, {"run": "x"}))
        for name in "ab"
    ]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert read_metadata(paths[0]) == {"run": "x", "history": '{"metrics":{"a":0.5,"b":1.0},"step":3}'}


@pytest.mark.parametrize("value", [np.float32(0.1), np.float64(0.1), np.int64(3), np.bool_(True), True, 7, math.inf])
def test_metrics_of_any_number_type_come_back_as_the_float_of_equal_value(tmp_path: Path, value: Any):
    history = History(tmp_path, durable=False)
    history.save(1, state(), {"m": value})
    for metric in (next(iter(History(tmp_path))).metrics["m"], history.log()[0].metrics["m"]):
        assert type(metric) is float
        assert metric == value


def test_importing_checkpoints_does_not_import_history():
    code = "import sys, statezoo.checkpoints; print([n for n in sys.modules if 'history' in n or 'background' in n])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    assert history_module.History is History
