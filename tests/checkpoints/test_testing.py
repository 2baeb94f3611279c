"""assert_roundtrip() and compare_states(): which differences they report, and how."""

from typing import Any

import numpy as np
import pytest

from statezoo import core
from statezoo.checkpoints import files, load_file
from statezoo.checkpoints.reading import lazy
from statezoo.checkpoints.reading.lazy import load_state
from statezoo.checkpoints.testing import assert_roundtrip, compare_states


def test_assert_roundtrip_passes_for_a_model_and_leaves_it_unchanged():
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


def test_assert_roundtrip_reports_thirty_of_thousands_of_differences(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(files, "load_file", lambda path: {str(number): np.ones(2) for number in range(2000)})
    with pytest.raises(AssertionError, match=r"in .h5: and 3,9\d\d more") as caught:
        assert_roundtrip({str(number): np.zeros(2) for number in range(2000)})
    assert len(str(caught.value)) < 8000


def test_assert_roundtrip_reports_differences_along_with_a_load_that_fails(monkeypatch: pytest.MonkeyPatch):
    def wrong(*arguments: Any) -> dict[str, Any]:
        return {name: array[None] for name, array in load_state(*arguments).items()}

    for module in (files, lazy):
        monkeypatch.setattr(module, "load_state", wrong)
    with pytest.raises(AssertionError) as caught:
        assert_roundtrip(core.Linear(1, 1))
    assert "'bias': was F32 (1,), now F32 (1, 1)" in str(caught.value)
    assert "does not fit Linear" in str(caught.value)


def test_assert_roundtrip_reports_a_model_whose_state_changes_when_it_is_loaded():
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
        AssertionError, match=r"Forgetful does not survive.*\n.*'_extra_state': the extra state was 3, now 0"
    ):
        assert_roundtrip(Forgetful())


def test_assert_roundtrip_reports_a_value_that_no_file_can_hold():
    with pytest.raises(AssertionError, match=r"in .h5: tensor 'x' has the dtype object"):
        assert_roundtrip({"x": np.array([None])})


def test_states_are_compared_by_names_dtypes_shapes_bits_and_sharing():
    weight = np.arange(3.0)
    before = {"a": weight, "b": weight}
    assert next(compare_states(before, {"b": weight, "a": weight})) == (
        "the order of names changed: number 0 was 'a', now 'b'"
    )
    assert next(compare_states(before, {"a": weight, "c": weight})) == ("names lost: ['b']; names added: ['c']")
    assert next(compare_states(before, {"a": weight, "b": weight.copy()})) == (
        "'b': tied to 'a' before, its own memory after"
    )
    assert next(compare_states({"a": weight}, {"a": weight.astype("f4")})) == "'a': was F64 (3,), now F32 (3,)"
    assert "1 of 1 values differ" in next(compare_states({"a": np.array(0.0)}, {"a": np.array(-0.0)}))
    assert "'a': the extra state" in next(compare_states({"a._extra_state": 1}, {"a._extra_state": weight})).replace(
        "a._extra_state", "a"
    )
