"""The script in examples/ learns on statezoo and, with only its imports changed, on PyTorch."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "examples" / "pytorch_script.py"
IMPORTS = {
    "import statezoo.core as torch\n": "import torch\n",
    "import statezoo.core as nn\n": "import torch.nn as nn\n",
    "import statezoo.core.nn.functional as F\n": "import torch.nn.functional as F\n",
}


def run(source: str) -> list[str]:
    """The output of the script."""
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def require_learned(lines: list[str]) -> None:
    losses = [float(line.split()[-1]) for line in lines[:-1]]
    assert len(losses) == 10
    assert losses[-1] < losses[0] / 2
    _, accuracy, *_, count, _ = lines[-1].split()
    assert float(accuracy) >= 0.95
    assert int(count) == 2 * 32 + 32 + 32 * 2 + 2


def test_the_script_learns_on_statezoo():
    require_learned(run(SCRIPT.read_text(encoding="utf-8")))


@pytest.mark.torch
def test_the_script_learns_on_pytorch_with_only_its_imports_changed():
    source = SCRIPT.read_text(encoding="utf-8")
    for ours, theirs in IMPORTS.items():
        assert source.count(f"\n{ours}") == 1
        source = source.replace(f"\n{ours}", f"\n{theirs}")
    assert "statezoo." not in source
    require_learned(run(source))
