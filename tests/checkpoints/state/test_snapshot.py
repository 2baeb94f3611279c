"""snapshot=True: the file holds the state of one moment, whatever other threads do while it is written."""

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from statezoo import core
from statezoo.checkpoints import Deferred, load_file, open_checkpoint, save_file, save_model, save_training
from statezoo.checkpoints.files import packed_of
from statezoo.checkpoints.state.snapshot import copied_at_once
from statezoo.checkpoints.storage import streams


def every_kind() -> dict[str, Any]:
    base = np.arange(120, dtype=np.float32).reshape(10, 12)
    shared = np.arange(40, dtype=np.float64)
    return {
        "plain": np.arange(6, dtype=np.int16),
        "tie": base,
        "tied": base,
        "view": base[2:5, ::3],
        "transpose of another": base.T,
        "fortran": np.asfortranarray(np.arange(20.0).reshape(4, 5)),
        "axes": np.arange(24.0).reshape(2, 3, 4).transpose(1, 2, 0),
        "axes, viewed": np.arange(24.0).reshape(2, 3, 4).transpose(1, 2, 0)[1:],
        "column": np.arange(20.0).reshape(4, 5)[:, 1],
        "backwards": np.arange(5.0)[::-1],
        "repeated": np.broadcast_to(np.float32(3), (4, 2)),
        "overlapping": shared[:30],
        "also overlapping": shared[10:],
        "big endian": np.arange(5, dtype=">f4"),
        "bf16": np.arange(5).astype(ml_dtypes.bfloat16),
        "fp8": np.ones(3, ml_dtypes.float8_e4m3fn),
        "bool": np.array([True, False]),
        "complex": np.ones(3, np.complex64),
        "nan": np.array([0x7FA00001], np.uint32).view(np.float32),
        "0-d": np.array(3.0),
        "empty": np.zeros((0, 3)),
        "deferred": Deferred((3,), np.float32, lambda: np.ones(3, np.float32)),
        "_extra_state": {"step": 3},
    }


def test_a_snapshot_gives_the_same_file(path: Path):
    save_file(every_kind(), path)
    expected = path.read_bytes()
    save_file(every_kind(), path, snapshot=True)
    assert path.read_bytes() == expected
    save_file({}, path, snapshot=True)
    assert load_file(path) == {}


def test_a_snapshot_gives_the_same_shards(tmp_path: Path):
    for snapshot in (False, True):
        folder = tmp_path / str(snapshot)
        folder.mkdir()
        save_file(every_kind(), folder / "x.safetensors", max_shard_size=300, snapshot=snapshot)
    for file in (tmp_path / "False").iterdir():
        assert (tmp_path / "True" / file.name).read_bytes() == file.read_bytes()


def test_an_open_checkpoint_is_copied_too(path: Path):
    save_file(every_kind(), path)
    with open_checkpoint(path) as checkpoint:
        save_file(checkpoint, path.with_stem("copy"), checkpoint.metadata, snapshot=True)
    assert path.with_stem("copy").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("length", [10, 100_000])
def test_changes_during_the_write_do_not_reach_the_file(path: Path, length: int, monkeypatch: pytest.MonkeyPatch):
    def write_and_change(*args: Any) -> None:
        for array in state.values():
            array += 1
        original(*args)

    state = {str(number): np.zeros(length) for number in range(3)}
    original = streams.write_all
    monkeypatch.setattr(streams, "write_all", write_and_change)
    save_file(state, path, snapshot=True)
    assert all(not array.any() for array in load_file(path).values())


def test_a_snapshot_is_of_one_moment(path: Path, repeating: Any):
    """Another thread adds 1 to one array after the other, in Python code that gives up the lock between them."""
    state = {str(number): np.zeros(50) for number in range(200)}  # so small that NumPy keeps the lock

    def train() -> None:
        for array in state.values():
            array += 1

    with repeating(train):
        for _ in range(20):
            save_file(state, path, durable=False, snapshot=True)
            values = [array.tolist() for array in load_file(path).values()]
            numbers = [value[0] for value in values]
            assert all(value == [value[0]] * 50 for value in values)
            assert numbers == sorted(numbers, reverse=True)
            assert numbers[0] - numbers[-1] <= 1


def test_a_snapshot_of_strided_and_overlapping_arrays_is_of_one_moment(path: Path, repeating: Any):
    """Another thread writes whole generations, each in one call that no other thread interrupts."""
    memory = np.zeros((4, 30_000), np.uint8)
    state: dict[str, np.ndarray] = {
        "first": memory[0, :20_000],
        "overlaps the first": memory[0, 10_000:],
        "strided": memory[1, ::3],
        "backwards": memory[2, ::-1],
        "of another shape": memory[3].reshape(300, 100).T[::2],
    }
    flat, generations = memory.reshape(-1).data, [bytes([value]) * memory.size for value in range(5)]

    def train() -> None:
        for generation in generations:
            flat[:] = generation

    with repeating(train):
        for _ in range(100):
            save_file(state, path, durable=False, snapshot=True)
            loaded = load_file(path)
            assert len({int(value) for array in loaded.values() for value in np.unique(array)}) == 1
            assert np.shares_memory(loaded["first"], loaded["overlaps the first"])


def test_the_memory_of_a_snapshot_is_used_again_if_it_fits():
    state = {"a": np.arange(5.0), "b": np.ones((2, 3))}
    first, memory = copied_at_once(packed_of(state))
    state["a"][...] = 7
    second, again = copied_at_once(packed_of(state), memory)
    assert again is memory
    assert [np.asarray(array).tolist() for array in second.stored.values()] == [
        array.tolist() for array in state.values()
    ]
    assert np.shares_memory(np.asarray(first.stored["a"]), np.asarray(second.stored["a"]))
    assert copied_at_once(packed_of({"a": np.arange(50.0)}), memory)[1] is not memory


def test_deferred_arrays_of_a_snapshot_may_share_one_buffer(path: Path):
    buffer = np.empty(4)

    def make(value: int) -> np.ndarray:
        buffer[...] = value
        return buffer

    save_file({str(n): Deferred((4,), np.float64, lambda n=n: make(n)) for n in range(3)}, path, snapshot=True)
    assert [array.tolist() for array in load_file(path).values()] == [[n] * 4 for n in range(3)]


@pytest.mark.parametrize("length", [4, 300])
def test_models_and_trainings_are_saved_as_they_were_before_the_write(
    path: Path, length: int, monkeypatch: pytest.MonkeyPatch
):
    def write_and_change(*args: Any) -> None:
        model.weight.data += 1
        original(*args)

    model = core.Linear(length, length, bias=False)
    optimizer = core.optim.SGD(model.parameters(), lr=0.1)
    original = streams.write_all
    monkeypatch.setattr(streams, "write_all", write_and_change)
    before = model.weight.data.copy()
    save_model(model, path, snapshot=True)
    assert np.array_equal(load_file(path)["weight"], before)
    before = model.weight.data.copy()
    save_training(model, optimizer, path, snapshot=True)
    assert np.array_equal(load_file(path)["model.weight"], before)
