"""The commands list, info, predict and card."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from statezoo import zoo
from statezoo.checkpoints import save_file
from statezoo.scripts.command import main
from statezoo.zoo.entry import describe_files
from statezoo.zoo.loading import find


def test_list_shows_every_model_with_its_size_and_its_metric(capsys: pytest.CaptureFixture[str]):
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["name", *zoo.list_models()]
    assert all("accuracy" in line for line in lines if "simple-mlp" in line)


def test_list_takes_a_pattern(capsys: pytest.CaptureFixture[str]):
    assert main(["list", "tense*"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert main(["list", "no*"]) == 0
    assert capsys.readouterr().out == "no model matches 'no*'\n"


def test_info_shows_structure_metrics_recipe_and_where_the_card_is(capsys: pytest.CaptureFixture[str]):
    assert main(["info", "tense-mlp"]) == 0
    shown = capsys.readouterr().out
    assert "  fc1: Linear  (1, 16)         384        0  1,536            368\n" in shown
    assert "469 parameters and 0 numbers in buffers, 1,876 bytes; 448 multiply-adds for an input of (1, 23)" in shown
    assert "--seed 0 --epochs 300 --batch-size 60 --lr 0.01" in shown
    assert str(find("tense-mlp") / "README.md") in shown


@pytest.mark.parametrize("golden", [{"output": np.zeros(1)}, {"input": np.zeros(12)}, {"input": np.zeros(())}])
def test_info_of_an_entry_whose_golden_input_does_not_fit_is_one_message(
    golden: dict[str, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    folder = Path(shutil.copytree(find("transformer-block.sort"), tmp_path / "entry"))
    save_file(golden, folder / "golden.safetensors")
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    manifest["files"] |= describe_files(folder, ["golden.safetensors"])
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    assert main(["info", f"file:{folder}"]) == 1
    shown = capsys.readouterr().err
    assert re.fullmatch(
        r"statezoo: \S+golden.safetensors holds no input that the model accepts \(.+\)\. "
        r"Publish the entry again, or download it again\.\n",
        shown,
    )


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["tense-mlp", "hablar", "yo"], "hablo"),
        (["transformer-block.sort", "352914"], "1 2 3 4 5 9"),
        (["linear-regression", "3", "4"], "18"),
    ],
)
def test_predict_prints_what_the_model_returns(arguments: list[str], shown: str, capsys: pytest.CaptureFixture[str]):
    assert main(["predict", *arguments]) == 0
    assert shown in capsys.readouterr().out


def test_predict_prints_an_image_as_text(capsys: pytest.CaptureFixture[str]):
    image = "00018100/00178300/00787600/03928300/07849960/03999410/00139000/00018000"
    assert main(["predict", "tied-autoencoder.digits", image]) == 0
    assert len(capsys.readouterr().out.strip("\n").split("\n")) == 8


def test_predict_with_the_wrong_number_of_inputs_shows_an_example(capsys: pytest.CaptureFixture[str]):
    assert main(["predict", "tense-mlp", "hablar"]) == 1
    assert capsys.readouterr().err == (
        "statezoo: tense-mlp does not take 1 input. Try: statezoo predict tense-mlp hablar yo\n"
    )


def test_card_prints_the_card(capsys: pytest.CaptureFixture[str]):
    assert main(["card", "tense-mlp"]) == 0
    assert capsys.readouterr().out == zoo.card("tense-mlp")
