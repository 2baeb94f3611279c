"""Arguments and states that a history refuses before it changes anything."""

from pathlib import Path
from typing import Any

import pytest
from history_states import LOWEST, names, state, steps

from statezoo.checkpoints import (
    ArgumentError,
    History,
    MissingFileError,
    ReadError,
    StateError,
    UnsupportedTypeError,
    WriteError,
)
from statezoo.checkpoints.runs.history import history as history_module


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"keep_last": 0}, "keep_last must be a whole number of at least 1, not 0"),
        ({"keep_best": -1}, "keep_best must be a whole number of at least 0, not -1"),
        ({"keep_every": 2.5}, "keep_every must be a whole number of at least 1, not 2.5"),
        ({"metric": "loss"}, 'mode must be "min" if the lowest loss is the best, or "max" if the highest is, not None'),
        ({"mode": "max"}, "mode='max' needs a metric. Pass the name of a metric too"),
        ({"format": "zip"}, "'zip' is not a format. The known formats are safetensors"),
        ({"format": "hdf5", "share": True}, "checkpoints can share shards only in safetensors. Leave out share"),
    ],
)
def test_invalid_arguments_are_refused_and_no_folder_is_created(tmp_path: Path, arguments: dict[str, Any], text: str):
    with pytest.raises(ValueError, match=text):
        History(tmp_path / "new", **arguments)
    assert names(tmp_path) == []


def test_a_folder_that_cannot_be_created_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match=r"file could not be made: file exists\. Choose another path"):
        History(tmp_path / "file")


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ((-1, {}), ArgumentError, "a step must be a whole number, 0 or more, not -1"),
        ((1.0, {}), ArgumentError, "a step must be a whole number, 0 or more, not 1.0"),
        ((10**100, {}), ArgumentError, "a step must have at most 100 digits, and this one has more"),
        ((10**5000, {}), ArgumentError, "a step must have at most 100 digits, and this one has more"),
        ((1, 1), UnsupportedTypeError, "a model is .*, not int. For any other, call register_adapter"),
        (
            (1, {}, {"loss": "low"}),
            ArgumentError,
            r"metrics must be numbers by name, but 'loss' is 'low'. Convert it with float",
        ),
        (
            (1, {}, {"loss": 10**400}),
            ArgumentError,
            r"metrics must be numbers by name, but 'loss' is 10000.* Convert it with float",
        ),
        ((1, {}, [0.5]), ArgumentError, "metrics must be a dict of numbers by name, not list"),
        (
            (1, {}, {"lost": 1}),
            ArgumentError,
            "the history needs the metric 'loss' to find the best, but the metrics are 'lost'",
        ),
        ((1, {}, {}, {"history": ""}), StateError, "the metadata key 'history' is reserved for the metrics"),
    ],
)
def test_an_invalid_save_is_refused_and_nothing_is_written(
    tmp_path: Path, arguments: tuple[Any, ...], error: type[Exception], text: str
):
    with pytest.raises(error, match=text):
        History(tmp_path, **LOWEST).save(*arguments)
    assert names(tmp_path) == []


def test_a_checkpoint_that_another_program_removes_at_once_is_an_error_and_older_ones_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    history = History(tmp_path, keep_last=1, durable=False)
    history.save(1, state())
    monkeypatch.setattr(history_module, "save_file", lambda *_, **__: None)
    with pytest.raises(MissingFileError, match="removed by another program right after the save"):
        history.save(2, state())
    assert steps(tmp_path) == [1]


def test_best_without_a_metric_is_an_error(tmp_path: Path):
    with pytest.raises(ArgumentError, match=r"best\(\) needs a metric: give History a metric, and"):
        History(tmp_path).best()


def test_a_missing_folder_is_an_error_that_names_it(tmp_path: Path):
    history = History(tmp_path / "runs", durable=False)
    (tmp_path / "runs").rmdir()
    with pytest.raises(ReadError, match=r"the folder of the history, .*runs, cannot be read: no such file"):
        list(history)
    with pytest.raises(
        WriteError, match=r"runs/history.jsonl could not be opened, and nothing was saved: no such file"
    ):
        history.save(1, state())
