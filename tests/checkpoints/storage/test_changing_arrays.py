"""Arrays and states that change while they are saved: the file verifies, or the save fails and the old file stays."""

import io
import mmap
from collections import UserDict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from statezoo import core
from statezoo.checkpoints import (
    Deferred,
    History,
    StateError,
    UnsupportedTypeError,
    load_file,
    save_file,
    save_model,
    save_training,
)


def add_one(state: dict[str, np.ndarray]) -> None:
    for array in state.values():
        array += 1


@pytest.mark.parametrize("length", [4, 1024, 65_536, 1 << 20])
def test_arrays_that_change_during_a_save_give_a_file_that_verifies(path: Path, length: int, repeating: Any):
    state = {str(number): np.zeros(length, np.float32) for number in range(4)}
    with repeating(partial(add_one, state)):
        for _ in range(15):
            save_file(state, path, durable=False)
            load_file(path)


@pytest.mark.parametrize("length", [1024, 1 << 20])
def test_arrays_that_change_give_an_open_file_that_verifies(length: int, repeating: Any):
    state = {str(number): np.zeros(length, np.float32) for number in range(4)}
    with repeating(partial(add_one, state)):
        for _ in range(5):
            file = io.BytesIO()
            save_file(state, file)
            load_file(file.getvalue())


def saved_while(path: Path, change: Any, state: dict[str, Any], is_open: bool = False) -> dict[str, Any]:
    """Save a state in whose middle `change` is called, when the shapes are known and no array has been written.

    is_open: save to an open file.
    """

    def make() -> np.ndarray:
        change()
        return np.zeros(1)

    # Elements of 16 bytes come first in the file.
    state = {"first": Deferred((1,), np.complex64, lambda: make().astype(np.complex64)), **state}
    if is_open:
        with path.open("wb") as file:
            save_file(state, file, format=path.suffix)
    else:
        save_file(state, path)
    return load_file(path)


@pytest.mark.parametrize("length", [10, 100_000])
@pytest.mark.parametrize(("name", "value"), [("shape", (-1, 2)), ("dtype", np.int16), ("dtype", np.complex64)])
@pytest.mark.filterwarnings("ignore:Setting the:DeprecationWarning")
def test_the_geometry_of_an_array_may_change_during_a_save(path: Path, length: int, name: str, value: Any):
    array = np.arange(length, dtype=np.float32)
    loaded = saved_while(path, lambda: setattr(array, name, value), {"w": array})
    assert loaded["w"].tolist() == list(range(length))


@pytest.mark.parametrize("is_open", [False, True], ids=["path", "open file"])
@pytest.mark.parametrize("length", [10, 100_000])
def test_an_array_is_not_resized_during_a_save(path: Path, length: int, is_open: bool):
    """Its memory would be freed while it is read."""
    array = np.arange(length, dtype=np.float32)
    base = np.arange(length, dtype=np.float32)

    def resize() -> None:
        for one in (array, base):
            with pytest.raises(ValueError, match="cannot resize an array"):
                one.resize(1 << 22, refcheck=False)

    loaded = saved_while(path, resize, {"w": array, "v": base[2:]}, is_open)
    assert loaded["w"].tolist() == list(range(length))
    assert loaded["v"].tolist() == list(range(2, length))
    array.resize(3, refcheck=False)


def test_a_map_is_not_closed_during_a_save(path: Path):
    mapped = mmap.mmap(-1, 1 << 20)
    array = np.ndarray((1 << 17,), np.float64, mapped)  # NumPy itself lets go of the map at once

    def close() -> None:
        with pytest.raises(BufferError):
            mapped.close()

    loaded = saved_while(path, close, {"w": array})
    assert not loaded["w"].any()


def test_names_may_be_added_and_removed_during_a_save(path: Path):
    state = {str(number): np.full(3, number) for number in range(20)}

    def change() -> None:
        state.clear()
        state["new"] = np.zeros(3)

    loaded = saved_while(path, change, state)
    assert list(loaded) == ["first", *map(str, range(20))]


def test_a_mapping_that_loses_names_while_they_are_read_is_an_error(path: Path):
    class Changing(UserDict[str, Any]):
        def keys(self) -> Any:
            yield "a"
            del self.data["b"]
            yield "b"

    save_file({"old": np.ones(3)}, path)
    with pytest.raises(StateError, match=r"the state was changed while its names were read"):
        save_file(Changing(a=np.ones(1), b=np.ones(1)), path)
    assert list(load_file(path)) == ["old"]


def test_extra_state_and_metadata_are_those_of_the_start_of_the_save(path: Path):
    extra, metadata = {"steps": [1, 2]}, {"a": "b"}

    def make() -> np.ndarray:
        extra["steps"].append(3)
        metadata["a"] = "something longer"
        return np.zeros(1)

    save_file({"w": Deferred((1,), np.float64, make), "_extra_state": extra}, path, metadata)
    assert load_file(path)["_extra_state"] == {"steps": [1, 2]}


@pytest.mark.parametrize("value", [(1,), {1: 2}, {1}, b"x", np.float64(1), np.ones(1), float("nan"), 1j, print])
def test_extra_state_that_json_does_not_keep_is_refused(path: Path, value: Any):
    with pytest.raises(UnsupportedTypeError, match="the extra state '_extra_state' would not load unchanged"):
        save_file({"_extra_state": [value]}, path)


def test_a_model_that_grows_while_its_state_is_read_is_an_error_that_says_so(path: Path):
    class Growing(core.Module):
        def get_extra_state(self) -> int:
            parent.new = core.Linear(1, 1)
            return 1

        def set_extra_state(self, state: Any) -> None:
            pass

    parent = core.Sequential(Growing(), core.Linear(1, 1))
    optimizer = core.optim.SGD(parent.parameters(), lr=0.1)
    save_file({"old": np.ones(3)}, path)
    for save in (
        lambda: save_model(parent, path),
        lambda: save_training(parent, optimizer, path),
        lambda: History(path.parent / "run").save(1, parent),
    ):
        with pytest.raises(StateError, match="the state was changed while its names were read"):
            save()
        del parent.new
    assert list(load_file(path)) == ["old"]


def test_a_runtime_error_of_a_model_is_not_taken_for_a_change_of_names(path: Path):
    class Failing(core.Module):
        def get_extra_state(self) -> int:
            raise RuntimeError("on purpose")

        def set_extra_state(self, state: Any) -> None:
            pass

    with pytest.raises(RuntimeError, match="on purpose"):
        save_model(Failing(), path)
