"""What the README says a person can type: its blocks of Python, and its commands on files, from top to bottom."""

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from statezoo.checkpoints import load_file
from statezoo.scripts.command import main

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def block(beginning: str) -> str:
    """The block that begins so; the others go on with a model, a loss or data of the reader's."""
    (found,) = (text for text in BLOCKS if text.startswith(beginning))
    return found


def test_a_published_model_is_loaded_and_asked_as_the_readme_says():
    names: dict[str, Any] = {}
    exec(block("from statezoo import zoo\n"), names)
    first = names["model"].predict("hablar", "yo")[0]
    assert (first.tense, first.form) == ("presente", "hablo")


def test_the_state_of_a_model_is_kept_as_the_readme_says(
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
