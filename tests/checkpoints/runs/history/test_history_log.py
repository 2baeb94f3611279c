"""The log of a history. A torn, missing or unwritable log never costs a checkpoint."""

import json
import math
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from history_states import LOWEST, state, steps
from hypothesis import given, settings
from hypothesis import strategies as st

from statezoo.checkpoints import History, ReadError, WriteError, save_file
from statezoo.checkpoints.runs.history.log import Log


def test_the_log_has_a_line_of_standard_json_for_each_save(tmp_path: Path):
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


def test_the_best_is_found_without_the_log_and_the_log_is_restored(three: History, tmp_path: Path):
    log = tmp_path / "history.jsonl"
    whole = log.read_text()
    log.unlink()
    again = History(tmp_path, **LOWEST)
    best = again.best()
    assert best is not None
    assert best.step == 2
    again.save(4, state(), {"loss": 9.0})
    assert log.read_text().startswith(whole)
    assert [record.step for record in again.log()] == [1, 2, 3, 4]


def test_a_torn_line_is_skipped_and_does_not_affect_the_next(three: History, tmp_path: Path):
    log = tmp_path / "history.jsonl"
    log.write_bytes(log.read_bytes()[:-20])
    assert [record.step for record in three.log()] == [1, 2]
    History(tmp_path, **LOWEST).save(4, state(), {"loss": 9.0})
    assert [record.step for record in three.log()] == [1, 2, 3, 4]


def test_a_line_that_is_missing_or_out_of_date_is_added(tmp_path: Path, monkeypatch: Any):
    history = History(tmp_path, **LOWEST)
    history.save(1, state(), {"loss": 1.0})
    with monkeypatch.context() as patch:  # a process that is killed between a save and its line
        patch.setattr(
            "statezoo.checkpoints.runs.history.log.OpenLog.append", lambda *_: (_ for _ in ()).throw(SystemExit)
        )
        for step, loss in ((1, 7.0), (2, math.nan)):
            with pytest.raises(SystemExit):
                history.save(step, state(), {"loss": loss})
    History(tmp_path, **LOWEST).save(3, state(), {"loss": 3.0})
    History(tmp_path, **LOWEST).save(4, state(), {"loss": 4.0})
    assert [(r.step, str(r.metrics["loss"])) for r in history.log()] == [
        (1, "1.0"), (1, "7.0"), (2, "nan"), (3, "3.0"), (4, "4.0")
    ]  # fmt: skip


def test_an_unwritable_log_is_an_error_that_removes_nothing_and_the_next_save_adds_the_line(
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


@pytest.mark.parametrize("number", ["1e999", "-1e999", "NaN", f"1{'0' * 400}", f"1{'0' * 5000}", "null", "[1]", "{}"])
def test_invalid_numbers_cost_a_line_or_its_metrics_but_no_checkpoint(tmp_path: Path, number: str):
    metrics = f'{{"loss": {number}}}'
    lines = [f'{{"step": {number}, "file": "a", "saved": "b", "metrics": {{}}}}']
    lines += [f'{{"step": 1, "file": "a", "saved": "b", "metrics": {metrics}}}']
    (tmp_path / "history.jsonl").write_text("\n".join(lines))
    save_file(state(), tmp_path / "step-00000001.safetensors", {"history": f'{{"metrics": {metrics}}}'})
    history = History(tmp_path, **LOWEST)
    history.save(2, state(), {"loss": -1.0})
    assert history.log()[-1].metrics == {"loss": -1.0}
    assert [saved.step for saved in history] == [1, 2]
    assert history.best() is not None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_named_pipe_in_place_of_the_log_is_an_error_at_once(tmp_path: Path):
    os.mkfifo(tmp_path / "history.jsonl")
    history = History(tmp_path, durable=False)
    with pytest.raises(ReadError, match=r"history.jsonl could not be read: it is not a regular file\."):
        history.log()
    with pytest.raises(WriteError, match=r"history.jsonl could not be opened, .*: it is not a regular file\."):
        history.save(1, state())
    assert steps(tmp_path) == []


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_a_log_of_any_bytes_is_read_without_an_error(tmp_path_factory: pytest.TempPathFactory, content: bytes):
    folder = tmp_path_factory.mktemp("log")
    (folder / "history.jsonl").write_bytes(content + b'\n{"step": 1, "file": "a", "saved": "b", "metrics": {"c": 1}}')
    assert Log(str(folder)).records()[-1] == (1, "a", "b", {"c": 1.0})
