"""A Deferred is asked once a save, and used up before the next one, wherever the state is saved to."""

import io
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from statezoo.checkpoints import (
    CheckpointError,
    Deferred,
    History,
    StateError,
    fingerprint,
    inspect,
    load_file,
    open_checkpoint,
    save_file,
)

NUMBERS = range(5)
Save = Callable[[dict[str, Any]], dict[str, Any]]


class Asked:
    """Deferred arrays that all fill and return one buffer. times: how often each was asked. change: called by each."""

    def __init__(self, length: int) -> None:
        self.times: Counter[int] = Counter()
        self.change: Callable[[], object] = lambda: None
        self._buffer = np.empty(length)

    def state(self) -> dict[str, Any]:
        return {str(n): Deferred(self._buffer.shape, np.float64, lambda n=n: self.make(n)) for n in NUMBERS}

    def make(self, number: int) -> np.ndarray:
        self.times[number] += 1
        self._buffer[...] = number
        self.change()
        return self._buffer


def in_a_history(folder: Path, **options: Any) -> Save:
    def save(state: dict[str, Any]) -> dict[str, Any]:
        history = History(folder, **options)
        latest = history.latest()
        history.save(1 if latest is None else latest.step + 1, state)
        history.close()
        latest = history.latest()
        assert latest is not None
        return load_file(latest.path)

    return save


def to_an_open_file(suffix: str) -> Save:
    def save(state: dict[str, Any]) -> dict[str, Any]:
        file = io.BytesIO()
        save_file(state, file, format=suffix)
        return load_file(file.getvalue())

    return save


def to_a_pipe(suffix: str) -> Save:
    def save(state: dict[str, Any]) -> dict[str, Any]:
        reading, writing = os.pipe()
        parts: list[bytes] = []

        def read() -> None:
            with open(reading, "rb") as file:
                parts.append(file.read())

        thread = threading.Thread(target=read)
        thread.start()
        try:
            with open(writing, "wb", buffering=0) as file:
                save_file(state, file, format=suffix)
        finally:
            thread.join()
        return load_file(parts[0])

    return save


def to_a_path(path: Path, **options: Any) -> Save:
    def save(state: dict[str, Any]) -> dict[str, Any]:
        save_file(state, path, **options)
        return load_file(path)

    return save


def every_way(folder: Path) -> Iterator[tuple[str, Save]]:
    for suffix in (".safetensors", ".h5"):
        yield f"path {suffix}", to_a_path(folder / f"path{suffix}")
        yield f"snapshot {suffix}", to_a_path(folder / f"snapshot{suffix}", snapshot=True)
        yield f"open file {suffix}", to_an_open_file(suffix)
        yield f"pipe {suffix}", to_a_pipe(suffix)
        yield f"history {suffix}", in_a_history(folder / f"history{suffix}", format=suffix)
        yield f"background {suffix}", in_a_history(folder / f"background{suffix}", format=suffix, background=True)
    yield "shards", to_a_path(folder / "shards.safetensors", max_shard_size=40)
    yield "shared history", in_a_history(folder / "shared", share=True)
    yield "shared, background", in_a_history(folder / "shared background", share=True, background=True)


WAYS = [name for name, _ in every_way(Path())]


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, tmp_path: Path) -> Save:
    return dict(every_way(tmp_path))[request.param]


@pytest.mark.parametrize("length", [4, 100_000])
def test_each_is_asked_once_and_used_up_before_the_next(way: Save, length: int):
    for _ in range(2):
        asked = Asked(length)
        loaded = way(asked.state())
        assert {name: set(array.tolist()) for name, array in loaded.items()} == {str(n): {float(n)} for n in NUMBERS}
        assert asked.times == dict.fromkeys(NUMBERS, 1)


def test_a_copy_of_an_open_checkpoint_and_its_fingerprint_ask_once(tmp_path: Path):
    asked = Asked(100)
    save_file(asked.state(), tmp_path / "a.h5")
    with open_checkpoint(tmp_path / "a.h5") as checkpoint:
        save_file(checkpoint, tmp_path / "b.safetensors")
    asked.times.clear()
    assert fingerprint(asked.state()) == inspect(tmp_path / "b.safetensors").fingerprint
    assert asked.times == dict.fromkeys(NUMBERS, 1)


def fail() -> None:
    raise ZeroDivisionError("on purpose")


def interrupt() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("length", [4, 100_000])
@pytest.mark.parametrize("error", [fail, interrupt])
def test_an_exception_leaves_the_old_state_and_nothing_else(
    way: Save, length: int, error: Callable[[], None], tmp_path: Path
):
    old = {"old": np.ones(3)}
    way(old)
    before = contents_of(tmp_path)
    asked = Asked(length)
    asked.change = lambda: error() if asked.times[3] else None
    with pytest.raises((ZeroDivisionError, KeyboardInterrupt)):
        way(asked.state())
    assert contents_of(tmp_path) == before


def contents_of(folder: Path) -> dict[str, bytes]:
    """Return all files in a folder. The log of a history is not a checkpoint."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix not in (".jsonl", ".lock")
    }


@pytest.mark.parametrize("length", [4, 100_000])
def test_a_deferred_array_of_another_shape_leaves_the_old_state(way: Save, length: int, tmp_path: Path):
    way({"old": np.ones(3)})
    before = contents_of(tmp_path)
    wrong = Deferred((length,), np.float64, lambda: np.ones(length + 1))
    with pytest.raises(StateError, match="a deferred array should be float64"):
        way({"a": np.ones(length), "wrong": wrong})
    assert contents_of(tmp_path) == before


@pytest.mark.parametrize("length", [4, 100_000])
def test_a_deferred_array_may_save_and_load_other_files(way: Save, length: int, tmp_path: Path):
    asked = Asked(length)
    asked.change = lambda: to_a_path(tmp_path / "other.safetensors")({"x": np.ones(length)})
    loaded = way(asked.state())
    assert [array[0] for array in loaded.values()] == list(NUMBERS)
    assert load_file(tmp_path / "other.safetensors")["x"].tolist() == [1] * length


def test_a_deferred_array_may_save_to_the_same_path_and_the_outer_save_wins(path: Path):
    asked = Asked(100)
    asked.change = lambda: save_file({"inner": np.ones(3)}, path)
    save_file(asked.state(), path)
    assert list(load_file(path)) == list(map(str, NUMBERS))
    assert os.listdir(path.parent) == [path.name]


def test_a_deferred_array_whose_memory_changes_after_it_was_returned_is_saved_as_it_was(path: Path):
    """Each result is the buffer of the next one."""
    buffers = [np.zeros(50_000) for _ in range(2)]

    def make(number: int) -> np.ndarray:
        buffers[(number + 1) % 2][...] = -1  # that of the one before
        buffers[number % 2][...] = number
        return buffers[number % 2]

    save_file({str(n): Deferred((50_000,), np.float64, lambda n=n: make(n)) for n in NUMBERS}, path)
    assert [set(array.tolist()) for array in load_file(path).values()] == [{float(n)} for n in NUMBERS]


def test_a_copy_that_is_asked_for_is_one():
    array = np.ones(3)
    deferred = Deferred((3,), np.float64, lambda: array)
    assert np.asarray(deferred) is array
    assert not np.shares_memory(np.array(deferred, copy=True), array)
    assert np.asarray(deferred, dtype=np.float32).dtype == np.float32
    with pytest.raises(CheckpointError):
        np.asarray(Deferred((4,), np.float64, lambda: array))
