"""The command line in surroundings that lack what it is used to: streams, a folder, an environment, a wide terminal."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from statezoo.checkpoints import save_file
from statezoo.scripts.command import main

Process = subprocess.CompletedProcess[str]
STATEZOO = f"{shlex.quote(sys.executable)} -m statezoo"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with one of our files, whose name is not ASCII, and a file of h5py."""
    save_file({"wé模": np.ones(3)}, tmp_path / "modèle-模型.safetensors", {"ключ": "значение"})
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file.create_dataset("x", data=np.arange(100.0), compression="gzip")
    return tmp_path


def shell(command: str, folder: Path, **environment: str) -> Process:
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    environment = environment if environment.pop("bare", "") else inherited | environment
    result = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, errors="replace"
    )
    assert "Traceback" not in result.stderr
    assert "Exception ignored" not in result.stderr
    return result


VERBS = ["list", "--help", "verify foreign.h5", "convert foreign.h5 out.h5"]


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("streams", "status"), [(">&-", 1), ("2>&-", 0), ("<&-", 0), ("<&- >&- 2>&-", 1), ("> /dev/full", 1), ("| true", 0)]
)
def test_a_closed_or_full_stream_is_a_message_and_a_status(files: Path, verb: str, streams: str, status: int):
    result = shell(f"set -o pipefail; {STATEZOO} {verb} {streams}", files)
    assert result.returncode == status
    if status and "2>&-" not in streams:
        assert result.stderr.startswith("statezoo: the output could not be written: ")
    if verb.startswith("convert"):
        assert (files / "out.h5").stat().st_size > 800


def test_a_file_never_takes_the_number_of_a_closed_stream(files: Path):
    # What is printed would otherwise end up in the file.
    before = (files / "foreign.h5").read_bytes()
    assert shell(f"{STATEZOO} inspect foreign.h5 >&- 2>&-", files).returncode == 1
    assert (files / "foreign.h5").read_bytes() == before


@pytest.mark.parametrize("environment", [{"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {"bare": "1"}])
def test_verbs_work_in_a_locale_without_accents_and_in_an_empty_environment(files: Path, environment: dict[str, str]):
    if not __file__.isascii() and environment.get("LC_ALL") == "C":
        pytest.skip("in such a locale, Python finds no editable install in a folder with accents")
    assert shell(f"{STATEZOO} inspect mod*.safetensors", files, **environment).returncode == 0
    assert shell(f"{STATEZOO} verify foreign.h5", files, **environment).returncode == 0
    missing = shell(f"{STATEZOO} inspect fehlt-ü.h5", files, **environment)
    assert missing.returncode == 1
    assert missing.stderr.startswith("statezoo: there is no file fehlt-")


@pytest.mark.parametrize("columns", ["0", "1", "x"])
def test_help_works_on_a_terminal_of_any_width(tmp_path: Path, columns: str):
    assert shell(f"{STATEZOO} inspect --help", tmp_path, COLUMNS=columns).returncode == 0


@pytest.mark.parametrize(
    ("verb", "status"),
    [
        ("list", 0),
        ("verify nowhere/foreign.h5", 1),
        ("inspect x.h5", 1),
        ("train linear-regression --epochs 1", 1),
        ("repair x.h5", 1),
        ("publish run --zoo zoo", 1),
    ],
)
def test_a_removed_current_folder_is_a_message_where_it_matters(files: Path, verb: str, status: int):
    (files / "gone").mkdir()
    result = shell(f"cd gone; rmdir ../gone; {STATEZOO} {verb}", files)
    assert (result.returncode, result.stderr.startswith("statezoo: ")) == (status, status > 0)


def test_json_is_valid_and_exact_for_every_character(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    name = "".join(map(chr, (*range(1, 0x2FF), 0x2028, 0x202E, 0xFEFF, 0x1F600)))
    save_file({name: np.ones(1)}, tmp_path / "x.safetensors", {name: name})
    assert main(["inspect", "--json", str(tmp_path / "x.safetensors")]) == 0
    shown = capsys.readouterr().out
    assert shown.isascii()
    content = json.loads(shown)
    assert content["tensors"][0]["name"] == name
    assert content["metadata"] == {name: name}
