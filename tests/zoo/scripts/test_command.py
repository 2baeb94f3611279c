"""The command `statezoo`, and the scripts, as a person runs them."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from statezoo import zoo
from statezoo.checkpoints import save_file
from statezoo.scripts.command import main
from statezoo.zoo.entry import describe_files
from statezoo.zoo.loading import find

SCRIPTS = Path(__file__).parents[3] / "scripts"


def run(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONWARNINGS": "error", "COLUMNS": "200"}
    return subprocess.run([sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, env=environment)


def script(name: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return run(str(SCRIPTS / name), *arguments, cwd=cwd)


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
    assert "python scripts/train.py tense-mlp --seed 0" in shown
    assert str(find("tense-mlp") / "README.md") in shown


@pytest.mark.parametrize("golden", [{"output": np.zeros(1)}, {"input": np.zeros(12)}, {"input": np.zeros(())}])
def test_info_of_an_entry_whose_golden_input_the_model_does_not_take_is_one_message(
    golden: dict[str, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    folder = Path(shutil.copytree(find("transformer-block.sort"), tmp_path / "entry"))
    save_file(golden, folder / "golden.safetensors")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"] |= describe_files(folder, ["golden.safetensors"])
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert main(["info", f"file:{folder}"]) == 1
    shown = capsys.readouterr().err
    assert re.fullmatch(
        r"statezoo: \S+golden.safetensors holds no input that the model takes \(.+\); "
        r"publish or download the entry again\n",
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
def test_predict_shows_what_the_model_makes_of_the_words(
    arguments: list[str], shown: str, capsys: pytest.CaptureFixture[str]
):
    assert main(["predict", *arguments]) == 0
    assert shown in capsys.readouterr().out


def test_predict_shows_an_image_as_text(capsys: pytest.CaptureFixture[str]):
    image = "00018100/00178300/00787600/03928300/07849960/03999410/00139000/00018000"
    assert main(["predict", "tied-autoencoder.digits", image]) == 0
    assert len(capsys.readouterr().out.strip("\n").split("\n")) == 8


def test_inspect_shows_names_shapes_dtypes_and_ties(capsys: pytest.CaptureFixture[str]):
    assert main(["inspect", str(find("transformer-block.sort") / "model.safetensors")]) == 0
    shown = capsys.readouterr().out
    assert "token_embedding.weight" in shown
    (line,) = [line for line in shown.splitlines() if line.strip().startswith("head.weight")]
    assert "token_embedding.weight" in line


@pytest.mark.parametrize("filename", ["model.safetensors", "model.h5"])
def test_inspect_as_json_is_json(filename: str, capsys: pytest.CaptureFixture[str]):
    assert main(["inspect", "--json", str(find("tense-mlp") / filename)]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [tensor["name"] for tensor in shown["tensors"]] == ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"]
    assert shown["tensors"][0]["shape"] == [16, 23]


@pytest.mark.parametrize(
    "arguments",
    [
        ["info", "tens-mlp"],
        ["predict", "tense-mlp", "hablar", "nadie"],
        ["predict", "tense-mlp", "hablar"],
        ["predict", "transformer-block.sort", "1", "2", "3"],
        ["predict", "file:/nowhere", "1"],
        ["inspect", "nowhere.safetensors"],
        ["inspect", "README.md"],
    ],
)
def test_a_known_error_is_one_message_without_a_traceback_and_exit_status_1(arguments: list[str]):
    result = run("-m", "statezoo.scripts.command", *arguments)
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.startswith("statezoo: ")
    assert "Traceback" not in result.stderr


def test_without_a_verb_the_command_shows_its_usage_and_fails():
    result = run("-m", "statezoo.scripts.command")
    assert result.returncode == 2
    assert "usage: statezoo" in result.stderr


def buffered(**changes: str) -> dict[str, str]:
    """An environment in which output is buffered as it is by default, whatever the tests run in."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"} | changes


@pytest.mark.parametrize("verb", ["list", "info transformer-block.sort"])
def test_a_reader_that_leaves_early_is_no_error(verb: str):
    command = f"set -o pipefail; {shlex.quote(sys.executable)} -m statezoo.scripts.command {verb} | true"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=buffered())
    assert (result.returncode, result.stderr) == (0, "")


def test_a_terminal_without_accents_shows_escapes_instead():
    command = [sys.executable, "-m", "statezoo.scripts.command", "predict", "tense-mlp", "hablar", "yo"]
    result = subprocess.run(command, capture_output=True, text=True, env=buffered(PYTHONIOENCODING="ascii"))
    assert result.returncode == 0
    assert "hablar\\xe9" in result.stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_an_output_that_cannot_be_written_is_one_message():
    command = f"{shlex.quote(sys.executable)} -m statezoo.scripts.command list > /dev/full"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=buffered())
    assert result.returncode == 1
    assert result.stderr == "statezoo: the output could not be written: [Errno 28] No space left on device\n"


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out.strip() == version("statezoo")


def test_train_publish_and_verify_work_from_a_folder_with_spaces_and_unicode(tmp_path: Path):
    folder = tmp_path / "mi carpeta ñ"
    folder.mkdir()
    trained = script("train.py", "tense-mlp", cwd=folder)
    assert trained.returncode == 0, trained.stderr
    published = script("publish.py", "runs/tense-mlp", "--zoo", "my-zoo", cwd=folder)
    assert published.returncode == 0, published.stderr
    assert 'zoo.load("file:my-zoo/tense-mlp")' in published.stdout
    verified = script("verify_zoo.py", "file:my-zoo/tense-mlp", cwd=folder)
    assert verified.returncode == 0, verified.stdout
    assert "1 entries, 0 checks failed" in verified.stdout
    again = script("publish.py", "runs/tense-mlp", "--zoo", "my-zoo", cwd=folder)
    assert again.returncode == 1
    assert again.stderr.startswith("publish.py: ")
    assert "pass --force" in again.stderr


def test_verify_zoo_fails_for_a_damaged_entry_and_still_checks_the_others(tiny_entry: Path):
    (tiny_entry / "manifest.json").write_text("{}")
    result = script("verify_zoo.py", f"file:{tiny_entry}", "linear-regression", cwd=tiny_entry.parent)
    assert result.returncode == 1
    assert "FAILED" in result.stdout
    assert "linear-regression" in result.stdout
    assert "Traceback" not in result.stderr


def test_train_names_the_nearest_recipe_for_an_unknown_name(tmp_path: Path):
    result = script("train.py", "tense-mpl", cwd=tmp_path)
    assert result.returncode == 1
    assert "Did you mean 'tense-mlp'?" in result.stderr


@pytest.mark.parametrize(
    "options", [["--epochs", "0"], ["--seed", "-1"], ["--lr", "nan"], ["--data", "nowhere"], ["--data", ""]]
)
def test_train_refuses_settings_that_make_no_sense_in_one_line(options: list[str], tmp_path: Path):
    result = script("train.py", "tense-mlp", *options, cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr.startswith("train.py: tense-mlp")
    assert result.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_an_interrupted_training_says_what_it_kept(tmp_path: Path):
    import signal
    import time

    process = subprocess.Popen(
        [sys.executable, str(SCRIPTS / "train.py"), "simple-mlp.digits", "--epochs", "100000", "--out", "run"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "run" / "checkpoint.safetensors").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "and saved; go on with: python scripts/train.py simple-mlp.digits --out run --resume" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize("example", ["collinear_regression.py", "own_zoo.py", "demo.py", "watch_it_learn.py"])
def test_an_example_runs(example: str, tmp_path: Path):
    result = run(str(SCRIPTS.parent / "examples" / example), cwd=tmp_path)
    assert result.returncode == 0, result.stderr


def test_the_collinear_example_fixes_only_the_sum_of_the_weights(tmp_path: Path):
    shown = run(str(SCRIPTS.parent / "examples" / "collinear_regression.py"), cwd=tmp_path).stdout.splitlines()
    losses = [float(line.split()[-1]) for line in shown if line.startswith("epoch")]
    assert len(losses) == 20
    assert losses == sorted(losses, reverse=True)
    assert "not 2 and 3; their sum" in shown[-1]
