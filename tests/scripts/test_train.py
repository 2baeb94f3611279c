"""The commands train, publish and verify-zoo, and the scripts of the same names."""

import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from statezoo import zoo

Process = subprocess.CompletedProcess[str]
SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.mark.parametrize("by", ["path", "command"])
def test_train_publish_and_verify_work_in_a_folder_with_spaces_and_accents(
    by: str, run: Callable[..., Process], tmp_path: Path
):
    folder = tmp_path / "mi carpeta ñ"
    folder.mkdir()

    def verb(name: str, *arguments: str) -> Process:
        called = [str(SCRIPTS / f"{name.replace('-', '_')}.py")] if by == "path" else ["-m", "statezoo", name]
        return run(*called, *arguments, cwd=folder)

    trained = verb("train", "linear-regression", "--epochs", "200", "--out", "a run")
    assert trained.returncode == 0, trained.stderr
    advice = trained.stdout.splitlines()[-1]
    assert advice == "trained; publish it with: statezoo publish 'a run' --zoo my-zoo"
    published = verb(*shlex.split(advice)[5:])
    assert published.returncode == 0, published.stderr
    assert published.stdout == 'published; load it with: zoo.load("file:my-zoo/linear-regression")\n'
    verified = verb("verify-zoo", "file:my-zoo/linear-regression")
    assert verified.returncode == 0, verified.stdout
    assert verified.stdout.endswith("\n1 entry, 0 failed checks\n")
    again = verb("publish", "a run", "--zoo", "my-zoo")
    assert again.returncode == 1
    assert again.stderr.startswith("statezoo: ")
    assert "--force" in again.stderr


def test_verify_zoo_fails_for_a_damaged_entry_and_still_checks_the_others(script: Callable[..., Process], entry: Path):
    (entry / "manifest.json").write_text("{}")
    result = script("verify_zoo.py", f"file:{entry}", "linear-regression", cwd=entry.parent)
    assert result.returncode == 1
    assert "FAILED" in result.stdout
    assert "linear-regression" in result.stdout
    assert result.stdout.endswith("\n2 entries, 1 failed check\n")
    assert "Traceback" not in result.stderr


def test_train_suggests_the_nearest_name_for_an_unknown_one(script: Callable[..., Process], tmp_path: Path):
    result = script("train.py", "tense-mpl", cwd=tmp_path)
    assert result.returncode == 1
    assert "Did you mean 'tense-mlp'?" in result.stderr


@pytest.mark.parametrize(
    "options", [["--epochs", "0"], ["--seed", "-1"], ["--lr", "nan"], ["--data", "nowhere"], ["--data", ""]]
)
def test_train_refuses_impossible_settings_in_one_line(
    options: list[str], script: Callable[..., Process], tmp_path: Path
):
    result = script("train.py", "tense-mlp", *options, cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr.startswith("statezoo: tense-mlp")
    assert result.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_interrupted_training_says_how_to_continue(tmp_path: Path):
    process = subprocess.Popen(
        [sys.executable, str(SCRIPTS / "train.py"), "simple-mlp.digits", "--epochs", "100000", "--out", "a run"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "a run" / "checkpoint.safetensors").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.startswith("statezoo: ")
    assert "statezoo train simple-mlp.digits --out 'a run' --resume" in errors
    assert "Traceback" not in errors


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize(("output", "status", "said"), [("| true", 0, ""), ("> /dev/full", 0, "could not be written")])
def test_a_training_goes_on_if_its_output_cannot_be_written(tmp_path: Path, output: str, status: int, said: str):
    command = f"{shlex.quote(sys.executable)} -m statezoo train linear-regression --epochs 2 --out run {output}"
    result = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True, cwd=tmp_path)
    assert (result.returncode, said in result.stderr) == (status, True)
    assert "Traceback" not in result.stderr
    assert zoo.open_run(tmp_path / "run").history[-1]["epoch"] == 2


def test_a_relative_data_folder_needs_a_current_folder(tmp_path: Path):
    (tmp_path / "gone").mkdir()
    command = f"rmdir ../gone; {shlex.quote(sys.executable)} -m statezoo train linear-regression --data here"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=tmp_path / "gone")
    assert result.returncode == 2
    assert "here is relative to the current folder" in result.stderr
