"""Every contract test runs over both formats: `path` is a path that does not exist yet, once for each suffix."""

from pathlib import Path

import pytest


@pytest.fixture(params=[".safetensors", ".h5"])
def suffix(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def path(tmp_path: Path, suffix: str) -> Path:
    return tmp_path / f"state{suffix}"
