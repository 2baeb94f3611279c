"""A recipe becomes a run, and the same recipe becomes the same bytes."""

import json
from pathlib import Path

import numpy as np
import pytest

from statezoo import zoo
from statezoo.checkpoints import load_file
from statezoo.core import manual_seed, randn


def test_a_run_holds_the_weights_after_the_last_epoch_and_a_row_for_each(tiny_recipe: zoo.Recipe, tmp_path: Path):
    run = zoo.train(tiny_recipe, tmp_path / "run")
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    kept = load_file(tmp_path / "run" / "checkpoint.safetensors")
    assert [row["epoch"] for row in record["history"]] == [1, 2, 3]
    assert all({"epoch", "loss", "mse"} == row.keys() for row in record["history"])
    assert all(np.array_equal(kept[name], array) for name, array in run.model.state_dict().items())


def test_training_makes_the_loss_smaller(tiny_recipe: zoo.Recipe, tmp_path: Path):
    history = zoo.train(tiny_recipe.with_settings(epochs=30), tmp_path / "run").history
    assert history[-1]["loss"] < 0.8 * history[0]["loss"]


def test_the_same_recipe_gives_the_same_bytes(tiny_recipe: zoo.Recipe, tmp_path: Path):
    manual_seed(1)
    zoo.train(tiny_recipe, tmp_path / "one")
    manual_seed(2)
    zoo.train(tiny_recipe, tmp_path / "two")
    for name in ("run.json", "checkpoint.safetensors"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_another_seed_gives_other_weights(tiny_recipe: zoo.Recipe, tmp_path: Path):
    one = zoo.train(tiny_recipe, tmp_path / "one").model.state_dict()
    two = zoo.train(tiny_recipe.with_settings(seed=1), tmp_path / "two").model.state_dict()
    assert not np.array_equal(one["down.weight"], two["down.weight"])


def test_training_leaves_the_default_generator_as_it_was(tiny_recipe: zoo.Recipe, tmp_path: Path):
    manual_seed(5)
    expected = randn(3).data
    manual_seed(5)
    zoo.train(tiny_recipe, tmp_path / "run")
    assert np.array_equal(randn(3).data, expected)


def test_every_row_is_reported_as_it_is_made(tiny_recipe: zoo.Recipe, tmp_path: Path):
    rows: list[dict[str, float]] = []
    run = zoo.train(tiny_recipe, tmp_path / "run", report=rows.append)
    assert rows == run.history


def test_a_folder_that_holds_a_run_is_not_trained_over(tiny_recipe: zoo.Recipe, tiny_run: Path):
    before = (tiny_run / "checkpoint.safetensors").read_bytes()
    with pytest.raises(zoo.RunError, match="already holds a run; name another folder with --out"):
        zoo.train(tiny_recipe.with_settings(seed=9), tiny_run)
    assert (tiny_run / "checkpoint.safetensors").read_bytes() == before


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_epoch_before(tiny_recipe: zoo.Recipe, tmp_path: Path):
    with pytest.raises(zoo.RunError, match=r"the loss is (nan|inf) after epoch \d+"):
        zoo.train(tiny_recipe.with_settings(lr=1e30, epochs=50), tmp_path / "run")
    kept = load_file(tmp_path / "run" / "checkpoint.safetensors") if (tmp_path / "run" / "run.json").exists() else {}
    assert all(np.isfinite(array).all() for array in kept.values())


def test_an_unfinished_run_is_not_opened_as_a_finished_one(tiny_recipe: zoo.Recipe, tmp_path: Path):
    class Stopped(Exception):
        pass

    def stop(row: dict[str, float]) -> None:
        if row["epoch"] == 2:
            raise Stopped

    with pytest.raises(Stopped):
        zoo.train(tiny_recipe, tmp_path / "run", report=stop)
    with pytest.raises(zoo.RunError, match="was stopped after epoch 2 of 3; train it to its end"):
        zoo.open_run(tmp_path / "run")


def test_a_folder_without_a_run_is_an_error_that_says_how_to_make_one(tmp_path: Path):
    with pytest.raises(
        zoo.RunError, match=r"holds no run \(run.json is missing\); make one with scripts/train.py NAME"
    ):
        zoo.open_run(tmp_path)


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"recipe": "tiny-net.noise", "settings": {"epoch": 1}, "history": []}']
)
def test_a_record_that_is_none_is_an_error_of_the_run(tmp_path: Path, content: str):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(zoo.RunError, match=r"run.json is not the record of a run"):
        zoo.open_run(tmp_path)


def test_an_unknown_recipe_suggests_the_nearest_name():
    with pytest.raises(zoo.UnknownNameError, match=r"no recipe named 'tens-mlp'\. Did you mean 'tense-mlp'\?"):
        zoo.get_recipe("tens-mlp")


@pytest.mark.parametrize("settings", [{"epochs": 0}, {"batch_size": 0}, {"lr": 0.0}, {"lr": float("nan")}])
def test_settings_that_cannot_train_are_refused(tiny_recipe: zoo.Recipe, settings: dict[str, float]):
    with pytest.raises(zoo.ZooError, match="epochs and batch_size must be at least 1 and lr above 0"):
        tiny_recipe.with_settings(**settings)


def test_the_command_of_a_recipe_names_every_setting(tiny_recipe: zoo.Recipe):
    expected = "python scripts/train.py tiny-net.noise --seed 0 --epochs 3 --batch-size 64 --lr 0.01"
    assert tiny_recipe.command == expected
