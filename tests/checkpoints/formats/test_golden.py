"""Files of every on-disk version load, and the version does not change by accident."""

import importlib.util
import shutil
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from statezoo.checkpoints import (
    CorruptError,
    convert,
    diff,
    fingerprint,
    inspect,
    load_file,
    open_checkpoint,
    read_metadata,
    save_file,
    verify,
)
from statezoo.checkpoints.runs.history.linked import save_linked
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


WRITTEN_TODAY = ["version2.safetensors", "version3.h5", "version1.npz"]
# The first writer of version 1 also named views in the metadata, as if they were ties.
GOLDEN = ["version1-names-views.safetensors", "version1.safetensors", "version2.h5", *WRITTEN_TODAY]
FINGERPRINT = "99749d209c0b6d89d5773b76653b6b9a"
LARGE = ["version2-blocks.safetensors", "version3-blocks.h5", "version1-blocks.npz", "version2-sharded.safetensors"]
LARGE_FINGERPRINT = "805373c90549f57c054c65c9beb7955c"


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


@pytest.mark.parametrize("file", LARGE)
def test_golden_files_with_tensors_of_several_blocks_load_the_saved_state(file: str, make_golden: ModuleType):
    path = HERE / "golden" / file
    assert list(compare_states(make_golden.large_state(), load_file(path))) == []
    assert read_metadata(path) == make_golden.FORMAT
    assert verify(path).intact
    with open_checkpoint(path) as checkpoint:
        assert checkpoint["large"][-3:].tolist() == [34, 34, 34]
        assert checkpoint["reversed"][:2].tolist() == [34, 34]


@pytest.mark.parametrize("file", [*GOLDEN, *LARGE])
def test_the_fingerprints_of_golden_files_match_their_content(file: str, make_golden: ModuleType):
    state, expected = make_golden.golden_state(), FINGERPRINT
    if file in LARGE:
        state, expected = make_golden.large_state(), LARGE_FINGERPRINT
    assert inspect(HERE / "golden" / file).fingerprint == fingerprint(state) == expected


@pytest.mark.parametrize("file", WRITTEN_TODAY)
def test_the_current_writer_gives_the_same_bytes_as_the_golden_file(file: str, make_golden: ModuleType, tmp_path: Path):
    save_file(make_golden.golden_state(), tmp_path / file, make_golden.METADATA)
    assert (tmp_path / file).read_bytes() == (HERE / "golden" / file).read_bytes()


def test_the_current_writer_gives_the_same_large_golden_files(make_golden: ModuleType, tmp_path: Path):
    for file in make_golden.LARGE:
        save_file(make_golden.large_state(), tmp_path / file, make_golden.FORMAT)
    sharded = tmp_path / make_golden.SHARDED
    save_file(make_golden.large_state(), sharded, make_golden.FORMAT, max_shard_size=make_golden.LARGE_BYTES)
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (HERE / "golden" / path.name).read_bytes()


def test_golden_files_of_all_versions_are_equal_and_convert_to_the_same_bytes(tmp_path: Path):
    for file in GOLDEN:
        assert diff(HERE / "golden" / file, HERE / "golden" / "version2.safetensors").same
        convert(HERE / "golden" / file, tmp_path / "x.safetensors")
        assert (tmp_path / "x.safetensors").read_bytes() == (HERE / "golden" / "version2.safetensors").read_bytes()


@pytest.mark.parametrize("file", ["version1-medium.safetensors", "version2-medium.h5", "version1-sharded.safetensors"])
def test_older_golden_files_with_large_tensors_are_checked_and_equal_to_what_is_saved_today(
    file: str, make_golden: ModuleType, tmp_path: Path
):
    path, state = HERE / "golden" / file, make_golden.medium_state()
    assert list(compare_states(state, load_file(path))) == []
    assert read_metadata(path) == make_golden.FORMAT
    assert verify(path).checked
    assert verify(path).intact
    with open_checkpoint(path) as checkpoint:
        assert checkpoint["medium"][-3:].tolist() == [17, 17, 17]
        assert checkpoint["reversed"][:2].tolist() == [17, 17]
    save_file(state, tmp_path / "new.safetensors", make_golden.FORMAT)
    for one, other in ((path, tmp_path / "new.safetensors"), (path, state), (state, path)):
        assert diff(one, other).same
    assert inspect(path).fingerprint != fingerprint(path) == fingerprint(state)
    assert fingerprint(tmp_path / "new.safetensors") == fingerprint(state)
    convert(path, tmp_path / "converted.safetensors")
    assert (tmp_path / "converted.safetensors").read_bytes() == (tmp_path / "new.safetensors").read_bytes()


def test_damage_to_a_large_tensor_of_an_older_golden_file_is_noticed(tmp_path: Path):
    for file in ("version1-medium.safetensors", "version2-medium.h5"):
        content = bytearray((HERE / "golden" / file).read_bytes())
        content[content.index(np.full(9, 3, np.uint32).tobytes())] ^= 1
        (tmp_path / file).write_bytes(content)
        with pytest.raises(CorruptError, match="'medium'"):
            load_file(tmp_path / file)
        assert verify(tmp_path / file).damaged == ("medium",)
        with open_checkpoint(tmp_path / file) as checkpoint, pytest.raises(CorruptError, match="'medium'"):
            checkpoint["medium"][-3:]


def test_shards_of_version_1_are_shared_with_or_replaced_by_those_of_today(make_golden: ModuleType, tmp_path: Path):
    for path in (HERE / "golden").glob("version1-sharded*"):
        shutil.copy(path, tmp_path)
    state, old, new = (
        make_golden.medium_state(),
        tmp_path / "version1-sharded.safetensors",
        tmp_path / "new.safetensors",
    )
    save_linked(state, str(new), since=str(old))
    assert list(compare_states(state, load_file(new))) == []
    assert verify(new).intact
    assert inspect(new).fingerprint == fingerprint(new) == fingerprint(old)
    assert diff(old, new).same
