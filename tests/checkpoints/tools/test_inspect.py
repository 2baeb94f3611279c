"""inspect() and assert_roundtrip(): what they show."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from xxhash import xxh3_128_hexdigest

from statezoo import core
from statezoo.checkpoints import files, inspect, load_file, save_file
from statezoo.checkpoints.reading import lazy
from statezoo.checkpoints.reading.lazy import load_state
from statezoo.checkpoints.testing import assert_roundtrip, compare_states


def test_inspect_shows_names_dtypes_shapes_ties_sizes_and_metadata(path: Path):
    weight = np.zeros((3, 4), np.float32)
    state = {"a": weight, "_extra_state": {"n": 1}, "tied": weight, "view": weight.T, "b": np.zeros(2, np.int8)}
    save_file(state, path, {"epoch": "7"})
    info = inspect(path)
    assert info.names == ["a", "tied", "view", "b"]
    assert [(t.dtype, t.shape, t.size_bytes, t.shares_with, t.view) for t in info.tensors] == [
        ("F32", (3, 4), 48, None, False),
        ("F32", (3, 4), 48, "a", False),
        ("F32", (4, 3), 48, "a", True),
        ("I8", (2,), 2, None, False),
    ]
    assert (info.stored_bytes, info.file_bytes) == (50, path.stat().st_size)
    assert (info.metadata, info.extra) == ({"epoch": "7"}, {"_extra_state": {"n": 1}})
    assert info.format == {".h5": "hdf5"}.get(path.suffix, "safetensors")
    digests = [xxh3_128_hexdigest(bytes(48)), None, None, xxh3_128_hexdigest(bytes(2))]
    assert [tensor.digest for tensor in info.tensors] == digests
    assert info.fingerprint is not None
    assert len(info.fingerprint) == 32
    assert json.loads(json.dumps(info.as_dict()))["tensors"][2]["shares_with"] == "a"


def test_inspect_as_text_has_a_line_for_each_tensor_and_hides_control_characters(path: Path):
    weight = np.zeros((3, 4), np.float32)
    save_file({"a": weight, "t": weight.T, "tied": weight, "\x1b[2J": np.ones(1)}, path, {"note": "one\ntwo"})
    lines = str(inspect(path)).splitlines()
    assert lines[0].startswith(f"{path}: ")
    assert lines[1].startswith("fingerprint ")
    assert [line.split()[0] for line in lines[2:6]] == ["a", "t", "tied", r"'\x1b[2J'"]
    assert lines[2].endswith(f"  48  {xxh3_128_hexdigest(bytes(48))}")
    assert lines[3].endswith("view of a")
    assert lines[4].endswith("tied to a")
    assert lines[6] == r"metadata note: 'one\ntwo'"


def test_inspect_of_an_empty_state_is_text_too(path: Path):
    save_file({}, path)
    assert "0 tensors, 0 bytes" in str(inspect(path))


def test_inspect_of_another_writers_file_says_that_it_has_no_digests(tmp_path: Path):
    import safetensors.numpy

    safetensors.numpy.save_file({"x": np.ones(1)}, tmp_path / "x.safetensors")
    assert "verified: no (no digests: written by another library)" in str(inspect(tmp_path / "x.safetensors"))


def test_inspect_reads_no_tensor(path: Path):
    save_file({"x": np.ones(100_000)}, path)
    content = path.read_bytes()
    path.write_bytes(content.replace(np.ones(1000).tobytes(), bytes(8000), 1))
    assert inspect(path).names == ["x"]


def test_assert_roundtrip_passes_for_a_model_and_leaves_it_as_it_is():
    model = core.Sequential(core.Linear(3, 2), core.BatchNorm1d(2))
    before = {name: np.array(array) for name, array in model.state_dict().items()}
    assert_roundtrip(model)
    assert list(compare_states(before, model.state_dict())) == []


def test_assert_roundtrip_reports_each_tensor_that_differs(monkeypatch: pytest.MonkeyPatch):
    def wrong(path: str) -> dict[str, Any]:
        state = load_file(path)
        state["layer.bad"][1] = 99
        return state

    monkeypatch.setattr(files, "load_file", wrong)
    with pytest.raises(AssertionError) as caught:
        assert_roundtrip({"good": np.zeros(2), "layer.bad": np.zeros(3)})
    text = str(caught.value)
    assert text.startswith("the state does not survive a save and a load:\n")
    assert "in .safetensors: 'layer.bad': 1 of 3 values differ, the first at (1,): 0.0, now 99.0" in text
    assert "in .h5: 'layer.bad'" in text
    assert "good" not in text


def test_assert_roundtrip_reports_some_of_thousands_of_tensors_that_differ(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(files, "load_file", lambda path: {str(number): np.ones(2) for number in range(2000)})
    with pytest.raises(AssertionError, match=r"in .h5: and 3,9\d\d more") as caught:
        assert_roundtrip({str(number): np.zeros(2) for number in range(2000)})
    assert len(str(caught.value)) < 8000


def test_assert_roundtrip_reports_what_differs_besides_a_load_that_fails(monkeypatch: pytest.MonkeyPatch):
    def wrong(reader: Any, mmap: Any, skip_unsupported: bool = False) -> dict[str, Any]:
        return {name: array[None] for name, array in load_state(reader, mmap).items()}

    for module in (files, lazy):
        monkeypatch.setattr(module, "load_state", wrong)
    with pytest.raises(AssertionError) as caught:
        assert_roundtrip(core.Linear(1, 1))
    assert "'bias': was F32 (1,), and is F32 (1, 1)" in str(caught.value)
    assert "does not fit Linear" in str(caught.value)


def test_assert_roundtrip_reports_a_model_whose_state_changes_by_loading():
    class Forgetful(core.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = core.Parameter(np.ones(2))
            self.steps = 3

        def get_extra_state(self) -> int:
            return self.steps

        def set_extra_state(self, state: Any) -> None:
            self.steps = 0

    with pytest.raises(
        AssertionError, match=r"Forgetful does not survive.*\n.*'_extra_state': the extra state was 3, and is 0"
    ):
        assert_roundtrip(Forgetful())


def test_assert_roundtrip_reports_a_value_that_no_file_can_hold():
    with pytest.raises(AssertionError, match=r"in .h5: tensor 'x' has the dtype object"):
        assert_roundtrip({"x": np.array([None])})


def test_states_are_compared_in_names_dtypes_shapes_bits_and_sharing():
    weight = np.arange(3.0)
    before = {"a": weight, "b": weight}
    assert next(compare_states(before, {"b": weight, "a": weight})) == (
        "the names are in another order: number 0 was 'a', and is 'b'"
    )
    assert next(compare_states(before, {"a": weight, "c": weight})) == (
        "the names that are lost: ['b']; that are new: ['c']"
    )
    assert next(compare_states(before, {"a": weight, "b": weight.copy()})) == (
        "'b': tied to 'a' before, memory of its own after"
    )
    assert next(compare_states({"a": weight}, {"a": weight.astype("f4")})) == "'a': was F64 (3,), and is F32 (3,)"
    assert "1 of 1 values differ" in next(compare_states({"a": np.array(0.0)}, {"a": np.array(-0.0)}))
    assert "'a': the extra state" in next(compare_states({"a._extra_state": 1}, {"a._extra_state": weight})).replace(
        "a._extra_state", "a"
    )
