"""repair(): what it saves from damaged files, what it reports as lost, and that it invents nothing."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from statezoo.checkpoints import (
    CorruptError,
    FormatError,
    MissingFileError,
    diff,
    inspect,
    load_file,
    read_metadata,
    repair,
    save_file,
    verify,
)

WEIGHT = np.arange(12.0).reshape(3, 4)
PARTS = np.arange(1, 11, dtype=np.float32)
STATE: dict[str, Any] = {
    "weight": WEIGHT,
    "tied": WEIGHT,
    "x._extra_state": {"steps": 3},
    "view": WEIGHT.T,
    "low": PARTS[:6],
    "high": PARTS[4:],
    "empty": np.zeros((0, 3)),
    "fc.bias": np.full(5, 7, np.int16),
    "fc.weight": np.full(5, 3.5),
}
METADATA = {"epoch": "7"}


@pytest.fixture
def out(path: Path) -> Path:
    return path.with_name(f"out{path.suffix}")


def saved(path: Path, state: dict[str, Any] = STATE) -> bytes:
    save_file(state, path, METADATA)
    return path.read_bytes()


def flipped(data: bytes, position: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


def assert_kept(out: Path, lost: set[str]) -> None:
    """Assert that everything not lost loads and verifies with the values and sharing it had."""
    loaded = load_file(out)
    assert list(loaded) == [name for name in STATE if name not in lost]
    assert diff({name: value for name, value in STATE.items() if name not in lost}, loaded).same
    assert read_metadata(out) == METADATA
    assert verify(out).checked


def test_an_intact_file_is_copied(path: Path, out: Path):
    data = saved(path)
    found = repair(path, out)
    assert (found.lost, found.notes, found.checked, found.complete) == ({}, (), True, True)
    assert found.saved == tuple(STATE)
    assert out.read_bytes() == data
    assert str(found) == f"{path} -> {out}: 9 of 9 names saved, checked"


def test_a_damaged_tensor_is_lost_with_every_name_that_shares_its_memory(path: Path, out: Path):
    data = saved(path)
    path.write_bytes(flipped(data, data.index(WEIGHT.tobytes()) + 9))
    found = repair(path, out)
    assert_kept(out, {"weight", "tied", "view"})
    assert not found.complete
    assert found.checked
    assert str(found).splitlines() == [
        f"{path} -> {out}: 6 of 9 names saved, checked",
        "  lost  weight  its bytes are not those that were written",
        "  lost  tied    it shares the memory of weight: its bytes are not those that were written",
        "  lost  view    it shares the memory of weight: its bytes are not those that were written",
    ]
    assert json.loads(json.dumps(found.as_dict()))["complete"] is False


def test_the_report_says_which_blocks_of_a_large_tensor_are_damaged(path: Path, out: Path):
    large = np.random.default_rng(0).integers(0, 256, 4 * 65_536 + 100, np.uint8)
    save_file({"large": large, "small": WEIGHT}, path)
    data = path.read_bytes()
    start = data.index(large[:100].tobytes())
    path.write_bytes(flipped(flipped(data, start + 70_000), start + large.size - 1))
    assert repair(path, out).lost == {
        "large": "its bytes are not those that were written: 2 of its 5 blocks differ (bytes 65,536 to 131,071, "
        "262,144 to 262,243)"
    }


def test_damage_in_memory_shared_by_slices_loses_the_slices(path: Path, out: Path):
    data = saved(path)
    path.write_bytes(flipped(data, data.index(PARTS.tobytes())))
    assert repair(path, out).lost == dict.fromkeys(["low", "high"], "its bytes are not those that were written")
    assert_kept(out, {"low", "high"})


def test_the_remaining_tensors_of_a_truncated_safetensors_file_are_saved_and_checked(tmp_path: Path):
    path, out = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    data = saved(path)
    path.write_bytes(data[:-9])
    found = repair(path, out)
    assert found.lost == {"fc.bias": "the file ends 9 bytes before it does"}
    assert found.notes == (f"it was cut off: {len(data):,} bytes were written, and {len(data) - 9:,} are there",)
    assert (found.checked, found.complete) == (True, False)
    assert_kept(out, {"fc.bias"})


def test_everything_in_an_hdf5_file_without_a_footer_is_saved_and_checked(tmp_path: Path):
    path, out = tmp_path / "a.h5", tmp_path / "b.h5"
    data = saved(path)
    path.write_bytes(data[:-100])
    found = repair(path, out)
    assert (found.lost, found.checked, found.complete) == ({}, True, True)
    assert_kept(out, set())


def test_the_tensors_of_a_truncated_hdf5_file_are_saved_unchecked(tmp_path: Path):
    path, out = tmp_path / "a.h5", tmp_path / "b.h5"
    data = saved(path)
    path.write_bytes(data[: data.index(STATE["fc.bias"].tobytes())])
    found = repair(path, out)
    loaded = load_file(out)
    assert found.lost == {"fc.bias": "the file ends 10 bytes before it does"}
    assert found.notes[1] == (
        "its index is damaged or missing: nothing can be checked, and metadata, views and extra state are lost"
    )
    assert (found.checked, found.complete) == (False, False)
    assert "unchecked: there are no digests" in str(found)
    assert set(loaded) == {"weight", "tied", "empty", "fc.weight", "statezoo.storage.0"}
    assert loaded["tied"] is loaded["weight"]
    assert np.array_equal(loaded["weight"], WEIGHT)
    assert np.array_equal(loaded["fc.weight"], STATE["fc.weight"])


def test_bytes_after_the_end_are_dropped(path: Path, out: Path):
    data = saved(path)
    path.write_bytes(data + bytes(70))
    found = repair(path, out)
    assert found.notes == ("70 bytes after its end were left out",)
    assert found.complete
    assert out.read_bytes() == data


def test_a_damaged_hdf5_structure_is_rewritten(tmp_path: Path):
    path, out = tmp_path / "a.h5", tmp_path / "b.h5"
    data = saved(path)
    path.write_bytes(flipped(data, 120))
    found = repair(path, out)
    assert found.notes == ("its HDF5 structure is damaged, or was changed by another program",)
    assert found.complete
    assert out.read_bytes() == data


def test_with_a_damaged_manifest_nothing_is_checked(tmp_path: Path):
    path, out = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    data = saved(path)
    path.write_bytes(flipped(data, data.index(b"fingerprint") + 20))
    found = repair(path, out)
    assert (found.checked, found.complete) == (False, False)
    assert found.notes == (
        "its header is damaged: nothing can be checked, not even names and shapes, and views and extra state are lost",
    )
    assert "view" not in found.lost  # only the manifest names it
    loaded = load_file(out)
    assert set(loaded) == {"weight", "tied", "empty", "fc.bias", "fc.weight", "statezoo.storage.0"}
    assert loaded["tied"] is loaded["weight"]
    assert np.array_equal(loaded["weight"], WEIGHT)
    assert read_metadata(out) == METADATA


def test_every_readable_tensor_of_a_foreign_file_is_saved(tmp_path: Path):
    path, out = tmp_path / "a.safetensors", tmp_path / "b.h5"
    safetensors.numpy.save_file({"x": WEIGHT, "y": np.ones(3)}, path)
    found = repair(path, out)
    assert (found.saved, found.checked, found.complete) == (("x", "y"), False, True)
    path.write_bytes(path.read_bytes()[:-1])
    assert repair(path, out).lost == {"y": "the file ends 1 byte before it does"}
    assert list(load_file(out)) == ["x"]


def test_a_compressed_dataset_that_cannot_be_read_is_lost(tmp_path: Path):
    import h5py

    path, out = tmp_path / "a.h5", tmp_path / "b.safetensors"
    noise = np.random.default_rng(0).random(4000)
    with h5py.File(path, "w") as file:
        file.create_dataset("bad", data=noise, chunks=(4000,), fletcher32=True)
        file["good"] = WEIGHT
    data = path.read_bytes()
    path.write_bytes(flipped(data, data.index(noise.tobytes()) + 100))
    found = repair(path, out)
    assert found.saved == ("good",)
    assert found.lost["bad"].startswith("it cannot be read: ")


def test_a_file_is_replaced_only_if_it_is_the_target(path: Path, out: Path):
    data = saved(path)
    damaged = flipped(data, data.index(WEIGHT.tobytes()))
    path.write_bytes(damaged)
    repair(path, out)
    assert path.read_bytes() == damaged
    repair(path, path)
    assert path.read_bytes() == out.read_bytes()


def test_bytes_and_open_files_are_repaired(path: Path, out: Path):
    path.write_bytes(saved(path) + b"x")
    assert repair(path.read_bytes(), out).complete
    with open(path, "rb") as file:
        assert repair(file, out).complete


@pytest.mark.parametrize(("content", "text"), [(b"", "empty"), (b"<html>", "HTML"), (b"\x80\x02}", "pickle")])
def test_a_file_of_another_kind_is_refused_and_nothing_is_written(path: Path, out: Path, content: bytes, text: str):
    path.write_bytes(content)
    with pytest.raises(CorruptError, match=rf"(?s){text}.*Too much of it is damaged to be repaired\."):
        repair(path, out)
    assert not out.exists()


def test_a_missing_file_and_an_unknown_suffix_are_refused(path: Path, out: Path):
    with pytest.raises(MissingFileError):
        repair(path, out)
    with pytest.raises(FormatError, match="names no format"):
        repair(path.with_suffix(".xyz"), out)


def test_nothing_is_written_if_no_tensor_is_intact(path: Path, out: Path):
    data = saved(path, {"a": WEIGHT})
    path.write_bytes(data.replace(WEIGHT.tobytes(), bytes(96)))
    with pytest.raises(CorruptError, match=r"no tensor in .* is intact, and nothing was saved") as caught:
        repair(path, out)
    assert caught.value.tensors == ("a",)
    assert not out.exists()


def test_a_header_that_claims_far_more_data_than_the_file_has_takes_no_memory(tmp_path: Path):
    path, out = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    header = json.dumps({"x": {"dtype": "U8", "shape": [10**15], "data_offsets": [0, 10**15]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(CorruptError, match="no tensor in"):
        repair(path, out)


def test_a_damaged_sharded_checkpoint_is_repaired_as_one_file(tmp_path: Path):
    save_file(STATE, tmp_path / "model.safetensors", METADATA, max_shard_size=100)
    for shard in tmp_path.glob("model-*.safetensors"):
        shard.write_bytes(shard.read_bytes().replace(WEIGHT.tobytes(), bytes(96)))
    found = repair(tmp_path / "model.safetensors", tmp_path / "out.safetensors")
    assert set(found.lost) == {"weight", "tied", "view"}
    assert_kept(tmp_path / "out.safetensors", set(found.lost))


def test_progress_counts_the_bytes_checked_and_copied(path: Path, out: Path):
    saved(path)
    done: list[int] = []
    repair(path, out, progress=done.append)
    assert sum(done) == 2 * (96 + 40 + 10 + 40)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=20)
@given(data=st.data())
@pytest.mark.parametrize("damage", ["flip", "cut", "zeros"])
def test_a_tensor_reported_as_checked_has_the_written_bytes(
    damage: str, tmp_path: Path, suffix: str, data: st.DataObject
):
    path, out = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    content = saved(path)
    position = data.draw(st.integers(0, len(content) - 1))
    if damage == "flip":
        content = flipped(content, position)
    elif damage == "cut":
        content = content[:position]
    else:
        content = (content[:position] + bytes(40) + content[position + 40 :])[: len(content)]
    path.write_bytes(content)
    try:
        found = repair(path, out)
    except FormatError:  # CorruptError, or the error for a damaged dtype name
        return
    loaded = load_file(out)
    assert set(found.saved) == set(loaded)
    assert not found.lost.keys() & loaded.keys()
    if found.checked:
        assert set(found.saved) | set(found.lost) == set(STATE)
        assert_kept(out, set(found.lost))
    os.remove(out)


def test_a_file_that_breaks_the_rules_around_intact_tensors_is_repaired_completely(tmp_path: Path):
    header = {"__metadata__": {"epoch": 7}, "x": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]}}
    text = json.dumps(header).encode() + bytes(3)
    (tmp_path / "a.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + b"ab")
    for read in (inspect, verify):
        with pytest.raises(FormatError, match=r"breaks the rules of safetensors: .*checkpoints.repair\(\)") as caught:
            read(tmp_path / "a.safetensors")
        assert not isinstance(caught.value, CorruptError)
    found = repair(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    assert (found.saved, found.lost, found.complete) == (("x",), {}, True)
    assert [note.split(",")[0] for note in found.notes] == [
        "its header is padded with NUL characters",
        "its metadata 'epoch' is a number",
    ]
    assert load_file(tmp_path / "b.safetensors")["x"].tolist() == [97, 98]
