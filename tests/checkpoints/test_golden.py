"""Files of every on-disk version load for ever, and the version is not changed unawares."""

import importlib.util
from pathlib import Path
from types import ModuleType

import h5py
import numpy as np
import pytest

from statezoo.checkpoints import inspect, load_file, read_metadata, save_file
from statezoo.checkpoints.testing import compare_states

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def make_golden() -> ModuleType:
    specification = importlib.util.spec_from_file_location("make_golden", HERE / "make_golden.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture
def golden(suffix: str) -> Path:
    return HERE / "golden" / f"version1{suffix}"


def test_the_golden_file_of_version_1_loads_as_it_was_saved(golden: Path, make_golden: ModuleType):
    state = make_golden.golden_state()
    loaded = load_file(golden)
    assert list(compare_states(state, loaded)) == []
    assert read_metadata(golden) == make_golden.METADATA
    assert loaded["tied.weight"] is loaded["fc1.weight"]
    loaded["overlapping.a"][3] = 99
    assert loaded["overlapping.b"][0] == 99
    assert np.shares_memory(loaded["turned"], loaded["turned.row"])


def test_the_golden_files_have_the_fingerprint_that_version_1_gives_their_content(golden: Path):
    assert inspect(golden).fingerprint == FINGERPRINT


FINGERPRINT = "99749d209c0b6d89d5773b76653b6b9a"


def test_todays_writer_gives_the_same_bytes_as_the_golden_file(golden: Path, make_golden: ModuleType, tmp_path: Path):
    if golden.suffix == ".h5" and h5py.version.hdf5_version_tuple[0] != 2:
        pytest.skip("the structure of the golden file was written by libhdf5 2")
    save_file(make_golden.golden_state(), tmp_path / golden.name, make_golden.METADATA)
    assert (tmp_path / golden.name).read_bytes() == golden.read_bytes()
