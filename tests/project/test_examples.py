"""The programs in examples/ run, in any folder."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(example: str, folder: Path) -> str:
    """Run a program in a folder, with every warning an error, and return what it prints."""
    command = [sys.executable, "-W", "error", str(EXAMPLES / example)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "example", ["attention_pattern.py", "collinear_regression.py", "own_zoo.py", "demo.py", "watch_it_learn.py"]
)
def test_every_example_runs(example: str, tmp_path: Path):
    assert run(example, tmp_path)


def test_the_collinear_example_finds_only_the_sum_of_the_weights(tmp_path: Path):
    shown = run("collinear_regression.py", tmp_path).splitlines()
    losses = [float(line.split()[-1]) for line in shown if line.startswith("epoch")]
    assert len(losses) == 20
    assert losses == sorted(losses, reverse=True)
    assert "not 2 and 3; their sum" in shown[-1]
