"""docs/core/how-backward-works.md names parts of the code, which must exist."""

import importlib
import re
from pathlib import Path
from typing import Any

import pytest

from statezoo import core
from statezoo.core.arrays import silence, versions
from statezoo.core.autograd import dtypes, reductions, tape
from statezoo.core.nn.functional import entropy, losses
from statezoo.core.optim import Optimizer
from statezoo.core.optim.packed_state import PackedState

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "core" / "how-backward-works.md").read_text()
OWNERS: dict[str, Any] = {
    "Linear": core.Linear,
    "Optimizer": Optimizer,
    "Tensor": core.Tensor,
    "PackedState": PackedState,
    "dtypes": dtypes,
    "entropy": entropy,
    "functional": core.functional,
    "losses": losses,
    "reductions": reductions,
    "silence": silence,
    "tape": tape,
    "versions": versions,
    "tensor": importlib.import_module("statezoo.core.autograd.tensor"),  # core.tensor is the function
}


def _names() -> list[str]:
    """Return the names and files on the page: words joined by dots or slashes, outside code blocks."""
    prose = re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL)
    return sorted(set(re.findall(r"`([\w./]+[./][\w./]*)`", prose)))


@pytest.mark.parametrize("name", _names())
def test_every_name_on_the_page_exists(name: str) -> None:
    if "/" in name:
        assert (ROOT / name).exists()
    else:
        owner, *attributes = name.split(".")
        found = OWNERS[owner]
        for attribute in attributes:
            found = getattr(found, attribute)


def test_the_page_names_what_it_explains() -> None:
    assert {"Tensor.backward", "tape.run_backward", "tape.record", "functional.linear"} <= set(_names())


def test_the_example_prints_what_the_page_shows(capsys: pytest.CaptureFixture[str]) -> None:
    code, shown = re.findall(r"```(?:python|text)\n(.*?)```", PAGE, re.DOTALL)
    exec(code, {})
    assert capsys.readouterr().out == shown
