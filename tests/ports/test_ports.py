"""The scripts of examples/ports give the same on statezoo and on PyTorch, after a change of their imports only."""

import json
import re
from typing import Any

import pytest
from port_runner import CHANGED, KEPT, SCRIPTS, run_on_torch, run_port

# The first loss is one forward pass; later ones add up the differences of all steps before them.
FIRST, LATER = 1e-5, 1e-3
AGAIN = "run python tests/ports/port_runner.py"
EXPECTED: dict[str, dict[str, Any]] = json.loads(KEPT.read_text(encoding="utf-8"))
NUMBER = re.compile(r"-?\d+\.\d+(?:e-?\d+)?")


def require_equal_runs(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Require the same losses at every step, the same output, and models with the same states."""
    assert ours["losses"][0] == pytest.approx(theirs["losses"][0], rel=FIRST)
    assert ours["losses"] == pytest.approx(theirs["losses"], rel=LATER, abs=1e-5)
    assert ours["states"] == theirs["states"]
    for ours_line, theirs_line in zip(ours["printed"], theirs["printed"], strict=True):
        assert NUMBER.sub("#", ours_line) == NUMBER.sub("#", theirs_line)
        assert numbers_of(ours_line) == pytest.approx(numbers_of(theirs_line), rel=LATER, abs=0.011)


def numbers_of(line: str) -> list[float]:
    return [float(number) for number in NUMBER.findall(line)]


def test_there_are_results_of_every_script():
    assert EXPECTED.keys() == SCRIPTS.keys(), AGAIN
    assert len(SCRIPTS) >= 25


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_for_pytorch_gives_the_same_losses_on_statezoo(name: str):
    require_equal_runs(run_port(name), EXPECTED[name])


@pytest.mark.torch
@pytest.mark.parametrize("name", SCRIPTS)
def test_the_kept_results_are_those_of_pytorch(name: str):
    require_equal_runs(run_on_torch(name), EXPECTED[name])


@pytest.mark.parametrize("name", SCRIPTS)
def test_only_the_imports_of_a_script_change(name: str):
    assert CHANGED.count_changes(SCRIPTS[name].read_text(encoding="utf-8"))[1] == 0


def test_lines_that_must_differ_are_counted():
    source = "import statezoo.core as torch\n\nx = 1\nif x:\n    y = 2  # PyTorch: y = 3\n"
    assert CHANGED.for_torch(source) == "import torch as torch\n\nx = 1\nif x:\n    y = 3\n"
    assert CHANGED.count_changes(source) == (1, 1)
