"""No file can do harm: each hostile file is an error that names the file and the cause, in little time and memory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from corpus.hostile_file import HostileFile
from corpus.make_corpus import CORPUS, make_corpus
from corpus.other_files import marker_of
from hostile_campaign import Read, problems_of, read_all
from read_corpus import WAYS

# One group: otherwise each worker of pytest-xdist would read the whole corpus.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("hostile")]

OTHERS = [way for way in WAYS if way != "load_file"]


def ways_of(hostile: HostileFile) -> list[str]:
    """Return the ways to read a file: all, or two if each takes a libhdf5 process (`make hostile` uses all)."""
    if hostile.suffix == ".h5":
        return ["load_file", OTHERS[CORPUS.index(hostile) % len(OTHERS)]]
    return list(WAYS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    make_corpus(folder)
    return folder


@pytest.fixture(scope="module")
def outcomes(folder: Path) -> dict[Read, dict[str, Any]]:
    return read_all([(str(folder / hostile.file_name), way) for hostile in CORPUS for way in ways_of(hostile)])


@pytest.mark.parametrize("hostile", CORPUS, ids=lambda hostile: hostile.title)
def test_a_hostile_file_is_an_error_that_names_it_and_the_cause_and_does_no_harm(
    hostile: HostileFile, folder: Path, outcomes: dict[Read, dict[str, Any]]
):
    reads = [(str(folder / hostile.file_name), way) for way in ways_of(hostile)]
    problems = {read[1]: [*problems_of(hostile, read, outcomes[read])] for read in reads}
    assert not any(problems.values()), problems


def test_no_pickle_is_ever_loaded(folder: Path, outcomes: dict[Read, dict[str, Any]]):
    assert outcomes
    assert not marker_of(folder).exists()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs limits on processes")
@pytest.mark.parametrize(("kind", "amount"), [("RLIMIT_AS", 3 << 30), ("RLIMIT_CPU", 4)])
def test_an_h5py_file_is_read_within_the_limits_of_the_user(kind: str, amount: int, tmp_path: Path):
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file["x"] = np.zeros(1 << 22)  # so large that more would be allowed
    limit = f"import resource; resource.setrlimit(resource.{kind}, ({amount}, {amount}))"
    load = f"from statezoo.checkpoints import load_file; print(*load_file({str(path)!r}))"
    done = subprocess.run([sys.executable, "-c", f"{limit}; {load}"], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("x\n", "")
