"""A large file is verified by reads and then mapped, so that a load needs no memory for a second copy."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from statezoo import core
from statezoo.checkpoints import CorruptError, ReadError, load_model, save_model
from statezoo.checkpoints.storage import streams
from statezoo.checkpoints.storage.source import FileSource


@pytest.fixture
def large() -> core.Linear:
    return core.Linear(512, 1024)  # 2 MiB


def test_a_flipped_bit_is_found_before_anything_changes(path: Path, large: core.Linear):
    save_model(large, path)
    content = bytearray(path.read_bytes())
    content[content.index(large.weight.data.tobytes()[-64:])] ^= 1
    path.write_bytes(content)
    fresh = core.Linear(512, 1024)
    before = fresh.weight.data.copy()
    with pytest.raises(CorruptError) as caught:
        load_model(fresh, path)
    assert caught.value.tensors == ("weight",)
    assert np.array_equal(fresh.weight.data, before)


def test_a_program_that_writes_into_the_file_meanwhile_is_noticed(
    path: Path, large: core.Linear, monkeypatch: pytest.MonkeyPatch
):
    save_model(large, path)
    fresh = core.Linear(512, 1024)
    before = fresh.weight.data.copy()
    verified = streams.read_digests

    def write_after(*arguments: Any) -> Any:
        found = verified(*arguments)
        with open(path, "r+b") as file:
            file.seek(-8, os.SEEK_END)
            file.write(b"\xff" * 8)
        os.utime(path, ns=(1, 1))  # whatever the resolution of the clock of files is
        return found

    monkeypatch.setattr(streams, "read_digests", write_after)
    with pytest.raises(CorruptError, match=r"was changed by another program while it was loaded\. Load it again"):
        load_model(fresh, path)
    assert np.array_equal(fresh.weight.data, before)


def test_a_file_system_that_maps_nothing_is_read(path: Path, large: core.Linear, monkeypatch: pytest.MonkeyPatch):
    save_model(large, path)

    def refuse(self: Any, copy_on_write: bool) -> Any:
        raise ReadError("cannot be mapped")

    monkeypatch.setattr(FileSource, "memory", refuse)
    fresh = core.Linear(512, 1024)
    assert load_model(fresh, path) == ([], [])
    assert np.array_equal(fresh.weight.data, large.weight.data)


def test_a_mapped_model_outlives_its_file(path: Path, large: core.Linear):
    save_model(large, path)
    fresh = core.Linear(512, 1024)
    load_model(fresh, path)
    path.write_bytes(b"")
    assert np.array_equal(fresh.weight.data, large.weight.data)


def test_an_array_of_the_extra_state_is_not_mapped(tmp_path: Path):
    class Net(core.Linear):
        extra = np.zeros(1 << 18)

        def get_extra_state(self) -> Any:
            return self.extra

        def set_extra_state(self, state: Any) -> None:
            self.extra = state

    model, fresh = Net(2, 2), Net(2, 2)
    model.extra = np.arange(1 << 18, dtype=np.float64)
    save_model(model, tmp_path / "model.safetensors")
    load_model(fresh, tmp_path / "model.safetensors")
    assert fresh.extra.flags.owndata
    assert np.array_equal(fresh.extra, model.extra)
