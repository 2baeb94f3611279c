"""diff(): the differences it finds between states, in files of either format and in memory, and their text."""

import itertools
import json
import tracemalloc
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from statezoo.checkpoints import (
    CorruptError,
    Deferred,
    MissingFileError,
    diff,
    fingerprint,
    load_file,
    open_checkpoint,
    save_file,
)
from statezoo.checkpoints.tools.compare.difference import Difference, TieChange

WEIGHT = np.arange(1, 13.0).reshape(3, 4)
STATE: dict[str, Any] = {"weight": WEIGHT, "tied": WEIGHT, "view": WEIGHT.T, "bias": np.ones(3, np.float32)}


def only(found: Difference) -> Any:
    """The one tensor that changed."""
    (change,) = found.tensors
    return change


def test_a_state_compares_equal_in_both_formats_in_shards_and_in_memory(tmp_path: Path):
    save_file(STATE, tmp_path / "a.safetensors")
    save_file(STATE, tmp_path / "b.h5")
    save_file(STATE, tmp_path / "c.safetensors", max_shard_size=100)
    files = [tmp_path / name for name in ("a.safetensors", "b.h5", "c.safetensors")]
    states = [*files, STATE, load_file(files[1])]
    for a, b in itertools.product(states, states):
        found = diff(a, b)
        assert found.same
        assert found.unchanged == 4
    assert str(diff(files[0], files[1])) == f"{files[0]} -> {files[1]}\nsame: 4 tensors unchanged"


def test_equal_fingerprints_and_equal_digests_are_trusted_without_reading(tmp_path: Path):
    a, b, c = (tmp_path / name for name in ("a.safetensors", "b.h5", "c.h5"))
    save_file(STATE, a)
    save_file(STATE, b)
    save_file(STATE | {"bias": np.zeros(3, np.float32)}, c)
    a.write_bytes(a.read_bytes().replace(WEIGHT.tobytes(), bytes(96)))
    assert diff(a, b).same
    assert only(diff(a, c)).name == "bias"


def test_a_tensor_that_is_read_is_checked(tmp_path: Path):
    a, b = tmp_path / "a.safetensors", tmp_path / "b.h5"
    save_file({"x": WEIGHT}, a)
    save_file({"x": WEIGHT + 1}, b)
    a.write_bytes(a.read_bytes().replace(WEIGHT.tobytes(), bytes(96)))
    with pytest.raises(CorruptError, match=r"a\.safetensors is damaged"):
        diff(a, b)


def test_changed_values_are_measured():
    before = np.array([[3.0, 4.0], [0.0, 100.0]])
    after = np.array([[3.0, 5.0], [0.5, 99.0]])
    change = only(diff({"x": before}, {"x": after}))
    assert (change.kind, change.before.dtype, change.after.shape) == ("values", "F64", (2, 2))
    measured = change.deviation
    assert (measured.differing, measured.size) == (3, 4)
    assert (measured.max_absolute, measured.max_relative) == (1.0, 1.0)
    expected = float((before * after).sum() / np.linalg.norm(before) / np.linalg.norm(after))
    assert measured.cosine == pytest.approx(expected)


def test_bits_are_compared_rather_than_values():
    zeros = diff({"x": np.array([0.0, 1.0])}, {"x": np.array([-0.0, 1.0])})
    assert (only(zeros).deviation.differing, only(zeros).deviation.max_absolute) == (1, 0.0)
    payloads = [np.array([0x7FF8000000000000 + n, 0], np.uint64).view(np.float64) for n in (0, 1)]
    change = only(diff({"x": payloads[0]}, {"x": payloads[1]}))
    assert (change.deviation.differing, change.deviation.max_absolute, change.deviation.cosine) == (1, 0.0, None)
    assert diff({"x": payloads[0]}, {"x": payloads[0].copy()}).same


@pytest.mark.parametrize("after", [[1.0, np.nan], [1.0, np.inf], [1.0, -np.inf]])
def test_a_value_that_becomes_infinite_or_nan_is_infinitely_far(after: list[float]):
    found = diff({"x": np.array([1.0, 2.0])}, {"x": np.array(after)})
    measured = only(found).deviation
    assert (measured.differing, measured.max_absolute, measured.max_relative) == (1, np.inf, np.inf)
    assert measured.cosine is None
    assert json.loads(json.dumps(found.as_dict(), allow_nan=False))["tensors"][0]["deviation"]["max_absolute"] is None


@pytest.mark.parametrize("dtype", ["?", "u1", "i8", "u8", "f2", ">f4", "c8", "c16", "bfloat16", "float8_e5m2"])
def test_every_dtype_is_measured(dtype: str):
    kind = np.dtype(getattr(ml_dtypes, dtype) if dtype.startswith(("b", "fl")) else dtype)
    found = diff({"x": np.array([1, 0, 1]).astype(kind)}, {"x": np.array([1, 1, 1]).astype(kind)})
    measured = only(found).deviation
    assert (measured.differing, measured.max_absolute, measured.max_relative) == (1, 1.0, 1.0)
    assert measured.cosine == pytest.approx(2 / np.sqrt(6))


def test_the_byte_order_makes_no_difference():
    assert diff({"x": WEIGHT.astype(">f8")}, {"x": np.asfortranarray(WEIGHT)}).same


def test_a_cast_is_a_change_of_dtype_and_its_error_is_measured():
    before = np.array([1.0, 0.1], np.float32)
    change = only(diff({"x": before}, {"x": before.astype(ml_dtypes.bfloat16)}))
    assert (change.kind, change.deviation.differing) == ("dtype", 1)
    assert 1e-5 < change.deviation.max_absolute < 1e-3
    assert only(diff({"x": np.ones(2)}, {"x": np.ones(2, "f4")})).deviation.differing == 0


def test_names_ties_order_and_extra_state_are_compared():
    before = {"a": WEIGHT, "b": WEIGHT, "c": np.ones(2), "gone": np.ones(1), "_extra_state": {"n": 1}}
    after = {"c": np.ones(2), "a": WEIGHT, "b": WEIGHT.copy(), "new": np.ones(1), "_extra_state": {"n": 1.0}}
    found = diff(before, after)
    assert [(change.name, change.kind) for change in found.tensors] == [("gone", "removed"), ("new", "added")]
    assert (found.ties, found.order, found.unchanged) == ((TieChange("b", "a", None),), ("a", "c"), 3)
    assert [(change.name, change.kind) for change in found.extra] == [("_extra_state", "changed")]
    assert not found.same


def test_each_new_broken_or_moved_tie_is_reported_once():
    copies = {name: WEIGHT.copy() for name in "abc"}
    tied = dict.fromkeys("abc", WEIGHT)
    assert diff(copies, tied).ties == (TieChange("b", None, "a"), TieChange("c", None, "a"))
    other = {"a": WEIGHT, "b": copies["b"], "c": copies["b"]}
    assert diff(tied, other).ties == (TieChange("b", "a", None), TieChange("c", "a", "b"))
    assert diff(tied, {"c": WEIGHT, "a": WEIGHT, "b": WEIGHT}).ties == ()


def test_a_view_of_another_part_of_the_memory_is_a_change():
    memory = np.zeros(10)
    found = diff({"x": memory, "v": memory[:4]}, {"x": memory, "v": memory[4:8]})
    assert (found.tensors, found.ties) == ((), (TieChange("v", "x", "x"),))
    assert "  ties: v is another part of its shared memory" in str(found)


def test_the_values_of_a_moved_view_are_compared_even_if_the_digest_is_equal(path: Path):
    memory = np.arange(10.0)
    save_file({"x": memory, "v": memory[:4]}, path)
    found = diff(path, {"x": memory, "v": memory[4:8]})
    assert only(found).deviation.max_absolute == 4
    other = path.with_name(f"other{path.suffix}")
    save_file({"x": memory, "v": memory[4:8]}, other)
    assert only(diff(path, other)) == only(found)


def test_states_with_different_metadata_are_the_same_and_the_metadata_is_reported(tmp_path: Path):
    a, b = tmp_path / "a.safetensors", tmp_path / "b.h5"
    save_file(STATE, a, {"epoch": "1", "old": "x"})
    save_file(STATE, b, {"epoch": "2"})
    found = diff(a, b)
    assert found.same
    assert [(change.name, change.kind) for change in found.metadata] == [("epoch", "changed"), ("old", "removed")]
    assert str(found).splitlines()[1:] == [
        "  metadata changed: epoch: '1' -> '2'",
        "  metadata removed: old: 'x'",
        "same: 4 tensors unchanged; only the metadata differs",
    ]


def test_the_text_is_a_table_sorted_by_significance_with_a_summary_line():
    before = {"same": WEIGHT, "a": np.ones(2), "b": np.ones(2), "s": np.ones(2), "d": np.ones(1), "gone": np.ones(1)}
    after = {
        "same": WEIGHT,
        "a": np.array([1, 1.25]),
        "b": np.array([1, 2.0]),
        "s": np.ones((2, 1)),
        "d": np.ones(1, np.float32),
        "\x1b[2J": np.ones(1),
    }
    assert str(diff(before, after)).splitlines() == [
        "<state> -> <state>",
        "           tensor                            differing  absolute  relative  cosine",
        "  removed  gone       F64 [1]",
        "  added    '\\x1b[2J'  F64 [1]",
        "  shape    s          F64 [2] -> F64 [2, 1]",
        "  dtype    d          F64 [1] -> F32 [1]     0 of 1     0         0         1.000000",
        "  values   b          F64 [2]                1 of 2     1         0.5       0.948683",
        "  values   a          F64 [2]                1 of 2     0.25      0.2       0.993884",
        "different: 1 removed, 1 added, 1 of another shape, 1 of another dtype, 2 of other values; 1 tensor unchanged",
    ]


def test_foreign_files_are_compared_by_their_bytes(tmp_path: Path):
    safetensors.numpy.save_file({"x": WEIGHT, "y": np.ones(2)}, tmp_path / "a.safetensors")
    safetensors.numpy.save_file({"x": WEIGHT, "y": np.zeros(2)}, tmp_path / "b.safetensors")
    found = diff(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    assert (only(found).name, found.unchanged) == ("y", 1)


def test_deferred_arrays_and_open_checkpoints_are_compared_as_states(path: Path):
    save_file(STATE, path)
    with open_checkpoint(path) as checkpoint:
        assert diff(checkpoint, STATE).same
        assert diff(checkpoint, path).same
        checkpoint["weight"][0]  # still open
    assert diff({"x": Deferred((3, 4), np.float64, lambda: WEIGHT)}, {"x": WEIGHT}).same


def test_a_missing_file_raises(path: Path):
    with pytest.raises(MissingFileError):
        diff(STATE, path)


def test_progress_counts_the_bytes_compared(path: Path):
    save_file({"x": WEIGHT, "tied": WEIGHT, "same": np.ones(5)}, path)
    done: list[int] = []
    other = WEIGHT + 1
    diff(path, {"x": other, "tied": other, "same": np.ones(5)}, progress=done.append)
    assert sum(done) == 96 + 40


def test_large_tensors_are_compared_in_little_memory(tmp_path: Path):
    a, b = tmp_path / "a.safetensors", tmp_path / "b.h5"
    save_file({"x": np.zeros((1, 3_000_000))}, a)
    save_file({"x": np.ones((1, 3_000_000))}, b)
    tracemalloc.start()
    try:
        assert only(diff(a, b)).deviation.differing == 3_000_000
        assert tracemalloc.get_traced_memory()[1] < 12_000_000
    finally:
        tracemalloc.stop()


ARRAYS = npst.arrays(st.sampled_from(["f4", "f8", "i2", "c8"]), npst.array_shapes(max_dims=2, max_side=3))


@given(st.dictionaries(st.sampled_from("abcd"), ARRAYS), st.data())
def test_two_states_are_the_same_exactly_when_their_fingerprints_are_equal(before: dict[str, Any], data: st.DataObject):
    after = dict(before)
    for name in data.draw(st.lists(st.sampled_from("abcd"), max_size=2)):
        known = [array for array in before.values() if isinstance(array, np.ndarray)]
        new = data.draw(st.one_of(ARRAYS, st.sampled_from(known)) if known else ARRAYS)
        after[name] = data.draw(st.sampled_from([new, new.copy(), new.T]))
    found = diff(before, after)
    assert found.same == (fingerprint(before) == fingerprint(after))
    assert found.unchanged + sum(change.kind != "added" for change in found.tensors) == len(before)
    str(found)


@given(npst.arrays("f8", 5), npst.arrays("f8", 5))
def test_the_measured_errors_equal_those_of_numpy(a: np.ndarray, b: np.ndarray):
    found = diff({"x": a}, {"x": b})
    different = a.view(np.uint64) != b.view(np.uint64)
    assert found.same == (not different.any())
    if different.any() and np.isfinite([a, b]).all():
        with np.errstate(all="ignore"):
            error = np.abs(a - b)
        assert only(found).deviation.max_absolute == error.max()
        assert only(found).deviation.differing == different.sum()
        assert 0 <= only(found).deviation.max_relative <= 2 or np.isinf(error.max())
