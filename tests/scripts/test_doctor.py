"""The doctor raises no false alarm on any entry, and the command doctor prints its report."""

import json
from pathlib import Path
from typing import Any

import pytest

from statezoo import zoo
from statezoo.core import Module, Parameter, doctor
from statezoo.core import functional as F
from statezoo.scripts import models
from statezoo.scripts.command import main


@pytest.mark.parametrize("name", zoo.list_models())
@pytest.mark.parametrize("build", [zoo.create_model, zoo.load], ids=["fresh", "pretrained"])
def test_the_doctor_finds_nothing_in_an_entry_fresh_or_pretrained(build: Any, name: str):
    recipe, model = zoo.get_recipe(name), build(name)
    data = recipe.data()
    x, y = data.train_x[: recipe.batch_size], data.train_y[: recipe.batch_size]

    def loss() -> Any:
        return recipe.loss(model, x, y)

    assert doctor(model)
    assert doctor(model, batch=x)
    assert doctor(model, loss=loss)
    model.train()
    assert doctor(model, recipe.optimizer(model), loss=loss)


@pytest.mark.parametrize("name", zoo.list_models())
def test_the_command_finds_nothing_in_an_entry(name: str, capsys: pytest.CaptureFixture[str]):
    assert main(["doctor", name]) == 0
    shown = capsys.readouterr().out
    assert shown.endswith(": nothing found (looked at the tree, the optimizer, a step)\n")


def test_the_command_reports_a_broken_tie_as_text_and_as_json_and_exits_with_1(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    def untied(entry: Any) -> Module:
        model = zoo.load("tied-autoencoder.digits")
        model.decoder.weight = Parameter(model.decoder.weight.data.copy())
        return model

    monkeypatch.setattr(models, "load_entry", untied)
    assert main(["doctor", "tied-autoencoder.digits"]) == 1
    assert "decoder.weight [tie]\n  seen: it was tied to encoder.weight" in capsys.readouterr().out
    assert main(["doctor", "tied-autoencoder.digits", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["model"], told["ok"], told["findings"][0]["name"]) == ("TiedAutoencoder", False, "decoder.weight")


def test_an_entry_with_an_unknown_recipe_gets_a_forward_pass_only(
    entry: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("statezoo.zoo.training.recipe._recipes", {})
    assert main(["doctor", f"file:{entry}"]) == 0
    assert capsys.readouterr().out == "TenseMLP: nothing found (looked at the tree, a forward pass)\n"


def test_a_model_that_fails_on_its_golden_examples_is_one_message(
    entry: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    def broken(*_: Any) -> Any:
        raise ZeroDivisionError("no")

    monkeypatch.setattr(F, "linear", broken)
    assert main(["doctor", f"file:{entry}"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("statezoo: ")
    assert said.endswith(
        "golden.safetensors holds no input that the model accepts (no). "
        "Publish the entry again, or download it again.\n"
    )


def test_an_unknown_name_is_one_message(capsys: pytest.CaptureFixture[str]):
    assert main(["doctor", "tense-mpl"]) == 1
    assert "tense-mlp" in capsys.readouterr().err
