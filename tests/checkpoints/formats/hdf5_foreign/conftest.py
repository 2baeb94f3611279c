"""Files of other programs and the processes that read them. Modules of this folder import each other by bare names."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from foreign_files import PACKED, PLAIN


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    with h5py.File(tmp_path / "plain.h5", "w") as file:
        for name, values in PLAIN.items():
            file[name.replace(".", "/")] = values
    return tmp_path / "plain.h5"


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    with h5py.File(tmp_path / "packed.h5", "w") as file:
        for name, (values, options) in PACKED.items():
            fill = {"shape": values.shape, "dtype": values.dtype} if name == "unwritten" else {"data": values}
            file.create_dataset(name, **fill, **options)
    return tmp_path / "packed.h5"


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[Any]]:
    """The processes started during the test."""
    processes: list[subprocess.Popen[Any]] = []
    start = subprocess.Popen

    def noting(*arguments: Any, **options: Any) -> subprocess.Popen[Any]:
        processes.append(start(*arguments, **options))
        return processes[-1]

    monkeypatch.setattr(subprocess, "Popen", noting)
    return processes
