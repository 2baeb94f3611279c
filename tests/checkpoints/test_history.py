"""The checkpoints of a run: which stay, which is the latest and the best, and what a crash leaves."""

import json
import math
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
from hypothesis import given, settings
from hypothesis import strategies as st

from statezoo.checkpoints import (
    ArgumentError,
    CorruptError,
    DamagedWarning,
    History,
    MismatchError,
    MissingFileError,
    ReadError,
    StateError,
    VersionError,
    WriteError,
    history_files,
    load_file,
    load_model,
    open_checkpoint,
    read_metadata,
)
from statezoo.checkpoints import history as history_module
from statezoo.checkpoints.history_log import Log
from statezoo.checkpoints.retention import Retention, Saved
from statezoo.core import Linear

LOWEST: dict[str, Any] = {"metric": "loss", "mode": "min", "durable": False}


def state(value: float = 0.0) -> dict[str, Any]:
    return {"weight": np.full(1000, value)}


def steps(folder: Path) -> list[int]:
    return [saved.step for saved in History(folder)]


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:40])


def empty(path: Path) -> None:
    path.write_bytes(b"")


# What stays.


def test_names_have_the_step_in_eight_digits_or_more_and_steps_sort_as_numbers(tmp_path: Path):
    history = History(tmp_path, keep_last=9, durable=False)
    for step in (123_456_789_012, 0, 1200, 99_999_999):
        assert history.save(step, state()) == str(tmp_path / f"step-{step:08}.safetensors")
    assert names(tmp_path)[1:3] == ["step-00000000.safetensors", "step-00001200.safetensors"]
    assert [saved.step for saved in history] == [0, 1200, 99_999_999, 123_456_789_012]
    latest = history.latest()
    assert latest is not None
    assert latest.step == 123_456_789_012


def test_files_that_are_no_checkpoints_of_the_history_are_left_alone(tmp_path: Path):
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
def test_the_last_the_best_and_each_nth_stay(tmp_path: Path, kind: dict[str, Any], background: bool):
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
def test_what_stays_is_what_the_rule_says_of_each_step(
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


def test_the_newest_stays_though_it_is_the_worst_and_only_one_may(tmp_path: Path):
    history = History(tmp_path, keep_last=1, keep_best=1, **LOWEST)
    for step, loss in enumerate([0.5, 0.7, 0.9]):
        history.save(step, state(), {"loss": loss})
    assert [saved.step for saved in history] == [0, 2]


def test_a_step_before_those_there_are_stays_when_it_is_saved(tmp_path: Path):
    history = History(tmp_path, keep_last=2, durable=False)
    for step in (10, 20, 30):
        history.save(step, state())
    history.save(5, state())
    assert [saved.step for saved in history] == [5, 20, 30]
    history.save(6, state())
    assert [saved.step for saved in history] == [6, 20, 30]


def test_a_step_saved_again_takes_the_place_of_what_it_was_in_either_format(tmp_path: Path):
    history = History(tmp_path, **LOWEST)
    history.save(1, state(1), {"loss": 3.0})
    history.save(1, state(2), {"loss": 2.0})
    assert history.best() == Saved(1, str(tmp_path / "step-00000001.safetensors"), {"loss": 2.0})
    other = History(tmp_path, format="hdf5", **LOWEST)
    other.save(1, state(3), {"loss": 1.0})
    assert other.best() == Saved(1, str(tmp_path / "step-00000001.h5"), {"loss": 1.0})
    assert names(tmp_path) == ["history.jsonl", "step-00000001.h5"]


def test_metrics_are_those_of_the_file_that_is_there_though_the_system_takes_inode_and_time_of_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(history_files.Entry, "__hash__", lambda entry: hash(entry.path))
    monkeypatch.setattr(history_files.Entry, "__eq__", lambda one, other: one.path == other.path)
    history = History(tmp_path, **LOWEST)
    for loss in (2.0, 1.0):
        history.save(1, state(), {"loss": loss})
        assert [saved.metrics for saved in history] == [{"loss": loss}]


def test_a_history_stays_in_its_folder_though_the_program_changes_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    history = History("runs", durable=False)
    (tmp_path / "runs" / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "runs" / "elsewhere")
    assert history.save(1, state()) == str(tmp_path / "runs" / "step-00000001.safetensors")
    assert steps(tmp_path / "runs") == [1]


@pytest.mark.parametrize(("mode", "best"), [("min", 2), ("max", 1)])
def test_of_equal_ones_the_earliest_is_the_best_and_nan_never_is(tmp_path: Path, mode: Any, best: int):
    history = History(tmp_path, keep_last=9, metric="m", mode=mode, durable=False)
    assert history.best() is None
    for step, value in enumerate([math.nan, 3.0, -math.inf, 3.0, -math.inf, math.nan]):
        history.save(step, state(), {"m": value})
    history.save(6, state())
    found = history.best()
    assert found is not None
    assert found.step == best


def test_the_same_state_and_metrics_give_the_same_bytes_and_metadata_are_kept(tmp_path: Path):
    paths = [
        Path(History(tmp_path / name, durable=False).save(3, state(), {"b": 1, "a": np.float32(0.5)}, {"run": "x"}))
        for name in "ab"
    ]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert read_metadata(paths[0]) == {"run": "x", "history": '{"metrics":{"a":0.5,"b":1.0},"step":3}'}


# What is refused.


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"keep_last": 0}, "keep_last is a whole number of at least 1, not 0"),
        ({"keep_best": -1}, "keep_best is a whole number of at least 0, not -1"),
        ({"keep_every": 2.5}, "keep_every is a whole number of at least 1, not 2.5"),
        ({"metric": "loss"}, 'mode is "min" if the lowest loss is the best, or "max", not None. Give one of them'),
        ({"mode": "max"}, "mode='max' says what is best of a metric: give metric too"),
        ({"format": "zip"}, "'zip' names no format; the known ones are safetensors, hdf5"),
        ({"format": "hdf5", "share": True}, "hdf5 has no shards that checkpoints could share. Leave out share"),
    ],
)
def test_arguments_that_make_no_sense_are_refused_and_no_folder_is_made(
    tmp_path: Path, arguments: dict[str, Any], text: str
):
    with pytest.raises(ValueError, match=text):
        History(tmp_path / "new", **arguments)
    assert names(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match=r"file could not be made: file exists\. Give another path"):
        History(tmp_path / "file")


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ((-1, {}), ArgumentError, "a step is a whole number, 0 or more, not -1"),
        ((1.0, {}), ArgumentError, "a step is a whole number, 0 or more, not 1.0"),
        ((1, [1]), ArgumentError, r"saves a dict of arrays by name, or what has a state_dict\(\), not list"),
        ((1, {}, {"loss": "low"}), ArgumentError, r"metrics are numbers by name, and 'loss' is 'low'. Give float"),
        ((1, {}, {"lost": 1}), ArgumentError, "the metrics lack 'loss', by which .* what is best; given: 'lost'"),
        ((1, {}, {}, {"history": ""}), StateError, "the metadata key 'history' is where a history keeps the metrics"),
    ],
)
def test_a_save_that_makes_no_sense_is_refused_and_nothing_is_written(
    tmp_path: Path, arguments: tuple[Any, ...], error: type[Exception], text: str
):
    with pytest.raises(error, match=text):
        History(tmp_path, **LOWEST).save(*arguments)
    assert names(tmp_path) == []


def test_a_checkpoint_that_another_program_removes_at_once_is_an_error_and_none_before_it_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    history = History(tmp_path, keep_last=1, durable=False)
    history.save(1, state())
    monkeypatch.setattr(history_module, "save_file", lambda *_, **__: None)
    with pytest.raises(MissingFileError, match="removed by another program as soon as it was saved"):
        history.save(2, state())
    assert steps(tmp_path) == [1]


def test_the_best_of_no_metric_is_asked_for_in_vain(tmp_path: Path):
    with pytest.raises(ArgumentError, match=r"best\(\) needs to know of what: give History a metric and a mode"):
        History(tmp_path).best()


def test_a_folder_that_is_gone_is_an_error_that_names_it(tmp_path: Path):
    history = History(tmp_path / "runs", durable=False)
    (tmp_path / "runs").rmdir()
    with pytest.raises(ReadError, match=r"the folder of the history, .*runs, cannot be read: no such file"):
        list(history)
    with pytest.raises(
        WriteError, match=r"runs/history.jsonl could not be opened, and nothing was saved: no such file"
    ):
        history.save(1, state())


# What is damaged.


@pytest.fixture(params=[".safetensors", ".h5"])
def three(request: pytest.FixtureRequest, tmp_path: Path) -> History:
    """A history of three steps with losses 3, 1 and 2."""
    formats: dict[str, Any] = {".safetensors": "safetensors", ".h5": "hdf5"}
    history = History(tmp_path, format=formats[request.param], **LOWEST)
    for step, loss in ((1, 3.0), (2, 1.0), (3, 2.0)):
        history.save(step, state(step), {"loss": loss})
    return history


@pytest.mark.parametrize("damage", [flip_a_byte, cut, empty])
def test_a_damaged_one_is_passed_over_with_a_warning_that_names_it_and_the_one_before_is_used(
    three: History, damage: Any
):
    latest = list(three)[-1]
    damage(Path(latest.path))
    with pytest.warns(DamagedWarning, match=Path(latest.path).name) as caught:
        found = three.latest()
    assert found is not None
    assert (found.step, found.metrics) == (2, {"loss": 1.0})
    assert [warning.filename for warning in caught] == [__file__]
    with pytest.warns(DamagedWarning, match=f"passed over a damaged checkpoint. {latest.path}"):
        loaded = three.load()
    assert loaded is not None
    assert loaded[0] == found
    np.testing.assert_array_equal(loaded[1]["weight"], state(2)["weight"])


@pytest.mark.parametrize("damage", [flip_a_byte, cut, empty])
def test_the_best_is_passed_over_if_it_is_damaged(three: History, damage: Any):
    damage(Path(list(three)[1].path))
    with pytest.warns(DamagedWarning, match="step-00000002"):
        best = three.best()
    assert best is not None
    assert best.step == 3


def test_if_all_are_damaged_it_is_an_error_that_says_why_of_each(three: History):
    for saved in three:
        flip_a_byte(Path(saved.path))
    with (
        pytest.warns(DamagedWarning),
        pytest.raises(CorruptError, match=r"none of the 3 checkpoints in .* is intact\.(?s:.*)step-00000001.*damaged"),
    ):
        three.latest()


def test_a_save_goes_on_beside_damaged_ones_whose_metrics_the_log_still_tells(three: History, tmp_path: Path):
    cut(Path(list(three)[1].path))
    anew = History(tmp_path, keep_last=5, **LOWEST)
    assert [saved.metrics for saved in anew] == [{"loss": 3.0}, {}, {"loss": 2.0}]
    anew.save(4, state(4), {"loss": 5.0})
    assert [(record.step, record.metrics["loss"]) for record in anew.log()] == [(1, 3.0), (2, 1.0), (3, 2.0), (4, 5.0)]


def test_nothing_saved_is_none_and_no_error(tmp_path: Path):
    history = History(tmp_path, **LOWEST)
    assert (history.latest(), history.load(), history.best(), list(history), history.log()) == (
        None,
        None,
        None,
        [],
        [],
    )


def test_a_model_is_loaded_from_the_last_intact_one_and_one_that_does_not_fit_is_an_error(tmp_path: Path):
    history, model = History(tmp_path, durable=False), Linear(3, 2)
    history.save(1, model)
    weight = model.weight.data.copy()
    history.save(2, Linear(3, 2))
    flip_a_byte(tmp_path / "step-00000002.safetensors")
    model.weight.data[...] = 0
    with pytest.warns(DamagedWarning, match="step-00000002"):
        history.load(lambda path: load_model(model, path))
    np.testing.assert_array_equal(model.weight.data, weight)
    with pytest.warns(DamagedWarning), pytest.raises(MismatchError, match="does not fit Linear"):
        history.load(lambda path: load_model(Linear(3, 5), path))


def test_one_of_a_newer_version_is_an_error_as_it_would_be_lost_otherwise(tmp_path: Path):
    history = History(tmp_path, durable=False)
    history.save(1, state())

    def newer(_: str) -> None:
        raise VersionError("newer")

    with pytest.raises(VersionError, match="newer"):
        history.load(newer)


def test_one_that_another_process_removes_before_it_is_read_is_passed_over_in_silence(tmp_path: Path):
    history = History(tmp_path, durable=False)
    history.save(1, state(1))
    history.save(2, state(2))

    def read(path: str) -> dict[str, Any]:
        if path.endswith("2.safetensors"):
            os.unlink(path)
            History(tmp_path, durable=False).save(3, state(3))
        return load_file(path)

    found = history.load(read)
    assert found is not None
    assert found[0].step == 3


# The log.


def test_the_log_has_a_line_for_each_save_that_jq_and_pandas_read(tmp_path: Path):
    history = History(tmp_path, keep_last=1, **LOWEST)
    before = time.time()
    history.save(1, state(), {"loss": 2.5, "acc": math.nan})
    history.save(2, state(), {"loss": -math.inf})
    history.save(3, state())
    text = (tmp_path / "history.jsonl").read_text()
    lines = [json.loads(line, parse_constant=pytest.fail) for line in text.splitlines()]
    assert [(line["step"], line["file"], line["metrics"]) for line in lines] == [
        (1, "step-00000001.safetensors", {"loss": 2.5, "acc": "NaN"}),
        (2, "step-00000002.safetensors", {"loss": "-Infinity"}),
        (3, "step-00000003.safetensors", {}),
    ]
    first = history.log()[0]
    assert math.isnan(first.metrics["acc"])
    assert first.saved.endswith("+00:00")
    assert abs(np.datetime64(first.saved.removesuffix("+00:00")).astype(float) - before) < 60


def test_what_is_best_is_known_without_the_log_which_is_written_anew(three: History, tmp_path: Path):
    log = tmp_path / "history.jsonl"
    whole = log.read_text()
    log.unlink()
    anew = History(tmp_path, **LOWEST)
    best = anew.best()
    assert best is not None
    assert best.step == 2
    anew.save(4, state(), {"loss": 9.0})
    assert log.read_text().startswith(whole)
    assert [record.step for record in anew.log()] == [1, 2, 3, 4]


def test_a_line_that_a_crash_tore_is_passed_over_and_does_not_spoil_the_next(three: History, tmp_path: Path):
    log = tmp_path / "history.jsonl"
    log.write_bytes(log.read_bytes()[:-20])
    assert [record.step for record in three.log()] == [1, 2]
    History(tmp_path, **LOWEST).save(4, state(), {"loss": 9.0})
    assert [record.step for record in three.log()] == [1, 2, 3, 4]


def test_a_line_that_is_missing_or_of_an_older_save_of_the_step_is_added(tmp_path: Path, monkeypatch: Any):
    history = History(tmp_path, **LOWEST)
    history.save(1, state(), {"loss": 1.0})
    with monkeypatch.context() as patch:  # a process that is killed between a save and its line
        patch.setattr("statezoo.checkpoints.history_log.OpenLog.append", lambda *_: (_ for _ in ()).throw(SystemExit))
        for step, loss in ((1, 7.0), (2, math.nan)):
            with pytest.raises(SystemExit):
                history.save(step, state(), {"loss": loss})
    History(tmp_path, **LOWEST).save(3, state(), {"loss": 3.0})
    History(tmp_path, **LOWEST).save(4, state(), {"loss": 4.0})
    assert [(r.step, str(r.metrics["loss"])) for r in history.log()] == [
        (1, "1.0"), (1, "7.0"), (2, "nan"), (3, "3.0"), (4, "4.0")
    ]  # fmt: skip


def test_a_log_that_cannot_be_written_is_an_error_nothing_is_removed_and_the_next_save_adds_the_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    history = History(tmp_path, keep_last=1, durable=False)
    history.save(1, state())
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda descriptor, text: write(descriptor, text[:10]))
        with pytest.raises(
            WriteError, match=r"history.jsonl could not be written: the disk is full\. The checkpoint itself"
        ):
            history.save(2, state())
    assert steps(tmp_path) == [1, 2]
    history.save(3, state())
    assert steps(tmp_path) == [3]
    assert [record.step for record in history.log()] == [1, 2, 3]


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_a_log_of_any_bytes_is_read_without_an_error(tmp_path_factory: pytest.TempPathFactory, content: bytes):
    folder = tmp_path_factory.mktemp("log")
    (folder / "history.jsonl").write_bytes(content + b'\n{"step": 1, "file": "a", "saved": "b", "metrics": {"c": 1}}')
    assert Log(str(folder)).records()[-1] == (1, "a", "b", {"c": 1.0})


# Several processes.


def test_what_another_process_saved_meanwhile_is_not_removed(tmp_path: Path):
    one, other = History(tmp_path, keep_last=1, durable=False), History(tmp_path, keep_last=1, durable=False)
    other.save(5, state(5))
    for step in (10, 11):
        one.save(step, state())
    assert steps(tmp_path) == [5, 11]
    other.save(6, state(6))
    assert steps(tmp_path) == [6, 11]
    one.save(6, state(7))  # the same step, by the other
    other.save(4, state(8))
    assert steps(tmp_path) == [4, 6, 11]
    History(tmp_path, keep_last=1, durable=False).save(12, state())  # a run that begins later sees to all
    assert steps(tmp_path) == [12]


def test_a_checkpoint_that_is_open_is_read_to_its_end_though_it_is_removed(tmp_path: Path):
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
def test_processes_that_save_to_one_folder_at_once_lose_neither_checkpoints_nor_lines(tmp_path: Path, share: bool):
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
def test_a_process_killed_at_any_moment_leaves_only_whole_checkpoints_and_the_next_clears_the_rest(
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


def test_shards_that_a_killed_process_left_without_an_index_are_cleared_away(tmp_path: Path):
    history = History(tmp_path, share=True, durable=False)
    history.save(1, state())
    (tmp_path / "step-00000001" / "model.safetensors.index.json").unlink()
    assert list(history) == []
    history.save(2, state())
    assert names(tmp_path) == ["history.jsonl", "step-00000002"]


def test_a_log_removed_while_a_writer_waits_for_it_is_made_anew_and_locked(tmp_path: Path):
    log, first, second = Log(str(tmp_path)), ExitStack(), ExitStack()
    with second, first:
        first.enter_context(log.locked())
        code = f"from statezoo.checkpoints.history_log import Log\nwith Log({str(tmp_path)!r}).locked(): print('in')"
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


def test_importing_checkpoints_imports_neither_history_nor_threads_of_it():
    code = "import sys, statezoo.checkpoints; print([n for n in sys.modules if 'history' in n or 'background' in n])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    assert history_module.History is History
