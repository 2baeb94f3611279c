"""Trees of NumPy arrays, and objects with state_dict() and load_state_dict(): no framework is needed."""

import copy
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn_trees import Moments, described, ties_in, trees
from hypothesis import given, settings

from statezoo.checkpoints import (
    History,
    MismatchError,
    StateError,
    UnsupportedTypeError,
    diff,
    fingerprint,
    load_file,
    load_model,
    save_file,
    save_model,
)
from statezoo.checkpoints.formats import written_formats
from statezoo.checkpoints.testing import assert_roundtrip


@settings(max_examples=60, deadline=None)
@given(tree=trees(np.asarray))
def test_any_tree_comes_back_with_its_structure_bits_and_ties(tmp_path_factory: pytest.TempPathFactory, tree: Any):
    folder = tmp_path_factory.mktemp("tree")
    other = emptied(tree)
    for form in written_formats():
        path = folder / f"tree{form.suffix}"
        save_model(tree, path)
        before = described(other)
        loaded = load_model(other, path)
        assert described(loaded) == described(tree)
        assert ties_in(loaded) == ties_in(tree)
        assert described(other) == before  # the tree that was given is unchanged
        assert fingerprint(tree) == fingerprint(path) == fingerprint(loaded)
        assert diff(tree, path).same


def emptied(tree: Any) -> Any:
    """Return a tree of the same structure with zeros, in which no two arrays are one."""
    if isinstance(tree, dict):
        return type(tree)((key, emptied(child)) for key, child in tree.items())
    if isinstance(tree, list | tuple):
        children = [emptied(child) for child in tree]
        return Moments(*children) if isinstance(tree, Moments) else type(tree)(children)
    return None if tree is None else type(tree)(0) if isinstance(tree, bool | int | float) else np.zeros_like(tree)


def test_names_join_the_keys_with_dots(path: Path):
    weight = np.ones(2)
    state = {"params": OrderedDict(w=weight, tied=weight), "moments": Moments([weight + 1], {3: weight + 2}), "step": 7}
    save_model(state, path)
    saved = load_file(path)
    assert list(saved) == ["params.w", "params.tied", "moments.mu.0", "moments.nu.3", "step"]
    assert saved["params.tied"] is saved["params.w"]
    assert saved["step"].item() == 7


def test_a_flat_dict_of_arrays_is_a_tree_too(path: Path):
    state = {"fc.weight": np.ones((2, 3), np.float32), "fc.bias": np.zeros(2, np.float32)}
    save_model(state, path)
    assert load_file(path).keys() == state.keys()
    loaded = load_model({name: np.zeros_like(array) for name, array in state.items()}, path)
    assert described(loaded) == described(state)
    assert_roundtrip(state)
    assert_roundtrip({"nested": [state, (state["fc.bias"], 3)]})


def test_two_values_of_one_name_are_refused(path: Path):
    with pytest.raises(StateError, match=r"two values in the tree have the name 'a\.b'.*Rename one of them\."):
        save_model({"a.b": np.ones(1), "a": {"b": np.ones(1)}}, path)
    with pytest.raises(StateError, match=r"two values in the tree have the name 'a\.1'"):
        save_model({"a": {"1": np.ones(1), 1: np.ones(1)}}, path)
    assert not path.exists()


def test_a_tree_that_contains_itself_is_refused(path: Path):
    tree: dict[str, Any] = {"weight": np.ones(1)}
    tree["self"] = tree
    with pytest.raises(StateError, match="nested too deeply, or contains itself"):
        save_model(tree, path)


def test_what_is_no_array_in_a_tree_is_named(path: Path):
    with pytest.raises(UnsupportedTypeError, match=r"'meta\.name' is str, not an array"):
        save_model({"meta": {"name": "net"}}, path)


def test_every_mismatch_is_in_one_error_with_near_names(path: Path):
    save_model({"layers": [{"weigth": np.ones(3)}, {"bias": np.ones((2, 2))}], "scale": np.ones(2, np.float32)}, path)
    with pytest.raises(MismatchError) as caught:
        load_model({"layers": [{"weight": np.ones(3)}, {"bias": np.ones(4)}], "scale": np.ones(2)}, path)
    text = str(caught.value)
    assert text.startswith(f"{path.name} does not fit dict; nothing was changed.")
    assert "layers.0.weight  is missing from the file" in text
    assert "layers.0.weigth  is not in the model; did you mean layers.0.weight?" in text
    assert "layers.1.bias    is (2, 2) in the file, (4,) in the model" in text
    assert "scale            is float32 in the file, float64 in the model" in text


def test_a_cast_keeps_ties(path: Path):
    weight = np.arange(3, dtype=np.float32)
    save_model([weight, weight], path)
    first, second = load_model([np.zeros(3), np.zeros(3)], path, cast=True)
    assert first is second
    assert first.dtype == np.float64
    assert first.tolist() == [0, 1, 2]


def test_copied_ties_are_apart(path: Path):
    weight = np.ones(3)
    save_model({"a": [weight, weight, weight[1:]]}, path)
    first, second, part = load_model({"a": [np.zeros(3), np.zeros(3), np.zeros(2)]}, path, ties="copy")["a"]
    first[...] = 5
    assert second.tolist() == [1, 1, 1]
    assert part.tolist() == [1, 1]


def test_none_is_no_state(path: Path):
    save_model({"weight": np.ones(2), "bias": None}, path)
    assert list(load_file(path)) == ["weight"]
    assert load_model({"weight": np.zeros(2), "bias": None}, path)["bias"] is None


def test_strict_false_keeps_the_leaves_that_the_file_lacks(path: Path):
    save_model({"a": np.ones(2)}, path)
    own = np.zeros(3)
    loaded = load_model({"a": np.zeros(2), "b": [own]}, path, strict=False)
    assert loaded["a"].tolist() == [1, 1]
    assert loaded["b"][0] is own


def test_a_history_takes_trees(tmp_path: Path):
    with History(tmp_path / "run", background=True) as history:
        history.save(1, {"params": [np.ones(2)], "step": 1})
    latest = history.latest()
    assert latest is not None
    assert load_model({"params": [np.zeros(2)], "step": 0}, latest.path)["step"] == 1


class Counter:
    """A class of a user, whose state is a tree."""

    def __init__(self, start: float = 0) -> None:
        self.total = np.full(3, start)
        self.inner = {"steps": int(start), "best": float(start)}

    def state_dict(self) -> dict[str, Any]:
        return {"total": self.total, "inner": self.inner}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.total[...] = state["total"]
        if state["inner"]["steps"] < 0:
            raise ValueError("negative steps")
        self.inner = dict(state["inner"])


def test_an_object_with_a_state_dict_is_saved_and_loaded(path: Path):
    saved, fresh = Counter(5), Counter()
    save_model(saved, path)
    total = fresh.total
    assert load_model(fresh, path) == ([], [])
    assert (fresh.total is total, total.tolist(), fresh.inner) == (True, [5, 5, 5], {"steps": 5, "best": 5.0})
    assert_roundtrip(saved)
    assert diff(fresh, path).same
    assert fingerprint(fresh) == fingerprint(path)


def test_a_load_state_dict_that_raises_is_undone(path: Path):
    save_model(Counter(-1), path)
    fresh = Counter(2)
    before = copy.deepcopy(fresh.state_dict())
    with pytest.raises(MismatchError, match=r"load_state_dict\(\) refused the state: ValueError: negative steps"):
        load_model(fresh, path)
    assert described(fresh.state_dict()) == described(before)


def test_a_mismatch_with_a_state_dict_is_found_before_it_is_loaded(path: Path):
    save_file({"total": np.ones(4), "inner.steps": np.asarray(1)}, path)
    fresh = Counter()
    with pytest.raises(
        MismatchError, match=r"total +is \(4,\) in the file, \(3,\) in the model\n *inner.best +is missing"
    ):
        load_model(fresh, path)
    assert fresh.total.tolist() == [0, 0, 0]


def test_no_framework_is_imported():
    program = (
        "import sys, numpy as np\n"
        "from statezoo.checkpoints import fingerprint\n"
        "fingerprint({'a': [np.ones(2), 3]})\n"
        "print([name for name in ('torch', 'jax', 'keras', 'mlx', 'flax') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
