"""The recipes of CONTRIBUTING.md, followed in a copy of the code."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
Run = Callable[..., str]


def section(title: str) -> str:
    """Return the text of one section."""
    (found,) = re.findall(rf"^## {title}\n(.*?)(?=^## )", PAGE, re.MULTILINE | re.DOTALL)
    return found


def blocks(text: str, language: str) -> list[str]:
    """Return the code blocks in one language, without the indentation of the list around them."""
    return [textwrap.dedent(code) for code in re.findall(rf"^ *```{language}\n(.*?)^ *```", text, re.M | re.DOTALL)]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with a copy of the packages, from which `statezoo` can be imported as from a checkout."""
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "package", tmp_path / "statezoo", ignore=ignore)
    for name in ("core", "checkpoints", "zoo", "scripts"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignore)
        (tmp_path / "statezoo" / name).symlink_to(tmp_path / name)
    return tmp_path


@pytest.fixture
def run(checkout: Path) -> Run:
    """Run Python in the checkout and return what it prints."""

    def run(*arguments: str) -> str:
        environment = {**os.environ, "PYTHONPATH": str(checkout)}
        command = [sys.executable, *arguments]
        done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def follow(title: str, checkout: Path) -> None:
    """Write the files of a section, and insert its rows into the tables that it names."""
    for code in blocks(section(title), "python"):
        head, body = code.split("\n", 1)
        name, _, table = head.removeprefix("# ").partition(", in ")
        path = checkout / name
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            (path.parent / "__init__.py").touch()
            path.write_text(body, encoding="utf-8")
            continue
        text = path.read_text(encoding="utf-8")
        after = re.search(rf"^{table} = [({{]\n", text, re.MULTILINE) if table else re.search(r"^(?=from )", text, re.M)
        assert after, f"{name} has no {table}"
        path.write_text(text[: after.end()] + body + text[after.end() :], encoding="utf-8")


def test_a_verb_is_one_file_and_one_row(checkout: Path, run: Run):
    follow("Adding a verb", checkout)
    assert "\n  count        count the tensors of a checkpoint\n" in run("-m", "statezoo", "--help")
    file = "zoo/models/tense_mlp/tense-mlp/model.safetensors"
    assert run("-m", "statezoo", "count", file) == "4 tensors\n"


def test_a_layer_is_one_file_and_one_row(checkout: Path, run: Run):
    follow("Adding a layer", checkout)
    program = "from statezoo.core import nn, randn; model = nn.Scale(3)"
    program += "; print(model(randn(2, 3)).shape, list(model.state_dict()))"
    assert run("-c", program) == "(2, 3) ['weight']\n"


@pytest.mark.slow
def test_a_zoo_entry_is_one_folder_and_one_row(checkout: Path, run: Run):
    follow("Adding a zoo entry", checkout)
    commands = [
        line.removeprefix("$ statezoo ") for line in blocks(section("Adding a zoo entry"), "console")[0].splitlines()
    ]
    printed = [run("-m", "statezoo", *shlex.split(command)) for command in commands]
    assert printed[2].endswith("\n1 entry, 0 failed checks\n")
    assert printed[3] == "1\n"
    assert "xor-net" in run("-m", "statezoo", "list")
