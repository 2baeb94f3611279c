"""A recipe becomes a run, and the same recipe becomes the same bytes."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from statezoo import zoo
from statezoo.checkpoints import load_file
from statezoo.core import manual_seed, optim, randn
from statezoo.zoo.training import Step


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
    one, two = (tmp_path / name / "checkpoint.safetensors" for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
    records = [json.loads(path.with_name("run.json").read_text()) for path in (one, two)]
    for record in records:
        del record["made"]["wall_time_s"]
    assert records[0] == records[1]


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


def test_every_step_is_counted_with_its_loss(tiny_recipe: zoo.Recipe, tmp_path: Path):
    steps: list[Step] = []
    run = zoo.train(tiny_recipe.with_settings(batch_size=20), tmp_path / "run", on_step=steps.append)
    assert [(step.number, step.total) for step in steps] == [(n, 6) for n in range(1, 7)]  # 32 examples, thrice
    assert run.history[0]["loss"] == pytest.approx((20 * steps[0].loss + 12 * steps[1].loss) / 32)


def test_a_run_records_its_steps_its_time_and_where_it_was_made(tiny_recipe: zoo.Recipe, tmp_path: Path):
    made = zoo.train(tiny_recipe.with_settings(batch_size=20), tmp_path / "run").made
    assert made.steps == 6
    assert made.wall_time_s > 0
    assert made.environment["numpy"] == np.__version__
    assert made.environment["blas_threads"] in ("1", "unknown")
    assert zoo.open_run(tmp_path / "run").made == made


def test_a_run_keeps_its_weights_by_epoch_where_the_recipe_says_so(
    tiny_recipe: zoo.Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    zoo.train(tiny_recipe, tmp_path / "without")
    assert not (tmp_path / "without" / "trajectory").exists()
    monkeypatch.setattr(type(tiny_recipe), "keeps_trajectory", True)
    run = zoo.train(tiny_recipe, tmp_path / "run")
    kept = sorted((tmp_path / "run" / "trajectory").iterdir())
    assert [path.name for path in kept] == [f"epoch-0000{epoch}.safetensors" for epoch in range(4)]
    assert np.array_equal(load_file(kept[-1])["down.weight"], run.model.state_dict()["down.weight"])
    assert not np.array_equal(load_file(kept[0])["down.weight"], load_file(kept[1])["down.weight"])


def test_a_folder_that_holds_a_run_is_not_trained_over(tiny_recipe: zoo.Recipe, tiny_run: Path):
    before = (tiny_run / "checkpoint.safetensors").read_bytes()
    with pytest.raises(zoo.RunError, match="already holds a run; name another folder with --out"):
        zoo.train(tiny_recipe.with_settings(seed=9), tiny_run)
    assert (tiny_run / "checkpoint.safetensors").read_bytes() == before


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_epoch_before(
    tiny_recipe: zoo.Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(type(tiny_recipe), "optimizer", lambda self, model: optim.SGD(model.parameters(), lr=self.lr))
    with pytest.raises(zoo.RunError, match=r"(the loss|mse) is (nan|inf) .* keeps step \d+\. Lower lr"):
        zoo.train(tiny_recipe.with_settings(lr=10.0, epochs=50), tmp_path / "run")
    kept = load_file(tmp_path / "run" / "checkpoint.safetensors")
    assert all(np.isfinite(array).all() for array in kept.values())


def test_a_run_that_diverges_at_once_says_that_nothing_was_kept(tiny_recipe: zoo.Recipe, tmp_path: Path):
    with pytest.raises(
        zoo.RunError, match=r"mse is inf after epoch 1; all parameters .* finite; nothing was kept\. Lower lr"
    ):
        zoo.train(tiny_recipe.with_settings(lr=1e30), tmp_path / "run")


def test_an_unfinished_run_is_not_opened_as_a_finished_one(tiny_recipe: zoo.Recipe, tmp_path: Path):
    class Stopped(Exception):
        pass

    def stop(row: dict[str, float]) -> None:
        if row["epoch"] == 2:
            raise Stopped

    with pytest.raises(Stopped):
        zoo.train(tiny_recipe, tmp_path / "run", report=stop)
    with pytest.raises(zoo.RunError, match="was stopped after epoch 2 of 3; go on with: python .* --resume"):
        zoo.open_run(tmp_path / "run")


def test_a_folder_without_a_run_is_an_error_that_says_how_to_make_one(tmp_path: Path):
    with pytest.raises(
        zoo.RunError, match=r"holds no run \(run.json is missing\); make one with scripts/train.py NAME"
    ):
        zoo.open_run(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        "[" * 100_000,
        '{"recipe": "tiny-net.noise", "settings": {"epoch": 1}, "fingerprint": "", "history": []}',
        '{"recipe": "tiny-net.noise", "settings": {"seed": "a"}, "fingerprint": "", "history": []}',
        '{"recipe": "tiny-net.noise", "settings": {}, "fingerprint": "", "history": 5}',
        '{"recipe": "tiny-net.noise", "settings": {}, "fingerprint": "", "history": [5]}',
        '{"recipe": "tiny-net.noise", "settings": {}, "fingerprint": "", "history": [{"loss": "x"}]}',
    ],
)
def test_a_record_that_is_none_is_an_error_of_the_run(tmp_path: Path, content: str):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(zoo.RunError, match=r"run.json is not the record of a run"):
        zoo.open_run(tmp_path)


def test_an_unknown_recipe_suggests_the_nearest_name():
    with pytest.raises(zoo.UnknownNameError, match=r"no recipe named 'tens-mlp'\. Did you mean 'tense-mlp'\?"):
        zoo.get_recipe("tens-mlp")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "epochs is a whole number of at least 1, not 0"),
        ({"epochs": 1.5}, "epochs is a whole number of at least 1, not 1.5"),
        ({"batch_size": 0}, "batch_size is a whole number of at least 1, not 0"),
        ({"seed": -1}, "seed is a whole number of at least 0, not -1"),
        ({"seed": "a"}, "seed is a whole number of at least 0, not 'a'"),
        ({"lr": 0.0}, "lr is a number above 0, not 0.0"),
        ({"lr": float("nan")}, "lr is a number above 0, not nan"),
        ({"lr": float("inf")}, "lr is a number above 0, not inf"),
        ({"data_folder": "/data"}, "makes its own data and reads none from a folder; leave out --data"),
    ],
)
def test_settings_that_cannot_train_are_refused(tiny_recipe: zoo.Recipe, settings: dict[str, Any], message: str):
    with pytest.raises(zoo.ZooError, match=re.escape(message)):
        tiny_recipe.with_settings(**settings)


def test_a_run_of_digits_on_mnists_files_goes_by_the_name_of_mnist():
    recipe = zoo.get_recipe("mnist-classifier.digits28").with_settings(data_folder="/mnist", seed=3)
    assert (recipe.name, recipe.seed, recipe.data_folder) == ("mnist-classifier.mnist", 3, "/mnist")
    assert "scikit-learn" not in recipe.details()


def test_the_recipe_for_mnist_asks_for_the_folder_of_its_files():
    with pytest.raises(zoo.DataError, match="name their folder with --data"):
        zoo.get_recipe("mnist-classifier.mnist").data()


def test_a_run_whose_weights_are_not_those_it_recorded_is_not_opened(tiny_recipe: zoo.Recipe, tmp_path: Path):
    zoo.train(tiny_recipe, tmp_path / "one")
    zoo.train(tiny_recipe.with_settings(seed=1), tmp_path / "two")
    shutil.copy(tmp_path / "two" / "checkpoint.safetensors", tmp_path / "one" / "checkpoint.safetensors")
    with pytest.raises(zoo.RunError, match=r"does not hold the weights that .* describes"):
        zoo.open_run(tmp_path / "one")


def test_a_second_run_into_a_folder_is_refused_before_the_first_has_finished(tiny_recipe: zoo.Recipe, tmp_path: Path):
    def start_another(row: dict[str, float]) -> None:
        with pytest.raises(zoo.RunError, match="already holds a run"):
            zoo.train(tiny_recipe, tmp_path / "run")

    zoo.train(tiny_recipe, tmp_path / "run", report=start_another)


def test_a_recipe_without_its_data_leaves_no_folder_behind(tmp_path: Path):
    with pytest.raises(zoo.DataError):
        zoo.train(zoo.get_recipe("mnist-classifier.mnist"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


TRAIN_TWO_EPOCHS = """
import sys
from statezoo import zoo
zoo.train(zoo.get_recipe("simple-mlp.digits").with_settings(epochs=2), sys.argv[1])
"""


def test_the_number_of_threads_does_not_change_the_bytes(tmp_path: Path):
    for threads in ("1", "2"):
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": threads, "OMP_NUM_THREADS": threads}
        command = [sys.executable, "-c", TRAIN_TWO_EPOCHS, threads]
        subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    one, two = (tmp_path / threads / "checkpoint.safetensors" for threads in ("1", "2"))
    assert one.read_bytes() == two.read_bytes()


def test_the_command_of_a_recipe_names_every_setting(tiny_recipe: zoo.Recipe):
    expected = "python scripts/train.py tiny-net.noise --seed 0 --epochs 3 --batch-size 64 --lr 0.01"
    assert tiny_recipe.command == expected
