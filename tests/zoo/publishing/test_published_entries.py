"""The entries that come with statezoo: each matches its card, and its recipe reproduces its bytes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from statezoo import zoo
from statezoo.checkpoints import inspect
from statezoo.zoo.entry import WEIGHTS, open_entry
from statezoo.zoo.loading import find
from statezoo.zoo.publishing.huggingface.card import render_card
from statezoo.zoo.training.run.environment import changes, is_pinned, same_bits

PINNING = ("OPENBLAS_CORETYPE", "NPY_DISABLE_CPU_FEATURES", "NPY_ENABLE_CPU_FEATURES")
ENTRIES = (
    "gpt.conjugator",
    "lenet.digits28",
    "linear-regression",
    "lstm.conjugator",
    "mnist-classifier.digits28",
    "simple-mlp.digits",
    "simple-mlp.digits-bn",
    "tense-mlp",
    "tied-autoencoder.digits",
    "transformer-block.modadd",
    "transformer-block.sort",
    "vae.digits",
)
CONJUGATORS = ("gpt.conjugator", "lstm.conjugator")


def test_every_entry_is_listed_and_has_a_recipe():
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
def test_a_card_is_made_from_its_manifest(name: str):
    assert zoo.card(name) == render_card(open_entry(find(name)).manifest)


@pytest.mark.parametrize("name", ENTRIES)
def test_a_card_states_the_tolerances_of_the_recipe(name: str):
    recipe, manifest = zoo.get_recipe(name), open_entry(find(name)).manifest
    assert manifest["tolerances"]["weights"] == recipe.weight_tolerance
    for kind, tolerance in (("metrics", recipe.tolerance), ("retrained", recipe.retrained_tolerance)):
        expected = {metric: tolerance(metric, value) for metric, value in manifest["metrics"].items()}
        assert manifest["tolerances"][kind] == expected


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry_was_made_from_committed_code(name: str):
    commit = open_entry(find(name)).manifest["environment"]["commit"]
    assert len(commit) == 40
    assert set(commit) <= set("0123456789abcdef")


def test_the_readme_states_the_metrics_of_the_manifests():
    readme = (Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")
    metrics = {name: open_entry(find(name)).manifest["metrics"] for name in ENTRIES}
    rows = {line.split("`")[1]: line for line in readme.splitlines() if line.startswith("| `") and line.count("|") == 4}
    for name in (name for name in ENTRIES if "digits" in name and "accuracy" in metrics[name]):
        assert f"{100 * metrics[name]['accuracy']:.1f} %" in rows[name]
    for name in CONJUGATORS:
        assert f"{100 * metrics[name]['held_out_exact']:.1f} % of the forms of held-out regular verbs" in rows[name]
        assert f"{100 * metrics[name]['irregular_exact']:.0f} % of irregular ones" in rows[name]
    assert f"{100 * metrics['transformer-block.sort']['exact_match']:.2f} %" in rows["transformer-block.sort"]
    assert f"{metrics['tense-mlp']['excess_nats']:.5f}" in rows["tense-mlp"]
    assert f"{metrics['tied-autoencoder.digits']['mse']:.4f}" in rows["tied-autoencoder.digits"]
    assert f"{metrics['tied-autoencoder.digits']['pca_mse']:.4f}" in rows["tied-autoencoder.digits"]
    assert f"{metrics['vae.digits']['mse']:.4f}" in rows["vae.digits"]
    assert metrics["vae.digits"]["autoencoder_mse"] == metrics["tied-autoencoder.digits"]["mse"]
    assert f"{100 * metrics['transformer-block.modadd']['accuracy']:.2f} %" in rows["transformer-block.modadd"]
    assert metrics["linear-regression"]["weight_error"] < 4e-6
    assert "4e-6" in rows["linear-regression"]


@pytest.mark.parametrize("name", CONJUGATORS)
def test_a_conjugator_knows_the_rules_and_its_irregular_verbs(name: str):
    metrics = open_entry(find(name)).manifest["metrics"]
    assert metrics["held_out_exact"] >= 0.95
    assert metrics["irregular_exact"] == 1
    card = zoo.card(name)
    assert "| held out exact |" in card
    assert "| irregular exact | 1 |" in card


# Environments from which a pinned process is started; the pin must replace their settings.
PROCESSORS = {
    "this processor": {},
    "a processor without AVX-512": {"OPENBLAS_CORETYPE": "Haswell", "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL"},
    "a processor without AVX2": {"OPENBLAS_CORETYPE": "Sandybridge", "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4"},
}
# Entries that train in a few seconds are trained to the end, the others for one epoch; `make repro` trains them all.
QUICK = ("linear-regression", "simple-mlp.digits", "tense-mlp", "tied-autoencoder.digits")
TRAIN = """
import json, sys
from pathlib import Path
from statezoo import zoo
from statezoo.zoo.training.child import train_apart

name, folder, epochs = sys.argv[1:]
run = train_apart(zoo.get_recipe(name).with_settings(epochs=json.loads(epochs)), Path(folder))
print(json.dumps(run.made.environment))
"""


def train_on(processor: str, name: str, folder: Path, epochs: int | None) -> dict[str, str]:
    """Train an entry in a pinned process, started on another processor. Return the environment of its run."""
    environ = {name: value for name, value in os.environ.items() if name not in PINNING} | PROCESSORS[processor]
    command = [sys.executable, "-c", TRAIN, name, str(folder), json.dumps(epochs)]
    result = subprocess.run(command, env=environ, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def refuse_other_environment(name: str, here: dict[str, str]) -> None:
    """Skip the test if the entry does not promise its bits in this environment, and say why."""
    recorded = open_entry(find(name)).manifest["environment"]
    assert is_pinned(recorded)
    if not is_pinned(here):
        pytest.skip(f"there is no pin on this machine ({here['pin']})")
    if not same_bits(recorded, here):
        pytest.skip(f"published with other versions: {changes(recorded, here)}")


@pytest.mark.parametrize("processor", PROCESSORS)
@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) for name in QUICK[1:]] + [QUICK[0]])
def test_the_recipe_gives_the_published_bytes_on_any_processor(name: str, processor: str, tmp_path: Path):
    here = train_on(processor, name, tmp_path / "run", epochs=None)
    refuse_other_environment(name, here)
    again = zoo.publish(tmp_path / "run", tmp_path / "zoo")
    for filename in WEIGHTS.values():
        assert (again / filename).read_bytes() == (find(name) / filename).read_bytes(), filename


@pytest.mark.slow
@pytest.mark.parametrize("processor", PROCESSORS)
@pytest.mark.parametrize("name", sorted(set(ENTRIES) - set(QUICK)))
def test_the_first_epoch_of_a_long_recipe_gives_the_published_weights_on_any_processor(
    name: str, processor: str, tmp_path: Path
):
    here = train_on(processor, name, tmp_path / "run", epochs=1)
    refuse_other_environment(name, here)
    weights = inspect(tmp_path / "run" / "checkpoint.safetensors")
    assert weights.fingerprint == open_entry(find(name)).manifest["recipe"]["first_epoch"]


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
