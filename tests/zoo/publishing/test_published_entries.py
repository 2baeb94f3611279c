"""The entries that come with statezoo: each is what its card says, and its recipe makes its bytes again."""

from pathlib import Path

import numpy as np
import pytest

from statezoo import zoo
from statezoo.checkpoints import inspect
from statezoo.zoo.entry import WEIGHTS, open_entry
from statezoo.zoo.loading import find
from statezoo.zoo.publishing.card import render_card
from statezoo.zoo.training.run.environment import environment

ENTRIES = (
    "linear-regression",
    "mnist-classifier.digits28",
    "simple-mlp.digits",
    "simple-mlp.digits-bn",
    "tense-mlp",
    "tied-autoencoder.digits",
    "transformer-block.sort",
)


def test_every_entry_of_the_zoo_is_listed_and_has_a_recipe():
    assert tuple(zoo.list_models()) == ENTRIES
    assert set(ENTRIES) <= set(zoo.recipes())


def test_a_filter_selects_names_by_pattern():
    assert zoo.list_models("simple-mlp.*") == ["simple-mlp.digits", "simple-mlp.digits-bn"]
    assert zoo.list_models("nothing*") == []


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry_passes_every_check(name: str):
    failed = [check for check in zoo.verify(name) if not check.passed]
    assert not failed


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry_meets_the_target_of_its_recipe(name: str):
    target = zoo.get_recipe(name).target
    assert target is not None
    assert target.met_by(open_entry(find(name)).manifest["metrics"])


@pytest.mark.parametrize("name", ENTRIES)
def test_a_card_shows_its_curves_and_its_pictures_exist(name: str):
    card = zoo.card(name)
    folder = find(name)
    shown = [line.split("(")[-1].rstrip(")") for line in card.splitlines() if line.startswith("![")]
    assert "curves.png" in shown
    assert all((folder / picture).read_bytes().startswith(b"\x89PNG") for picture in shown)


@pytest.mark.parametrize("name", ENTRIES)
def test_a_card_is_what_its_manifest_makes_of_it(name: str):
    assert zoo.card(name) == render_card(open_entry(find(name)).manifest)


@pytest.mark.parametrize("name", ENTRIES)
def test_a_card_states_the_tolerances_of_the_recipe(name: str):
    recipe, manifest = zoo.get_recipe(name), open_entry(find(name)).manifest
    assert manifest["tolerances"]["weights"] == recipe.weight_tolerance
    expected = {metric: recipe.tolerance(metric, value) for metric, value in manifest["metrics"].items()}
    assert manifest["tolerances"]["metrics"] == expected


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry_was_made_from_code_that_was_committed(name: str):
    commit = open_entry(find(name)).manifest["environment"]["commit"]
    assert len(commit) == 40
    assert set(commit) <= set("0123456789abcdef")


def test_the_readme_states_the_metrics_that_the_manifests_state():
    readme = (Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")
    metrics = {name: open_entry(find(name)).manifest["metrics"] for name in ENTRIES}
    rows = {line.split("`")[1]: line for line in readme.splitlines() if line.startswith("| `") and line.count("|") == 4}
    for name in ENTRIES[1:4]:
        assert f"{100 * metrics[name]['accuracy']:.1f} %" in rows[name]
    assert f"{100 * metrics['transformer-block.sort']['exact_match']:.2f} %" in rows["transformer-block.sort"]
    assert f"{metrics['tense-mlp']['excess_nats']:.5f}" in rows["tense-mlp"]
    assert f"{metrics['tied-autoencoder.digits']['mse']:.4f}" in rows["tied-autoencoder.digits"]
    assert f"{metrics['tied-autoencoder.digits']['pca_mse']:.4f}" in rows["tied-autoencoder.digits"]
    assert metrics["linear-regression"]["weight_error"] < 4e-6
    assert "4e-6" in rows["linear-regression"]


@pytest.mark.parametrize("name", ENTRIES)
@pytest.mark.slow
def test_the_recipe_makes_byte_identical_weights_again(name: str, tmp_path: Path):
    recorded = open_entry(find(name)).manifest["environment"]
    here = environment()
    if any(recorded[key] != here[key] for key in ("numpy", "blas", "platform", "cpu")):
        # The last bits of a sum depend on these. Then two runs here must agree with each other.
        folder = publish_again(name, tmp_path / "reference")
    else:
        folder = find(name)
    again = publish_again(name, tmp_path)
    for filename in WEIGHTS.values():
        assert (again / filename).read_bytes() == (folder / filename).read_bytes(), filename


def publish_again(name: str, folder: Path) -> Path:
    zoo.train(zoo.get_recipe(name), folder / "run")
    return zoo.publish(folder / "run", folder / "zoo")


@pytest.mark.parametrize("format", WEIGHTS)
def test_the_sorters_head_is_its_token_embedding(format: str):
    model = zoo.load("transformer-block.sort", format=format)
    assert model.get_parameter("head.weight") is model.get_parameter("token_embedding.weight")
    info = inspect(find("transformer-block.sort") / WEIGHTS[format])
    assert info.stored_bytes == sum(parameter.data.nbytes for parameter in model.parameters())


@pytest.mark.parametrize("format", WEIGHTS)
def test_the_autoencoders_decoder_is_a_view_of_its_encoder(format: str):
    state = zoo.load("tied-autoencoder.digits", format=format).state_dict()
    state["encoder.weight"][0, 1] = 42
    assert state["decoder.weight"][1, 0] == 42


def test_batch_norm_and_dropout_make_training_and_evaluation_differ():
    from statezoo.core import Tensor

    model = zoo.load("simple-mlp.digits-bn")
    x = Tensor(zoo.get_recipe("simple-mlp.digits-bn").data().test_x[:16])
    evaluated = model(x).data
    assert np.array_equal(model(x).data, evaluated)
    assert not np.allclose(model.train()(x).data, evaluated)
