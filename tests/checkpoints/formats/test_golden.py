"""Files of every on-disk version load, and the version does not change by accident."""

import importlib.util
from pathlib import Path
from types import ModuleType

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


WRITTEN_TODAY = ["version1.safetensors", "version2.h5"]
# The first writer of version 1 also named views in the metadata, as if they were ties.
GOLDEN = ["version1-names-views.safetensors", *WRITTEN_TODAY]
FINGERPRINT = "99749d209c0b6d89d5773b76653b6b9a"


@pytest.mark.parametrize("file", GOLDEN)
def test_the_golden_file_of_every_version_loads_the_saved_state(file: str, make_golden: ModuleType):
    state = make_golden.golden_state()
    loaded = load_file(HERE / "golden" / file)
    assert list(compare_states(state, loaded)) == []
    assert read_metadata(HERE / "golden" / file) == make_golden.METADATA
    assert loaded["tied.weight"] is loaded["fc1.weight"]
    loaded["overlapping.a"][3] = 99
    assert loaded["overlapping.b"][0] == 99
    assert np.shares_memory(loaded["turned"], loaded["turned.row"])


@pytest.mark.parametrize("file", GOLDEN)
def test_the_fingerprints_of_golden_files_match_their_content(file: str):
    assert inspect(HERE / "golden" / file).fingerprint == FINGERPRINT


@pytest.mark.parametrize("file", WRITTEN_TODAY)
def test_the_current_writer_gives_the_same_bytes_as_the_golden_file(file: str, make_golden: ModuleType, tmp_path: Path):
    save_file(make_golden.golden_state(), tmp_path / file, make_golden.METADATA)
    assert (tmp_path / file).read_bytes() == (HERE / "golden" / file).read_bytes()
