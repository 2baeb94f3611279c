"""Damaged checkpoints of a history are skipped, and the ones before them are used."""

import errno
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from history_states import LOWEST, cut, empty, flip_a_byte, state

from statezoo.checkpoints import (
    CorruptError,
    DamagedWarning,
    History,
    MismatchError,
    ReadError,
    VersionError,
    load_file,
    load_model,
)
from statezoo.core import Linear


@pytest.mark.parametrize("damage", [flip_a_byte, cut, empty])
def test_a_damaged_checkpoint_is_skipped_with_a_warning_and_the_previous_one_is_used(three: History, damage: Any):
    latest = list(three)[-1]
    damage(Path(latest.path))
    with pytest.warns(DamagedWarning, match=Path(latest.path).name) as caught:
        found = three.latest()
    assert found is not None
    assert (found.step, found.metrics) == (2, {"loss": 1.0})
    assert [warning.filename for warning in caught] == [__file__]
    with pytest.warns(DamagedWarning, match=f"skipped a damaged checkpoint. {latest.path}"):
        loaded = three.load()
    assert loaded is not None
    assert loaded[0] == found
    np.testing.assert_array_equal(loaded[1]["weight"], state(2)["weight"])


@pytest.mark.parametrize("bit", range(8))
def test_a_flipped_bit_in_the_version_number_is_damage_not_a_newer_version(three: History, bit: int):
    path = Path(list(three)[-1].path)
    content = bytearray(path.read_bytes())
    content[content.rindex(b"version=") + len(b"version=")] ^= 1 << bit
    path.write_bytes(content)
    with pytest.warns(DamagedWarning, match=path.name):
        found = three.latest()
    assert found is not None
    assert found.step == 2


@pytest.mark.parametrize("damage", [flip_a_byte, cut, empty])
def test_best_skips_a_damaged_checkpoint(three: History, damage: Any):
    damage(Path(list(three)[1].path))
    with pytest.warns(DamagedWarning, match="step-00000002"):
        best = three.best()
    assert best is not None
    assert best.step == 3


def test_if_all_are_damaged_one_error_lists_the_reason_for_each(three: History):
    for saved in three:
        flip_a_byte(Path(saved.path))
    with (
        pytest.warns(DamagedWarning),
        pytest.raises(CorruptError, match=r"none of the 3 checkpoints in .* is intact\.(?s:.*)step-00000001.*damaged"),
    ):
        three.latest()


def test_a_save_next_to_damaged_checkpoints_succeeds_and_keeps_their_metrics_in_the_log(three: History, tmp_path: Path):
    cut(Path(list(three)[1].path))
    again = History(tmp_path, keep_last=5, **LOWEST)
    assert [saved.metrics for saved in again] == [{"loss": 3.0}, {}, {"loss": 2.0}]
    again.save(4, state(4), {"loss": 5.0})
    assert [(record.step, record.metrics["loss"]) for record in again.log()] == [(1, 3.0), (2, 1.0), (3, 2.0), (4, 5.0)]


def test_an_empty_history_returns_none(tmp_path: Path):
    history = History(tmp_path, **LOWEST)
    assert (history.latest(), history.load(), history.best(), list(history), history.log()) == (
        None,
        None,
        None,
        [],
        [],
    )


def test_a_model_is_loaded_from_the_newest_intact_checkpoint_and_a_mismatch_is_an_error(tmp_path: Path):
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


def test_a_checkpoint_of_a_newer_version_is_an_error_not_skipped(tmp_path: Path):
    history = History(tmp_path, durable=False)
    history.save(1, state())

    def newer(_: str) -> None:
        raise VersionError("newer")

    with pytest.raises(VersionError, match="newer"):
        history.load(newer)


def test_a_checkpoint_that_another_process_removes_before_it_is_read_is_skipped_silently(tmp_path: Path):
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


def test_a_look_at_the_folder_while_another_process_saves_and_removes_finds_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    history = History(tmp_path, keep_last=1, durable=False)
    history.save(1, state(1))
    listed, later = os.listdir, [2, 3]

    def list_and_save(folder: Any) -> list[str]:
        names = listed(folder)
        if later:
            with monkeypatch.context() as patch:
                patch.setattr(os, "listdir", listed)
                history.save(later.pop(0), state())
        return names

    monkeypatch.setattr(os, "listdir", list_and_save)
    assert [saved.step for saved in History(tmp_path)] == [3]
    later[:] = [4]
    found = History(tmp_path).latest()
    assert found is not None
    assert found.step == 4


@pytest.mark.parametrize("share", [False, True])
def test_a_step_saved_again_while_it_is_read_gives_one_version(tmp_path: Path, share: bool):
    history = History(tmp_path, share=share, **LOWEST)
    history.save(1, state(1), {"loss": 1.0})
    later = [2, 3]

    def read(path: str) -> float:
        if later:
            value = later.pop(0)
            History(tmp_path, share=share, **LOWEST).save(1, state(value), {"loss": float(value)})
        return load_file(path)["weight"][0]

    found = history.load(read)
    assert found is not None
    assert (found[0].metrics["loss"], found[1]) == (3.0, 3.0)


def test_a_checkpoint_that_is_replaced_each_time_is_an_error_after_many_attempts(tmp_path: Path):
    history = History(tmp_path, durable=False)
    history.save(1, state(1))
    with pytest.raises(ReadError, match=r"were replaced each time while they were read\. Try again\."):
        history.load(lambda _: history.save(1, state(1)))


def refuse(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the system refuse to open a file, as it does to other users, though the tests may run as root."""
    opened, looked = os.open, os.stat

    def refusing(function: Any) -> Any:
        def call(target: Any, *arguments: Any, **named: Any) -> Any:
            if isinstance(target, str) and target.startswith(str(path)):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), target)
            return function(target, *arguments, **named)

        return call

    monkeypatch.setattr(os, "open", refusing(opened))
    if path.is_dir():
        monkeypatch.setattr(os, "stat", refusing(looked))


@pytest.mark.parametrize("share", [False, True])
def test_a_checkpoint_that_may_not_be_read_is_skipped_with_a_warning(
    tmp_path: Path, share: bool, monkeypatch: pytest.MonkeyPatch
):
    history = History(tmp_path, share=share, **LOWEST)
    for step in (1, 2):
        history.save(step, state(step), {"loss": 1.0 / step})
    refuse(next(tmp_path.glob("step-00000002*")), monkeypatch)
    for find in (history.latest, history.best, lambda: (history.load() or [None])[0], History(tmp_path).latest):
        with pytest.warns(DamagedWarning, match=r"step-00000002.*permission denied|step-00000002.*Permission denied"):
            found = find()
        assert found is not None
        assert found.step == 1
    history.save(3, state(3), {"loss": 1.0})
    assert [record.step for record in history.log()] == [1, 2, 3]


def test_an_error_of_the_callers_own_function_is_not_taken_for_damage(tmp_path: Path):
    history = History(tmp_path, durable=False)
    history.save(1, state(1))

    def read(_: str) -> None:
        raise FileNotFoundError("a file of the caller")

    with pytest.raises(FileNotFoundError, match="a file of the caller"):
        history.load(read)


@pytest.mark.parametrize("share", [False, True])
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_or_a_folder_in_place_of_a_file_is_passed_over_at_once(tmp_path: Path, share: bool):
    history = History(tmp_path, share=share, durable=False)
    for step in (1, 2, 3):
        history.save(step, state(step))
    for step, make in ((3, os.mkfifo), (2, os.mkdir)):
        path = next(tmp_path.glob(f"step-0000000{step}*"))
        file = path / "model-00001-of-00001.safetensors" if share else path
        file.unlink()
        make(file)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DamagedWarning)
        for find in (history.latest, lambda: (history.load() or [None])[0]):
            found = find()
            assert found is not None
            assert found.step == 1
    history.save(4, state(4))
