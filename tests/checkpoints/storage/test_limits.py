"""Saves and loads at the limits of memory, descriptors and threads succeed, or an error of ours says what to do."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from statezoo import core
from statezoo.checkpoints import (
    Deferred,
    History,
    OutOfMemoryError,
    load_file,
    load_model,
    load_training,
    open_checkpoint,
    save_file,
    save_training,
)
from statezoo.checkpoints.storage import streams

ONLY_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="the limits are those of Linux")


def test_a_save_without_enough_memory_is_an_error_and_leaves_the_old_file(path: Path):
    def make() -> np.ndarray:
        raise MemoryError("Unable to allocate 9 GiB")

    save_file({"old": np.ones(3)}, path)
    with pytest.raises(
        OutOfMemoryError, match=r"not saved: there is not enough memory \(Unable to allocate 9 GiB\)\. "
    ):
        save_file({"w": Deferred((3,), np.float64, make)}, path)
    assert list(load_file(path)) == ["old"]
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_save_uses_less_memory_where_there_is_little(path: Path, monkeypatch: pytest.MonkeyPatch):
    def empty(size: int, dtype: Any) -> np.ndarray:
        if size > 1 << 16:
            raise MemoryError
        return np.zeros(size, dtype)

    state = {"w": np.arange(300_000.0)}
    with monkeypatch.context() as patch:
        patch.setattr(streams.np, "empty", empty)
        save_file(state, path)
    assert np.array_equal(load_file(path)["w"], state["w"])


def test_a_load_without_enough_memory_is_an_error(path: Path, monkeypatch: pytest.MonkeyPatch):
    def empty(*args: Any) -> np.ndarray:
        raise MemoryError

    save_file({"w": np.arange(300_000.0)}, path)
    monkeypatch.setattr(streams.np, "empty", empty)
    with pytest.raises(
        OutOfMemoryError, match=r"the file was not loaded: there is not enough memory\. Load it with mmap"
    ):
        load_file(path)


@pytest.mark.parametrize("kind", ["load_model", "load_training", "tensor", "slice", "background"])
def test_every_way_to_load_or_copy_says_that_memory_is_short(path: Path, kind: str, monkeypatch: pytest.MonkeyPatch):
    def empty(*args: Any, **options: Any) -> np.ndarray:
        raise MemoryError

    model = core.Linear(400, 400)
    optimizer = core.optim.SGD(model.parameters(), lr=0.1)
    before = model.weight.data.copy()
    save_training(model, optimizer, path)
    with open_checkpoint(path) as checkpoint:
        ways: dict[str, Callable[[], object]] = {
            "load_model": lambda: load_model(model, path, prefix="model."),
            "load_training": lambda: load_training(model, optimizer, path),
            "tensor": lambda: np.asarray(checkpoint["model.weight"]),
            "slice": lambda: checkpoint["model.weight"][3:9, ::2],
            "background": lambda: History(path.parent / "run", background=True).save(1, model),
        }
        monkeypatch.setattr(np, "empty", empty)
        with pytest.raises(OutOfMemoryError, match=r"there is not enough memory\. [A-Z]"):
            ways[kind]()
    assert np.array_equal(model.weight.data, before)


_LIMITED = """
import resource, sys
import numpy as np
from statezoo.checkpoints import CheckpointError, Deferred, load_file, save_file
from statezoo.checkpoints.formats import written_formats
kind, path = sys.argv[1:3]
[form.codec for form in written_formats()]
state = {str(n): np.full((2, 1 << 17), float(n)) for n in range(8)} | {f"small {n}": np.ones(9) for n in range(300)}
if kind == "strided":
    state = {name: array.T for name, array in state.items()}
if kind == "deferred":
    state = {name: Deferred(array.shape, array.dtype, array.copy) for name, array in state.items()}
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
for limit in map(int, sys.argv[3:]):
    resource.setrlimit(resource.RLIMIT_AS, (used + limit, resource.RLIM_INFINITY))
    try:
        load_file(path) if kind == "load" else save_file(state, path, durable=False, snapshot=kind == "snapshot")
        outcome = "done"
    except CheckpointError as error:
        outcome = type(error).__name__
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    if outcome != "done" and kind != "load":
        assert list(load_file(path)) == ["old"]
    print(outcome)
    if outcome == "done":
        break
"""


@ONLY_LINUX
@pytest.mark.parametrize("kind", ["plain", "strided", "deferred", "snapshot", "load"])
def test_within_any_limit_of_memory_a_save_or_a_load_succeeds_or_says_what_is_missing(path: Path, kind: str):
    state = {"old": np.ones(3)}
    if kind == "load":
        state |= {str(number): np.ones(1 << 18) for number in range(8)}
    save_file(state, path)
    limits = [str(size << 16) for size in (0, 1, 4, 8, 12, 16, 24, 32, 48, 64, 128, 256, 512, 2048, 65536)]
    done = subprocess.run([sys.executable, "-c", _LIMITED, kind, path, *limits], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    *failed, last = done.stdout.split()
    assert last == "done"
    assert set(failed) <= {"OutOfMemoryError", "WriteError", "ReadError"}
    assert os.listdir(path.parent) == [path.name]


_FEW_FILES = """
import io, os, resource, sys
import numpy as np
from statezoo.checkpoints import CheckpointError, History, load_file, open_checkpoint, save_file
path = sys.argv[1]
state = {"w": np.ones(10)}
work = {
    "save": lambda: save_file(state, path),
    "shards": lambda: save_file(state | {"v": np.ones(10)}, path + ".safetensors", max_shard_size=80),
    "open file": lambda: save_file(state, io.BytesIO()),
    "load": lambda: load_file(path),
    "map": lambda: load_file(path, mmap=True),
    "open": lambda: open_checkpoint(path).close(),
    "history": lambda: History(path + ".run").save(1, state),
}
for name, action in work.items():
    action()  # what is imported on the way must not need a file later
for name, action in work.items():
    before = os.listdir("/proc/self/fd")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    for number in range(len(before) - 1, len(before) + 8):
        resource.setrlimit(resource.RLIMIT_NOFILE, (number, most))
        try:
            action()
            outcome = "done"
        except CheckpointError as error:
            text = str(error)
            outcome = "too many open files" in text.lower() or text
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        print(name, outcome, sep=": ")
        assert name == "history" or outcome == "done" or "ulimit -n" in text, text
        assert len(os.listdir("/proc/self/fd")) == len(before), name
    load_file(path)
    load_file(path + ".safetensors")
    assert History(path + ".run").latest() is not None
"""


@ONLY_LINUX
def test_with_few_descriptors_a_save_or_a_load_succeeds_or_says_so(path: Path):
    done = subprocess.run([sys.executable, "-c", _FEW_FILES, path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line for line in lines if not line.endswith((": done", ": True"))] == []
    assert {line.partition(":")[0] for line in lines if line.endswith(": True")} >= {
        "save",
        "shards",
        "load",
        "history",
    }
    assert lines[-1] == "history: done"
    assert [name for name in os.listdir(path.parent) if name.startswith(".")] == []
