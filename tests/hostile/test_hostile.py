"""No file can harm: each of a corpus is an error that names it and the cause, soon, in little memory, and alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hostile_campaign import Read, problems_of, read_all
from hostile_file import HostileFile
from make_corpus import CORPUS, make_corpus
from other_files import marker_of
from read_corpus import WAYS

pytestmark = pytest.mark.slow

OTHERS = [way for way in WAYS if way != "load_file"]


def ways_of(hostile: HostileFile) -> list[str]:
    """Return the ways to read a file in: all, but two where each takes a process of libhdf5 (`make hostile`: all)."""
    if hostile.suffix == ".h5":
        return ["load_file", OTHERS[CORPUS.index(hostile) % len(OTHERS)]]
    return [*WAYS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    make_corpus(folder)
    return folder


@pytest.fixture(scope="module")
def outcomes(folder: Path) -> dict[Read, dict[str, Any]]:
    return read_all([(str(folder / hostile.file_name), way) for hostile in CORPUS for way in ways_of(hostile)])


@pytest.mark.parametrize("hostile", CORPUS, ids=lambda hostile: hostile.title)
def test_a_hostile_file_is_an_error_that_names_it_and_its_cause_and_does_no_harm(
    hostile: HostileFile, folder: Path, outcomes: dict[Read, dict[str, Any]]
):
    reads = [(str(folder / hostile.file_name), way) for way in ways_of(hostile)]
    problems = {read[1]: [*problems_of(hostile, read, outcomes[read])] for read in reads}
    assert not any(problems.values()), problems


def test_no_pickle_is_loaded(folder: Path, outcomes: dict[Read, dict[str, Any]]):
    assert outcomes
    assert not marker_of(folder).exists()
