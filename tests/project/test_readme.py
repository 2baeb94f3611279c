"""The README: its blocks of Python, its commands on files, and its lists of tests."""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from statezoo.checkpoints import load_file
from statezoo.scripts.command import main

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def block(beginning: str) -> str:
    """Return the block that starts with `beginning`. Untested blocks need the reader's own model, loss or data."""
    (found,) = (text for text in BLOCKS if text.startswith(beginning))
    return found


def test_a_published_model_loads_and_predicts_as_the_readme_says():
    names: dict[str, Any] = {}
    exec(block("from statezoo import zoo\n"), names)
    first = names["model"].predict("hablar", "yo")[0]
    assert (first.tense, first.form) == ("presente", "hablo")


def test_a_model_is_saved_loaded_and_converted_as_the_readme_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(block("from statezoo import core as nn\n"), names)
    exec(block("from statezoo.checkpoints import load_file, open_checkpoint, save_file\n"), names)
    weight = names["state"]["head.weight"]
    assert np.array_equal(names["rows"], weight[10:20, ::2])
    assert np.array_equal(names["mapped"]["head.weight"], weight)
    assert np.array_equal(load_file("big.safetensors")["head.weight"], weight)

    Path("damaged.safetensors").write_bytes(Path("tied.safetensors").read_bytes() + b"more")
    commands = re.findall(
        r"^\$ statezoo ((?:inspect|verify|convert|diff|repair) .*\.safetensors.*?) *(?:#|$)", README, re.M
    )
    assert len(commands) == 5
    for command in commands:
        assert main(shlex.split(command)) == 0, capsys.readouterr()
    assert np.array_equal(load_file("saved.safetensors")["head.weight"], weight)


@pytest.mark.slow
def test_each_pytest_command_of_the_readme_selects_tests():
    commands = re.findall(r"`pytest (.*?)`", README)
    assert len(commands) == 18
    # One process for all commands, so that the test modules are imported once.
    program = (
        "import pytest, shlex, sys\n"
        "for command in sys.argv[1:]:\n"
        "    status = pytest.main([*shlex.split(command), '--collect-only', '-qq', '-p', 'no:cacheprovider'])\n"
        "    print(f'status {status:d} of: pytest {command}')\n"
    )
    root = Path(__file__).parents[2]
    result = subprocess.run([sys.executable, "-c", program, *commands], cwd=root, capture_output=True, text=True)
    shown = [line for line in result.stdout.splitlines() if line.startswith("status ")]
    assert shown == [f"status 0 of: pytest {command}" for command in commands], result.stderr
