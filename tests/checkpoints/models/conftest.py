"""PyTorch, and models of it. Modules of this folder import each other by bare names."""

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def torch() -> Any:
    return pytest.importorskip("torch")
