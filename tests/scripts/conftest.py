"""An entry that a test may damage, and the command line as a process."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from statezoo.zoo.loading import find

Process = subprocess.CompletedProcess[str]
SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def entry(tmp_path: Path) -> Path:
    """The folder of a published entry: a copy."""
    return Path(shutil.copytree(find("tense-mlp"), tmp_path / "tense-mlp"))


@pytest.fixture
def run() -> Callable[..., Process]:
    """Run Python with some arguments in a separate process, in which every warning is an error."""

    def run(*arguments: str, cwd: Path | None = None) -> Process:
        environment = {**os.environ, "PYTHONWARNINGS": "error", "COLUMNS": "200"}
        return subprocess.run([sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, env=environment)

    return run


@pytest.fixture
def script(run: Callable[..., Process]) -> Callable[..., Process]:
    """Run a file of scripts/ by its path."""
    return lambda name, *arguments, cwd: run(str(SCRIPTS / name), *arguments, cwd=cwd)
