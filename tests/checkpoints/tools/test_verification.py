"""verify() and fingerprint(): what they report, for which files, and how little memory they take."""

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from statezoo.checkpoints import CorruptError, FormatError, MissingFileError, fingerprint, load_file, save_file, verify

WEIGHT = np.arange(12.0).reshape(3, 4)
PARTS = np.arange(1, 11, dtype=np.float32)
STATE = {
    "weight": WEIGHT,
    "tied": WEIGHT,
    "x._extra_state": {"steps": 3},
    "view": WEIGHT.T,
    "low": PARTS[:6],
    "high": PARTS[4:],
    "empty": np.zeros((0, 3)),
    "bias": np.full(2, 7, np.int8),
}


def flipped(path: Path, content: np.ndarray) -> None:
    """Flip a bit of an array in a file."""
    data = bytearray(path.read_bytes())
    data[data.index(content.tobytes())] ^= 1
    path.write_bytes(data)


def test_an_intact_file_is_verified(path: Path):
    save_file(STATE, path)
    found = verify(path)
    assert (found.checked, found.intact, found.damaged, found.affected) == (True, True, (), {})
    assert (found.tensors, found.size_bytes) == (4, 96 + 40 + 2)
    assert str(found) == f"{path}: verified: yes, 4 tensors, 138 bytes\nfingerprint {fingerprint(path)}"


def test_a_damaged_tensor_is_named_with_every_name_that_shares_its_memory(path: Path):
    save_file(STATE, path)
    flipped(path, WEIGHT)
    found = verify(path)
    assert (found.intact, found.damaged) == (False, ("weight",))
    assert found.affected == {"tied": "weight", "view": "weight"}
    assert str(found).splitlines() == [
        f"{path}: damaged: the bytes of 1 of 4 tensors are not those that were written",
        "  weight",
        "  tied    shares the memory of weight",
        "  view    shares the memory of weight",
        "Use another copy of the file, or save its intact tensors with checkpoints.repair().",
    ]
    assert json.loads(json.dumps(found.as_dict()))["affected"]["view"] == "weight"


def test_damage_in_memory_shared_by_slices_names_the_slices(path: Path):
    save_file(STATE, path)
    flipped(path, PARTS)
    assert verify(path).affected == {"low": "statezoo.storage.0", "high": "statezoo.storage.0"}


def test_control_characters_in_names_are_escaped(path: Path):
    save_file({"\x1b[2J": WEIGHT}, path)
    flipped(path, WEIGHT)
    assert "\x1b" not in str(verify(path))


def test_a_foreign_file_is_valid_but_not_verified(tmp_path: Path):
    path = tmp_path / "x.safetensors"
    safetensors.numpy.save_file({"x": np.ones(3)}, path)
    found = verify(path)
    assert (found.checked, found.intact, found.fingerprint) == (False, True, None)
    assert str(found) == (
        f"{path}: verified: no (no digests: written by another library). Its structure is valid: 1 tensor, 24 bytes."
    )


def test_a_file_that_is_not_a_checkpoint_raises(path: Path):
    with pytest.raises(MissingFileError):
        verify(path)
    path.write_bytes(b"<html>")
    with pytest.raises(CorruptError, match="HTML"):
        verify(path)
    with pytest.raises(FormatError, match="names no format"):
        verify(path.with_suffix(".txt"))


def test_bytes_and_open_files_are_verified(path: Path):
    save_file(STATE, path)
    with open(path, "rb") as file:
        assert verify(file).intact
    assert verify(path.read_bytes()).intact


def test_progress_counts_every_byte_once(path: Path):
    save_file({"large": np.arange(1_000_000.0), "small": np.ones(3)}, path)
    done: list[int] = []
    verify(path, progress=done.append)
    assert sum(done) == 8_000_024
    assert len(done) > 10


def test_a_large_tensor_is_verified_in_little_memory(path: Path):
    save_file({"large": np.zeros(4_000_000)}, path)
    tracemalloc.start()
    try:
        assert verify(path).intact
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()


def test_files_arrays_and_foreign_files_of_one_state_have_one_fingerprint(tmp_path: Path):
    made = fingerprint(STATE)
    for suffix in (".safetensors", ".h5"):
        path = tmp_path / f"state{suffix}"
        save_file(STATE, path, {"metadata": "are no part of it"})
        assert fingerprint(path) == fingerprint(load_file(path)) == fingerprint(path.read_bytes()) == made
    plain = {"a": WEIGHT, "b": np.ones(3, np.float32)}
    safetensors.numpy.save_file(plain, tmp_path / "plain.safetensors")
    done: list[int] = []
    foreign = fingerprint(tmp_path / "plain.safetensors", progress=done.append)
    in_its_order = load_file(tmp_path / "plain.safetensors")
    assert foreign == fingerprint(in_its_order)
    assert sum(done) == 96 + 12


def test_a_sharded_checkpoint_has_the_same_fingerprint(tmp_path: Path):
    save_file(STATE, tmp_path / "model.safetensors", max_shard_size=100)
    assert not (tmp_path / "model.safetensors").exists()
    assert fingerprint(tmp_path / "model.safetensors") == fingerprint(STATE)
    assert verify(tmp_path / "model.safetensors.index.json").intact


@given(st.data())
def test_a_changed_bit_name_shape_or_tie_changes_the_fingerprint(data: st.DataObject):
    change = data.draw(st.sampled_from(["bit", "name", "shape", "dtype", "tie", "order", "extra"]))
    other = dict(STATE)
    if change == "bit":
        raw = bytearray(WEIGHT.tobytes())
        raw[data.draw(st.integers(0, 95))] ^= 1 << data.draw(st.integers(0, 7))
        weight = np.frombuffer(raw, np.float64).reshape(3, 4)
        other |= {"weight": weight, "tied": weight, "view": weight.T}
    elif change == "name":
        other = {("renamed" if name == "bias" else name): value for name, value in STATE.items()}
    elif change == "shape":
        other["bias"] = STATE["bias"].reshape(1, 2)
    elif change == "dtype":
        other["bias"] = STATE["bias"].view(np.uint8)
    elif change == "tie":
        other["tied"] = WEIGHT.copy()
    elif change == "order":
        other = dict(reversed(STATE.items()))
    else:
        other["x._extra_state"] = {"steps": 3.0}
    assert fingerprint(other) != fingerprint(STATE)


def test_an_entry_that_cannot_be_read_is_listed_with_the_reason(tmp_path: Path):
    header = {"good": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}
    header |= {"odd": {"dtype": "F3", "shape": [1], "data_offsets": [1, 2]}}
    text = json.dumps(header).encode()
    (tmp_path / "x.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + b"ab")
    found = verify(tmp_path / "x.safetensors")
    assert (found.checked, found.intact, list(found.unsupported)) == (False, True, ["odd"])
    assert str(found).endswith("\n  odd  unsupported  " + found.unsupported["odd"])
