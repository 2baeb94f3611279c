"""A recipe becomes a run, and the same recipe gives the same bytes."""

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from statezoo import zoo
from statezoo.checkpoints import CorruptError, MismatchError, load_file, save_file
from statezoo.core import manual_seed, optim, randn
from statezoo.zoo.errors import UnfinishedRunError
from statezoo.zoo.publishing.text import train_command
from statezoo.zoo.training.run.trajectories import keep_weights
from statezoo.zoo.training.train import TrainingStep


def test_a_run_holds_the_weights_after_the_last_epoch_and_a_row_per_epoch(tiny_recipe: zoo.Recipe, tmp_path: Path):
    run = zoo.train(tiny_recipe, tmp_path / "run")
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    kept = load_file(tmp_path / "run" / "checkpoint.safetensors")
    assert [row["epoch"] for row in record["history"]] == [1, 2, 3]
    assert all({"epoch", "loss", "mse"} == row.keys() for row in record["history"])
    assert all(np.array_equal(kept[name], array) for name, array in run.model.state_dict().items())


def test_training_lowers_the_loss(tiny_recipe: zoo.Recipe, tmp_path: Path):
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


def test_another_seed_gives_different_weights(tiny_recipe: zoo.Recipe, tmp_path: Path):
    one = zoo.train(tiny_recipe, tmp_path / "one").model.state_dict()
    two = zoo.train(tiny_recipe.with_settings(seed=1), tmp_path / "two").model.state_dict()
    assert not np.array_equal(one["down.weight"], two["down.weight"])


def test_training_leaves_the_default_generator_unchanged(tiny_recipe: zoo.Recipe, tmp_path: Path):
    manual_seed(5)
    expected = randn(3).data
    manual_seed(5)
    zoo.train(tiny_recipe, tmp_path / "run")
    assert np.array_equal(randn(3).data, expected)


def test_every_row_is_reported(tiny_recipe: zoo.Recipe, tmp_path: Path):
    rows: list[dict[str, float]] = []
    run = zoo.train(tiny_recipe, tmp_path / "run", report=rows.append)
    assert rows == run.history


def test_every_step_is_counted_with_its_loss(tiny_recipe: zoo.Recipe, tmp_path: Path):
    steps: list[TrainingStep] = []
    run = zoo.train(tiny_recipe.with_settings(batch_size=20), tmp_path / "run", on_step=steps.append)
    assert [(step.number, step.total) for step in steps] == [(n, 6) for n in range(1, 7)]  # 32 examples, three epochs
    assert run.history[0]["loss"] == pytest.approx((20 * steps[0].loss + 12 * steps[1].loss) / 32)


def test_a_run_records_its_steps_its_time_and_its_environment(tiny_recipe: zoo.Recipe, tmp_path: Path):
    made = zoo.train(tiny_recipe.with_settings(batch_size=20), tmp_path / "run").made
    assert made.steps == 6
    assert made.wall_time_s > 0
    assert made.environment["numpy"] == np.__version__
    assert made.environment["blas_threads"] in ("1", "unknown")
    assert zoo.open_run(tmp_path / "run").made == made


def test_a_run_keeps_the_weights_of_every_epoch_if_its_recipe_asks_for_them(
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


def test_a_file_in_place_of_the_trajectory_folder_is_an_error(
    tiny_recipe: zoo.Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(type(tiny_recipe), "keeps_trajectory", True)
    (tmp_path / "trajectory").write_text("mine")
    with pytest.raises(zoo.RunError, match=r"trajectory cannot be created: File exists\. Train into another folder\."):
        zoo.train(tiny_recipe, tmp_path)


def test_a_folder_that_holds_a_run_is_not_overwritten(tiny_recipe: zoo.Recipe, tiny_run: Path):
    before = (tiny_run / "checkpoint.safetensors").read_bytes()
    with pytest.raises(zoo.RunError, match=r"already holds a finished run\. Choose another folder, or remove it\."):
        zoo.train(tiny_recipe.with_settings(seed=9), tiny_run)
    assert (tiny_run / "checkpoint.safetensors").read_bytes() == before


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_finite_epoch(
    tiny_recipe: zoo.Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(type(tiny_recipe), "optimizer", lambda self, model: optim.SGD(model.parameters(), lr=self.lr))
    with pytest.raises(zoo.RunError, match=r"(the loss|mse) is (nan|inf) .* holds the state after step \d+\. Lower lr"):
        zoo.train(tiny_recipe.with_settings(lr=10.0, epochs=50), tmp_path / "run")
    kept = load_file(tmp_path / "run" / "checkpoint.safetensors")
    assert all(np.isfinite(array).all() for array in kept.values())


def test_a_run_that_diverges_at_once_says_that_nothing_was_saved(tiny_recipe: zoo.Recipe, tmp_path: Path):
    with pytest.raises(
        zoo.RunError, match=r"mse is inf after epoch 1; all parameters .* finite; nothing was saved\. Lower lr"
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
    with pytest.raises(
        zoo.RunError, match=r"is at epoch 2 of 3\. Resume it: zoo\.train\(.*, resume=True\)\."
    ) as caught:
        zoo.open_run(tmp_path / "run")
    assert isinstance(caught.value, UnfinishedRunError)
    assert (caught.value.recipe, caught.value.folder) == (tiny_recipe.name, tmp_path / "run")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_named_pipe_in_place_of_the_record_is_an_error_at_once(tmp_path: Path):
    os.mkfifo(tmp_path / "run.json")
    with pytest.raises(zoo.RunError, match=r"run\.json is not a regular file\. Remove it"):
        zoo.open_run(tmp_path)


def test_a_folder_without_a_run_is_an_error_that_says_how_to_make_one(tmp_path: Path):
    with pytest.raises(zoo.RunError, match=r"does not hold a run: run\.json is missing\. Train into it first\."):
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
def test_an_invalid_record_is_a_run_error(tmp_path: Path, content: str):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(zoo.RunError, match=r"run.json is not the record of a run"):
        zoo.open_run(tmp_path)


def test_an_unknown_recipe_suggests_the_nearest_name():
    with pytest.raises(zoo.UnknownNameError, match=r"no recipe named 'tens-mlp'\. Did you mean 'tense-mlp'\?"):
        zoo.get_recipe("tens-mlp")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "epochs must be an integer of at least 1, not 0"),
        ({"epochs": 1.5}, "epochs must be an integer of at least 1, not 1.5"),
        ({"batch_size": 0}, "batch_size must be an integer of at least 1, not 0"),
        ({"seed": -1}, "seed must be an integer of at least 0, not -1"),
        ({"seed": "a"}, "seed must be an integer of at least 0, not 'a'"),
        ({"lr": 0.0}, "lr must be a number above 0, not 0.0"),
        ({"lr": float("nan")}, "lr must be a number above 0, not nan"),
        ({"lr": float("inf")}, "lr must be a number above 0, not inf"),
        ({"data_folder": "/data"}, "makes its own data. Leave out data_folder"),
    ],
)
def test_settings_that_cannot_train_are_refused(tiny_recipe: zoo.Recipe, settings: dict[str, Any], message: str):
    with pytest.raises(zoo.ZooError, match=re.escape(message)):
        tiny_recipe.with_settings(**settings)


def test_the_digits_recipe_with_a_data_folder_becomes_the_recipe_for_mnist():
    recipe = zoo.get_recipe("mnist-classifier.digits28").with_settings(data_folder="/mnist", seed=3)
    assert (recipe.name, recipe.seed, recipe.data_folder) == ("mnist-classifier.mnist", 3, "/mnist")
    assert "scikit-learn" not in recipe.details()


def test_the_recipe_for_mnist_asks_for_its_data_folder():
    with pytest.raises(zoo.DataError, match="needs the folder of MNIST's IDX files: pass data_folder"):
        zoo.get_recipe("mnist-classifier.mnist").data()


def test_a_run_whose_weights_do_not_match_its_record_is_not_opened(tiny_recipe: zoo.Recipe, tmp_path: Path):
    zoo.train(tiny_recipe, tmp_path / "one")
    zoo.train(tiny_recipe.with_settings(seed=1), tmp_path / "two")
    shutil.copy(tmp_path / "two" / "checkpoint.safetensors", tmp_path / "one" / "checkpoint.safetensors")
    with pytest.raises(zoo.RunError, match=r"does not hold the weights that .* describes"):
        zoo.open_run(tmp_path / "one")


def test_a_second_run_into_a_folder_is_refused_while_the_first_is_running(tiny_recipe: zoo.Recipe, tmp_path: Path):
    def start_another(step: TrainingStep) -> None:
        with pytest.raises(
            zoo.RunError,
            match=r"already holds a run, at epoch \d of 3\. Resume it: zoo\.train\(.*tiny-net\.noise",
        ):
            zoo.train(tiny_recipe, tmp_path / "run")

    zoo.train(tiny_recipe, tmp_path / "run", on_step=start_another)


def test_a_run_folder_that_cannot_be_created_is_named(tiny_recipe: zoo.Recipe, tmp_path: Path):
    (tmp_path / "file").touch()
    for out, why in (("file", "File exists"), ("file/run", "Not a directory")):
        with pytest.raises(zoo.RunError, match=rf"{out} cannot be created: {why}\. Choose another folder\."):
            zoo.train(tiny_recipe, tmp_path / out)


def test_a_recipe_with_missing_data_creates_no_folder(tmp_path: Path):
    with pytest.raises(zoo.DataError):
        zoo.train(zoo.get_recipe("mnist-classifier.mnist"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def stop_after(steps: int) -> Callable[[], bool]:
    """Return a should_stop that is true after that many steps."""
    asked = itertools.count(1)
    return lambda: next(asked) >= steps


def without_time(folder: Path) -> dict[str, Any]:
    record = json.loads((folder / "run.json").read_text())
    del record["made"]["wall_time_s"]
    return record


@pytest.mark.parametrize(("format", "suffix"), [("safetensors", ".safetensors"), ("hdf5", ".h5")])
def test_a_run_stopped_after_every_step_gives_the_same_bytes(
    tiny_recipe: zoo.Recipe, tmp_path: Path, format: str, suffix: str
):
    recipe = tiny_recipe.with_settings(batch_size=10)  # four steps an epoch, the last of two examples
    whole = zoo.train(recipe, tmp_path / "whole", format=format)
    reported: list[dict[str, float]] = []
    for step in range(1, 12):
        with pytest.raises(
            zoo.StoppedError,
            match=rf"was stopped after step {step} of 12, and its state was saved\. Resume it: zoo\.train",
        ):
            zoo.train(recipe, tmp_path / "run", reported.append, resume=True, format=format, should_stop=stop_after(1))
    # There is nothing to stop after the last step.
    resumed = zoo.train(recipe, tmp_path / "run", reported.append, resume=True, should_stop=stop_after(1))
    assert [path.name for path in sorted((tmp_path / "run").iterdir())] == [f"checkpoint{suffix}", "run.json"]
    one, two = (tmp_path / name / f"checkpoint{suffix}" for name in ("whole", "run"))
    assert one.read_bytes() == two.read_bytes()
    assert without_time(one.parent) == without_time(two.parent)
    assert resumed.history == whole.history == reported
    assert zoo.open_run(two.parent).history == whole.history


def test_a_run_that_crashed_between_steps_resumes_from_the_last_state(tiny_recipe: zoo.Recipe, tmp_path: Path):
    recipe = tiny_recipe.with_settings(batch_size=10)
    zoo.train(recipe, tmp_path / "whole")
    seen: list[int] = []

    def crash(step: TrainingStep) -> None:
        seen.append(step.number)
        if seen in ([1, 2, 3, 4, 5, 6, 7], [1, 2, 3, 4, 5, 6, 7, 7]):
            raise OSError("power cut")

    for _ in range(2):
        with pytest.raises(OSError, match="power cut"):
            zoo.train(recipe, tmp_path / "run", on_step=crash, resume=True, save_every=3)
    zoo.train(recipe, tmp_path / "run", on_step=crash, resume=True, save_every=3)
    assert seen == [1, 2, 3, 4, 5, 6, 7, 7, *range(7, 13)]
    one, two = (tmp_path / name / "checkpoint.safetensors" for name in ("whole", "run"))
    assert one.read_bytes() == two.read_bytes()


def test_a_run_that_crashed_before_its_first_state_starts_over(tiny_recipe: zoo.Recipe, tmp_path: Path):
    def crash(step: TrainingStep) -> None:
        raise OSError("power cut")

    with pytest.raises(OSError, match="power cut"):
        zoo.train(tiny_recipe, tmp_path / "run", on_step=crash)
    assert len(zoo.train(tiny_recipe, tmp_path / "run", resume=True).history) == 3


def test_a_finished_run_is_not_trained_again(tiny_recipe: zoo.Recipe, tiny_run: Path):
    def never(step: TrainingStep) -> None:
        raise AssertionError

    run = zoo.train(tiny_recipe, tiny_run, on_step=never, resume=True)
    assert [row["epoch"] for row in run.history] == [1, 2, 3]


def test_a_run_is_not_resumed_with_other_settings_or_another_recipe(tiny_recipe: zoo.Recipe, tiny_run: Path):
    with pytest.raises(
        zoo.RunError, match=r"holds a run with seed 0, not 9; lr 0\.01, not 0\.5\. Resume it with its own"
    ):
        zoo.train(tiny_recipe.with_settings(seed=9, lr=0.5), tiny_run, resume=True)
    with pytest.raises(zoo.RunError, match=r"holds a run of tiny-net\.noise, not of tense-mlp\. Choose another folder"):
        zoo.train(zoo.get_recipe("tense-mlp"), tiny_run, resume=True)


def stopped_run(recipe: zoo.Recipe, folder: Path) -> Path:
    with pytest.raises(zoo.StoppedError):
        zoo.train(recipe, folder, should_stop=stop_after(2))
    return folder / "training.safetensors"


def test_a_run_is_not_resumed_on_other_data(tiny_recipe: zoo.Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    stopped_run(tiny_recipe, tmp_path / "run")
    other = replace(tiny_recipe.data(), sha256="0" * 64)
    monkeypatch.setattr(type(tiny_recipe), "data", lambda self: other)
    with pytest.raises(zoo.RunError, match=r"was trained on different data: SHA-256 [0-9a-f]{64}, here it is 000"):
        zoo.train(tiny_recipe, tmp_path / "run", resume=True)


def test_a_run_is_not_resumed_with_another_optimizer(
    tiny_recipe: zoo.Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    state = stopped_run(tiny_recipe, tmp_path / "run")
    before = state.read_bytes()
    monkeypatch.setattr(type(tiny_recipe), "optimizer", lambda self, model: optim.SGD(model.parameters(), lr=self.lr))
    with pytest.raises(MismatchError, match="optimizer is AdamW in the file, SGD here"):
        zoo.train(tiny_recipe, tmp_path / "run", resume=True)
    assert state.read_bytes() == before


def test_a_damaged_state_is_not_resumed(tiny_recipe: zoo.Recipe, tmp_path: Path):
    state = stopped_run(tiny_recipe, tmp_path / "run")
    content = bytearray(state.read_bytes())
    content[-1] ^= 1
    state.write_bytes(content)
    with pytest.raises(CorruptError, match=r"training\.safetensors"):
        zoo.train(tiny_recipe, tmp_path / "run", resume=True)


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        ({"position": "1"}, "position is '1'"),
        ({"position": 4}, "there is no batch 4 of epoch 1"),
        ({"epoch": 5, "step": 18}, "there is no batch 2 of epoch 5"),
        ({"epoch": 4, "step": 14}, "there is no batch 2 of epoch 4"),
        ({"step": 3}, "batch 2 of epoch 1 is not step 3"),
        ({"loss_sum": None}, "loss_sum is None"),
        ({"wall_time_s": "b"}, "its time or its history is invalid"),
        ({"history": [{"epoch": 1, "loss": 0.5}]}, "its history does not have 0 epochs"),
        ({"environment": {"numpy": 2}}, "its environment holds a value that is not text"),
        ({"best": 1.0}, "its progress holds 'best', 'data', "),
    ],
)
def test_the_state_of_another_run_is_not_resumed(
    tiny_recipe: zoo.Recipe, tmp_path: Path, saved: dict[str, Any], message: str
):
    recipe = tiny_recipe.with_settings(batch_size=10)  # four steps an epoch
    state = stopped_run(recipe, tmp_path / "run")
    content = load_file(state)
    content["progress._extra_state"] |= saved
    save_file(content, state)
    with pytest.raises(
        zoo.RunError, match=rf"is not the state of this run: {message}.*Remove it to start the run over\."
    ):
        zoo.train(recipe, tmp_path / "run", resume=True)
    state.unlink()
    assert len(zoo.train(recipe, tmp_path / "run", resume=True).history) == 3


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        ("value", r"the loss is nan in step 3; up\.bias is the first parameter that is not finite; .* after step 2\."),
        ("gradient", r"the loss is nan in step 3; down\.weight is the first parameter whose gradient is not finite; "),
        ("loss", r"the loss is nan in step 3; all parameters and gradients are finite; .* after step 2\. Lower lr"),
    ],
)
def test_a_nan_loss_stops_the_run_at_once_and_names_the_first_parameter(
    tiny_recipe: zoo.Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: str, message: str
):
    calls, right = itertools.count(1), type(tiny_recipe).loss

    def loss(self: Any, model: Any, x: np.ndarray, y: np.ndarray) -> Any:
        if not model.training or next(calls) < 3:
            return right(self, model, x, y)
        if spoil == "loss":
            return right(self, model, x, y) + np.nan
        if spoil == "value":
            model.up.bias.data[0] = np.nan
        return right(self, model, x * np.nan if spoil == "gradient" else x, y)

    monkeypatch.setattr(type(tiny_recipe), "loss", loss)
    with pytest.raises(zoo.RunError, match=message):
        zoo.train(tiny_recipe, tmp_path / "run", save_every=1)
    kept = load_file(tmp_path / "run" / "training.safetensors")
    assert all(np.isfinite(kept[name]).all() for name in kept if name.startswith("model."))


def test_a_state_with_a_parameter_that_is_not_finite_is_not_saved(
    tiny_recipe: zoo.Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    right = type(tiny_recipe).loss
    monkeypatch.setattr(type(tiny_recipe), "loss", lambda *arguments: right(*arguments) * 1e6)
    monkeypatch.setattr(type(tiny_recipe), "optimizer", lambda self, model: optim.SGD(model.parameters(), lr=1e38))
    message = (
        r"a parameter is not finite after step 1; down\.weight is the first parameter that is not .*; nothing was s"
    )
    with pytest.raises(zoo.RunError, match=message):
        zoo.train(tiny_recipe.with_settings(batch_size=8), tmp_path / "run", save_every=1)
    assert not (tmp_path / "run" / "training.safetensors").exists()


@pytest.mark.parametrize("epoch", [1, 3])
def test_a_crash_between_saving_the_state_and_the_weights_of_an_epoch_is_repaired(
    tiny_recipe: zoo.Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epoch: int
):
    monkeypatch.setattr(type(tiny_recipe), "keeps_trajectory", True)
    zoo.train(tiny_recipe, tmp_path / "whole")

    def crash(folder: Path, model: Any, number: int) -> None:
        if number == epoch:
            raise OSError("power cut")
        keep_weights(folder, model, number)

    monkeypatch.setattr("statezoo.zoo.training.run.loop.keep_weights", crash)
    with pytest.raises(OSError, match="power cut"):
        zoo.train(tiny_recipe, tmp_path / "run")
    monkeypatch.setattr("statezoo.zoo.training.run.loop.keep_weights", keep_weights)
    zoo.train(tiny_recipe, tmp_path / "run", resume=True)
    one, two = tmp_path / "whole", tmp_path / "run"
    names = [path.relative_to(one) for path in one.rglob("*.safetensors")]
    assert len(names) == 5
    assert all((one / name).read_bytes() == (two / name).read_bytes() for name in names)
    assert without_time(one) == without_time(two)


def test_a_record_that_cannot_be_read_is_a_run_error(tiny_recipe: zoo.Recipe, tmp_path: Path):
    (tmp_path / "run.json").mkdir()
    for act in (lambda: zoo.open_run(tmp_path), lambda: zoo.train(tiny_recipe, tmp_path, resume=True)):
        with pytest.raises(zoo.RunError, match=r"run\.json cannot be read: Is a directory\. Remove it, or choose"):
            act()


@pytest.mark.parametrize("steps", [0, -1])
def test_save_every_must_be_positive(tiny_recipe: zoo.Recipe, tmp_path: Path, steps: int):
    with pytest.raises(zoo.RunError, match=f"save_every must be at least 1 step, not {steps}"):
        zoo.train(tiny_recipe, tmp_path / "run", save_every=steps)
    assert not (tmp_path / "run").exists()


def test_an_unknown_format_is_refused(tiny_recipe: zoo.Recipe, tmp_path: Path):
    with pytest.raises(zoo.RunError, match="The format of a run must be safetensors, hdf5 or npz, not 'pickle'"):
        zoo.train(tiny_recipe, tmp_path / "run", format="pickle")


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
    expected = "statezoo train tiny-net.noise --seed 0 --epochs 3 --batch-size 64 --lr 0.01"
    assert train_command(tiny_recipe) == expected


def test_a_training_inside_a_training_of_the_same_folder_is_refused(tiny_recipe: zoo.Recipe, tmp_path: Path):
    refused = []

    def train_again(step: object) -> None:
        with pytest.raises(zoo.RunError, match="This call runs inside another one that is training into") as error:
            zoo.train(tiny_recipe, tmp_path / "run", resume=True)
        refused.append(error)

    run = zoo.train(tiny_recipe, tmp_path / "run", on_step=train_again)
    assert refused
    assert zoo.train(tiny_recipe, tmp_path / "run", resume=True).history == run.history
