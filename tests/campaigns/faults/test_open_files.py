"""Saving over a file that is mapped or open, and loading a damaged one into a model."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from statezoo import core as nn
from statezoo.checkpoints import CorruptError, load_file, load_model, open_checkpoint, save_file, save_model
from statezoo.checkpoints.testing import compare_states

OLD = {"bias": np.arange(7.0), "weight": np.arange(60_000.0).reshape(200, 300)}
NEW = {"other": np.ones(9), "weight": np.full((10, 10), 2.0)}


@pytest.fixture(params=[".safetensors", ".h5", ".npz"])
def path(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    path = tmp_path / f"state{request.param}"
    save_file(OLD, path)
    return path


def assert_equal(state: Any, expected: Any) -> None:
    assert list(compare_states(expected, dict(state))) == []


@pytest.mark.parametrize("mmap", [True, "c"])
def test_mapped_arrays_keep_their_values_when_the_file_is_replaced(path: Path, mmap: Any):
    mapped = load_file(path, mmap=mmap)
    save_file(NEW, path)
    assert_equal(mapped, OLD)
    assert_equal(load_file(path), NEW)


def test_a_checkpoint_left_open_keeps_its_values_when_the_file_is_replaced(path: Path):
    with open_checkpoint(path) as checkpoint:
        bias = checkpoint["bias"][...]
        save_file(NEW, path)
        assert_equal({"bias": bias, "weight": checkpoint["weight"][...]}, OLD)
        assert (checkpoint["weight"][10:20, ::2] == OLD["weight"][10:20, ::2]).all()
    assert_equal(load_file(path), NEW)


@pytest.mark.parametrize("durable", [True, False])
def test_a_mapped_state_can_be_saved_to_its_own_file(path: Path, durable: bool):
    mapped = load_file(path, mmap=True)
    save_file({"new": np.ones(3), **mapped}, path, durable=durable)
    assert_equal(load_file(path), {"new": np.ones(3), **OLD})
    assert_equal(mapped, OLD)


def test_a_state_changed_in_mapped_memory_can_be_saved_to_its_own_file(path: Path):
    mapped = load_file(path, mmap="c")
    mapped["weight"] += 1
    save_file(mapped, path)
    assert_equal(load_file(path), {**OLD, "weight": OLD["weight"] + 1})


def test_an_open_checkpoint_can_be_saved_to_its_own_file(path: Path):
    with open_checkpoint(path) as checkpoint:
        save_file(checkpoint, path, metadata={"epoch": "8"})
    assert_equal(load_file(path), OLD)
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.metadata == {"epoch": "8"}


def test_a_damaged_open_checkpoint_is_not_saved_over_a_good_file(path: Path):
    good = path.with_name(f"good{path.suffix}")
    save_file(NEW, good)
    damage(path, OLD["weight"])
    with open_checkpoint(path) as checkpoint, pytest.raises(CorruptError, match="'weight'"):
        save_file(checkpoint, good)
    assert_equal(load_file(good), NEW)
    assert sorted(entry.name for entry in path.parent.iterdir()) == sorted([good.name, path.name])


def model_of(seed: int) -> nn.Module:
    nn.manual_seed(seed)
    return nn.Sequential(nn.Linear(40, 50), nn.BatchNorm1d(50), nn.Linear(50, 30), nn.Linear(30, 20))


def damage(path: Path, array: np.ndarray) -> None:
    """Flip the last bit of an array in a file."""
    content, memory = bytearray(path.read_bytes()), array.tobytes()
    assert content.count(memory) == 1
    content[content.index(memory) + len(memory) - 1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("ties", ["error", "restore"])
def test_damage_in_the_last_tensor_leaves_every_tensor_of_the_model_unchanged(path: Path, ties: Any):
    saved, model = model_of(1), model_of(2)
    save_model(saved, path)
    before = {name: array.copy() for name, array in model.state_dict().items()}
    name = list(before)[-1]
    damage(path, saved.state_dict()[name])
    with pytest.raises(CorruptError, match=name) as caught:
        load_model(model, path, ties=ties)
    assert caught.value.tensors == (name,)
    assert_equal(model.state_dict(), before)


def test_a_wrong_shape_of_the_last_tensor_leaves_every_tensor_of_the_model_unchanged(path: Path):
    model = model_of(2)
    before = {name: array.copy() for name, array in model.state_dict().items()}
    name = list(before)[-1]
    save_file({**model_of(1).state_dict(), name: np.ones(3, np.float32)}, path)
    with pytest.raises(ValueError, match=r"nothing was changed.\n  3.bias"):
        load_model(model, path)
    assert_equal(model.state_dict(), before)
