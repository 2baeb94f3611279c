"""Damaged checkpoints of a history, which are passed over in favour of the ones before them."""

import os
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
    VersionError,
    load_file,
    load_model,
)
from statezoo.core import Linear


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


@pytest.mark.parametrize("bit", range(8))
def test_a_flipped_bit_in_the_version_number_is_damage_and_no_newer_version(three: History, bit: int):
    path = Path(list(three)[-1].path)
    content = bytearray(path.read_bytes())
    content[content.index(b"1", content.rfind(b"version"))] ^= 1 << bit
    path.write_bytes(content)
    with pytest.warns(DamagedWarning, match=path.name):
        found = three.latest()
    assert found is not None
    assert found.step == 2


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
