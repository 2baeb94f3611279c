"""convert(): the content of the target, and what happens to the target if the conversion fails."""

import pickle
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from statezoo.checkpoints import (
    CheckpointError,
    CorruptError,
    FormatError,
    UnsupportedTypeError,
    convert,
    diff,
    inspect,
    load_file,
    read_metadata,
    save_file,
)

WEIGHT = np.arange(12.0).reshape(3, 4)
PARTS = np.arange(1, 11, dtype=np.float32)
STATE: dict[str, Any] = {
    "weight": WEIGHT,
    "tied": WEIGHT,
    "x._extra_state": {"b": 3, "a": [None]},
    "view": WEIGHT.T,
    "low": PARTS[:6],
    "high": PARTS[4:],
    "empty": np.zeros((0, 3)),
    "ñ/é": np.array(7),
}
METADATA = {"epoch": "7", "note": "a\nb"}


@pytest.mark.parametrize("target", ["b.h5", "b.safetensors", "b.hdf5", "b.npz"])
def test_a_converted_file_is_complete_and_has_the_same_bytes_as_a_saved_one(path: Path, target: str):
    save_file(STATE, path, METADATA)
    convert(path, path.with_name(target))
    assert diff(path, path.with_name(target)).same
    assert read_metadata(path.with_name(target)) == METADATA
    loaded = load_file(path.with_name(target))
    assert loaded["tied"] is loaded["weight"]
    assert np.shares_memory(loaded["view"], loaded["weight"])
    assert np.shares_memory(loaded["low"], loaded["high"])
    saved = path.with_name(f"saved{path.with_name(target).suffix}")
    save_file(STATE, saved, METADATA)
    assert path.with_name(target).read_bytes() == saved.read_bytes()


def test_a_file_is_split_into_shards_and_shards_are_merged(tmp_path: Path):
    whole, sharded, merged = (tmp_path / name for name in ("a.h5", "b.safetensors", "c.h5"))
    save_file(STATE, whole, METADATA)
    convert(whole, sharded, max_shard_size=100)
    assert len(list(tmp_path.glob("b-0000?-of-0000?.safetensors"))) > 1
    assert diff(whole, sharded).same
    convert(tmp_path / "b.safetensors.index.json", merged)
    assert merged.read_bytes() == whole.read_bytes()


def test_a_file_can_be_converted_onto_itself(path: Path):
    save_file(STATE, path, METADATA)
    before = path.read_bytes()
    convert(path, path)
    assert path.read_bytes() == before


def test_a_foreign_file_gets_digests_and_keeps_its_metadata(tmp_path: Path):
    safetensors.numpy.save_file({"x": WEIGHT}, tmp_path / "a.safetensors", {"format": "np"})
    convert(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    assert inspect(tmp_path / "b.safetensors").fingerprint
    assert read_metadata(tmp_path / "b.safetensors") == {"format": "np"}


def test_complex128_is_refused_by_name_before_anything_is_written(tmp_path: Path):
    save_file({"ok": WEIGHT, "spectrum": np.array([1j])}, tmp_path / "a.h5")
    (tmp_path / "b.safetensors").write_text("old")
    with pytest.raises(UnsupportedTypeError, match="'spectrum' is complex128"):
        convert(tmp_path / "a.h5", tmp_path / "b.safetensors")
    assert (tmp_path / "b.safetensors").read_text() == "old"


@pytest.mark.parametrize("target", ["b.h5", "b.safetensors", "b.npz"])
def test_a_damaged_source_is_an_error_and_leaves_the_target_unchanged(path: Path, target: str):
    save_file(STATE, path)
    path.write_bytes(path.read_bytes().replace(WEIGHT.tobytes(), bytes(96)))
    path.with_name(target).write_text("old")
    with pytest.raises(CorruptError, match="'weight'"):
        convert(path, path.with_name(target))
    assert path.with_name(target).read_text() == "old"
    assert len(list(path.parent.iterdir())) == 2


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("model.pkl", r"names no format.*is a Python pickle, which is never loaded.*pass the arrays to save_file"),
        ("model.txt", "names no format.*It looks like text"),
    ],
)
def test_files_of_other_libraries_are_refused_with_advice(source: str, text: str, tmp_path: Path):
    content = pickle.dumps({"weight": [1.0]}) if source == "model.pkl" else b"weight = 1"
    (tmp_path / source).write_bytes(content)
    with pytest.raises(FormatError, match=text):
        convert(tmp_path / source, tmp_path / "b.h5")
    assert [path.name for path in tmp_path.iterdir()] == [source]


def test_an_unknown_target_is_refused(path: Path):
    save_file(STATE, path)
    with pytest.raises(FormatError, match="names no format"):
        convert(path, path.with_suffix(".xyz"))


def test_progress_counts_every_byte(path: Path):
    save_file(STATE, path)
    for target, size in (("b.h5", 96 + 40 + 8), ("b.npz", 96 + 40 + 8)):
        done: list[int] = []
        convert(path, path.with_name(target), progress=done.append)
        assert sum(done) == size


def test_a_missing_folder_is_a_clear_error(path: Path):
    save_file(STATE, path)
    with pytest.raises(CheckpointError, match="create it first"):
        convert(path, path.parent / "no" / "b.npz")


@pytest.mark.parametrize("target", ["b.h5", "b.npz"])
def test_tensors_are_copied_one_at_a_time(target: str, tmp_path: Path):
    save_file({f"x{number}": np.full(500_000, float(number)) for number in range(8)}, tmp_path / "a.safetensors")
    tracemalloc.start()
    try:
        convert(tmp_path / "a.safetensors", tmp_path / target)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()
