"""The weights of a run, epoch by epoch: kept in training, published with the entry, and loaded as models."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from statezoo import zoo
from statezoo.checkpoints import load_file, save_file
from statezoo.core import Tensor
from statezoo.zoo.entry import TRAJECTORY, describe_files, manifest_text
from statezoo.zoo.publishing.pictures import new_figure


@pytest.fixture
def kept_run(tiny_recipe: zoo.Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run whose recipe keeps its trajectory for this test."""
    monkeypatch.setattr(type(tiny_recipe), "keeps_trajectory", True)
    zoo.train(tiny_recipe, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def kept(kept_run: Path, tmp_path: Path) -> Path:
    """That run, published."""
    return zoo.publish(kept_run, tmp_path / "zoo")


def change_trajectory(entry: Path, states: dict[str, np.ndarray]) -> None:
    save_file(states, entry / TRAJECTORY)
    manifest = json.loads((entry / "manifest.json").read_text())
    manifest["files"] |= describe_files(entry, [TRAJECTORY])
    (entry / "manifest.json").write_text(manifest_text(manifest))


def test_a_trajectory_holds_the_models_before_training_and_after_each_epoch(kept: Path, kept_run: Path):
    trajectory = zoo.trajectory(f"file:{kept}")
    assert len(trajectory) == 4
    for epoch, model in enumerate(trajectory):
        assert not model.training
        state = load_file(kept_run / "trajectory" / f"epoch-{epoch:05}.safetensors")
        assert all(np.array_equal(model.state_dict()[name], array) for name, array in state.items())
    x = Tensor(np.ones((2, 4), np.float32))
    assert np.array_equal(trajectory[-1](x).data, zoo.load(f"file:{kept}")(x).data)
    assert not np.array_equal(trajectory[0](x).data, trajectory[1](x).data)


def test_a_model_of_a_trajectory_keeps_its_ties(kept: Path):
    state = zoo.trajectory(f"file:{kept}")[2].state_dict()
    assert np.shares_memory(state["up.weight"], state["down.weight"])


def test_a_trajectory_is_indexed_like_a_list(kept: Path):
    trajectory = zoo.trajectory(f"file:{kept}")
    last = trajectory[3].state_dict()
    assert np.array_equal(trajectory[-1].state_dict()["down.bias"], last["down.bias"])
    assert [model.state_dict()["down.bias"][0] for model in trajectory[1::2]] == list(
        trajectory.states["down.bias"][1::2, 0]
    )
    with pytest.raises(IndexError, match="no epoch 4 in a trajectory of 3 epochs"):
        trajectory[4]


def test_the_states_of_a_trajectory_cannot_be_changed_but_its_models_can(kept: Path):
    trajectory = zoo.trajectory(f"file:{kept}")
    trajectory[1].state_dict()["down.bias"][:] = 7
    assert not (trajectory.states["down.bias"] == 7).any()
    with pytest.raises(ValueError, match="read-only"):
        trajectory.states["down.bias"][:] = 7


def test_the_manifest_and_the_card_name_the_trajectory_and_verification_checks_it(kept: Path):
    assert TRAJECTORY in json.loads((kept / "manifest.json").read_text())["files"]
    assert 'zoo.trajectory("tiny-net.noise")' in zoo.card(f"file:{kept}")
    found = {check.name: check for check in zoo.verify(f"file:{kept}")}
    assert found["trajectory"] == zoo.Check("trajectory", True, "3 epochs to these weights")


def test_a_trajectory_that_does_not_end_at_the_weights_fails_verification(kept: Path):
    states = load_file(kept / TRAJECTORY)
    states["down.bias"][-1, 0] += 1
    change_trajectory(kept, states)
    found = {check.name: check for check in zoo.verify(f"file:{kept}")}
    assert not found["trajectory"].passed
    assert "'down.bias'" in found["trajectory"].found


@pytest.mark.parametrize(
    "states", [{}, {"a": np.ones(3), "b": np.ones(4)}, {"a": np.array(1.0)}, {"a": np.ones((0, 3))}]
)
def test_an_invalid_trajectory_is_an_entry_error(kept: Path, states: dict[str, np.ndarray]):
    change_trajectory(kept, states)
    with pytest.raises(zoo.EntryError, match="is not a trajectory: its tensors do not have the same epochs"):
        zoo.trajectory(f"file:{kept}")


def test_an_entry_without_a_trajectory_says_so(tiny_entry: Path):
    with pytest.raises(zoo.EntryError, match=r"tiny-net\.noise was published without a trajectory"):
        zoo.trajectory(f"file:{tiny_entry}")
    assert "zoo.trajectory" not in zoo.card(f"file:{tiny_entry}")


def test_a_run_that_lost_an_epoch_is_not_published(kept_run: Path, tmp_path: Path):
    (kept_run / "trajectory" / "epoch-00001.safetensors").unlink()
    with pytest.raises(zoo.RunError, match=r"does not hold the weights of every epoch\. Train again into another"):
        zoo.publish(kept_run, tmp_path / "other")


def test_two_runs_keep_the_same_bytes(kept: Path, tiny_recipe: zoo.Recipe, tmp_path: Path):
    zoo.train(tiny_recipe, tmp_path / "again")
    again = zoo.publish(tmp_path / "again", tmp_path / "again-zoo")
    assert (again / TRAJECTORY).read_bytes() == (kept / TRAJECTORY).read_bytes()


def test_a_recipe_draws_how_its_model_learnt(
    kept_run: Path, tiny_recipe: zoo.Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def learning(self: zoo.Recipe, trajectory: zoo.Trajectory) -> dict[str, object]:
        figure, axes = new_figure(2, 2)
        axes[0, 0].plot(trajectory.states["down.bias"][:, 0])
        return {"One bias": figure}

    monkeypatch.setattr(type(tiny_recipe), "learning", learning)
    entry = zoo.publish(kept_run, tmp_path / "drawn")
    assert "![One bias](picture-1.png)" in zoo.card(f"file:{entry}")


def test_a_short_run_of_the_tense_model_draws_its_pictures_too(tmp_path: Path):
    recipe = replace(zoo.get_recipe("tense-mlp").with_settings(epochs=2), target=None)
    run = zoo.train(recipe, tmp_path / "run")
    states = {name: np.stack(3 * [array]) for name, array in run.model.state_dict().items()}
    figures = recipe.learning(zoo.Trajectory(recipe.architecture, recipe.config, states))
    assert len(figures) == 2


def test_the_published_trajectory_of_the_tense_model_shows_it_learning():
    recipe, trajectory = zoo.get_recipe("tense-mlp"), zoo.trajectory("tense-mlp")
    data = recipe.data()
    excess = [recipe.evaluate(trajectory[epoch], data)["excess_nats"] for epoch in (0, 20, 300)]
    assert excess == sorted(excess, reverse=True)
    assert excess[0] > 0.2
    assert excess[-1] < 1e-4
