"""Replacing a set of shards: whatever fails, the complete old or new state is at the path at every moment."""

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shard_states import AFTER, BEFORE, INDEX, MARKED, NEW, OLD, USUAL, holds, names, save_plain, save_shards

from statezoo.checkpoints import Deferred, WriteError, load_file, open_checkpoint, save_file
from statezoo.checkpoints.files.sharding import ownership
from statezoo.checkpoints.files.sharding.index import Index
from statezoo.checkpoints.storage import durable
from statezoo.checkpoints.testing import compare_states


def as_hugging_face_looks(path: Path) -> dict[str, list[float]]:
    """Return the state as Hugging Face's libraries find it: the plain file if it exists, otherwise the shards."""
    from safetensors.numpy import load_file as load_stock

    index = path.with_name(INDEX)
    shards = {path.name} if path.exists() else set(json.loads(index.read_text())["weight_map"].values())
    return {name: array.tolist() for shard in shards for name, array in load_stock(path.parent / shard).items()}


@BEFORE
@AFTER
def test_a_save_of_any_kind_replaces_any_other_and_leaves_nothing_else(path: Path, before: Callable, after: Callable):
    before(OLD, path)
    after(NEW, path)
    assert holds(path, NEW)
    assert as_hugging_face_looks(path) == {name: array.tolist() for name, array in NEW.items()}
    assert names(path) == [path.name] if after is save_plain else len(names(path)) == 4


def test_shards_have_the_usual_names_unless_these_are_taken(path: Path):
    for expected in (USUAL, MARKED, USUAL):
        save_shards(NEW, path)
        assert names(path) == sorted([*expected, INDEX])
    path.with_name(MARKED[1]).write_bytes(b"somebody else's")
    save_shards(OLD, path)
    assert names(path) == sorted([*(name.replace("01-", "02-", 1) for name in MARKED), MARKED[1], INDEX])
    assert holds(path, OLD)


def strike(monkeypatch: pytest.MonkeyPatch, at: int, blow: Callable[[], Any]) -> list[str]:
    """Call `blow` before one of the system calls that change something. Return the calls, which fills as they run."""
    calls: list[str] = []

    def struck(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def call(*args: Any, **named: Any) -> Any:
            calls.append(name)
            if len(calls) - 1 == at:
                blow()
            return original(*args, **named)

        monkeypatch.setattr(owner, name, call)

    for owner, name in ((os, "fsync"), (os, "replace"), (os, "unlink"), (durable, "_write_at")):
        struck(owner, name)
    return calls


def raising(error: BaseException) -> Callable[[], None]:
    def blow() -> None:
        raise error

    return blow


ERRORS = [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt(), OSError(errno.EACCES, "Denied")]
STEPS = range(32)


def assert_old_or_new(path: Path) -> None:
    """Raise AssertionError unless one of the two states is there, complete, and the next save leaves only its own."""
    assert holds(path, OLD) or holds(path, NEW)
    save_shards(NEW | {"d": np.ones(5, "f4")}, path)
    assert len(names(path)) == 5
    assert holds(path, NEW | {"d": np.ones(5, "f4")})


@BEFORE
@pytest.mark.parametrize("error", ERRORS, ids=["full", "interrupt", "denied"])
def test_a_failure_at_any_step_leaves_the_old_or_the_new_state_and_removes_what_was_written(
    path: Path, before: Callable, error: BaseException
):
    calls = []
    for step in STEPS:
        before(OLD, path)
        found = names(path)
        with pytest.MonkeyPatch.context() as patch:
            calls = strike(patch, step, raising(error))
            has_failed = False
            try:
                save_shards(NEW, path, durable=True)
            except (WriteError, KeyboardInterrupt):
                has_failed = True
                assert step < len(calls)
        if not has_failed:
            assert holds(path, NEW)
        elif calls[:step].count("replace") < 4:  # three shards and the index
            assert holds(path, OLD)
            assert names(path) == found
        assert_old_or_new(path)
    assert len(calls) < STEPS.stop  # so every step was tested


def kills(prepare: Callable[[], object], save: Callable[[], object]) -> Iterator[None]:
    """Kill a process that saves at each of its steps, and yield after each kill."""
    status = -1
    for step in STEPS:
        prepare()
        process = os.fork()
        if not process:
            strike(pytest.MonkeyPatch(), step, lambda: os.kill(os.getpid(), signal.SIGKILL))
            save()
            os._exit(0)
        _, status = os.waitpid(process, 0)
        yield
    assert status == 0  # so every step was tested


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # of threads, which the child does not use
@BEFORE
@AFTER
def test_a_process_killed_at_any_step_leaves_the_old_or_the_new_state(path: Path, before: Callable, after: Callable):
    for _ in kills(partial(before, OLD, path), partial(after, NEW, path, durable=True)):
        assert_old_or_new(path)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # of threads, which the child does not use
def test_a_plain_save_clears_what_a_killed_writer_of_shards_left(path: Path):
    for _ in kills(partial(save_plain, OLD, path), partial(save_shards, NEW, path)):
        save_plain(OLD, path)
        assert names(path) == [path.name]
        assert holds(path, OLD)


def test_a_full_disk_removes_the_shards_that_were_written_and_says_so(path: Path, monkeypatch: pytest.MonkeyPatch):
    save_shards(OLD, path)
    found = names(path)
    strike(monkeypatch, 3, raising(ERRORS[0]))
    with pytest.raises(WriteError, match=r"-of-00003.safetensors could not be written: no space left.*\n.*free some"):
        save_shards(NEW, path)
    assert names(path) == found
    assert holds(path, OLD)


def test_a_deferred_array_that_fails_leaves_the_old_state(path: Path):
    save_shards(OLD, path)
    found = names(path)
    with pytest.raises(ZeroDivisionError):
        save_shards(NEW | {"c": Deferred((5,), "f4", lambda: np.zeros(1 // 0))}, path)
    assert names(path) == found
    assert holds(path, OLD)


def test_a_plain_file_that_cannot_be_removed_is_an_error_that_says_which_state_is_where(
    path: Path, monkeypatch: pytest.MonkeyPatch
):
    save_file(OLD, path)
    original = os.unlink

    def unlink(target: Any, **named: Any) -> None:
        if target == str(path):
            raise OSError(errno.EPERM, "Operation not permitted")
        original(target, **named)

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", unlink)
        with pytest.raises(
            WriteError, match=r"could not be removed to make way for its shards: operation not permitted"
        ):
            save_shards(NEW, path)
    assert holds(path, OLD)
    assert list(compare_states(NEW, load_file(path.with_name(INDEX)))) == []


def test_a_checkpoint_opened_before_a_save_keeps_the_old_state(path: Path):
    save_shards(OLD, path)
    mapped = load_file(path, mmap=True)
    with open_checkpoint(path) as checkpoint:
        save_shards(NEW, path)
        assert checkpoint["b"][...].tolist() == OLD["b"].tolist()
    assert list(compare_states(OLD, mapped)) == []


def test_a_second_writer_waits_for_the_first(path: Path):
    lock = os.open(path.parent, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    thread = threading.Thread(target=save_shards, args=(NEW, path))
    thread.start()
    time.sleep(0.2)
    assert names(path) == []
    os.close(lock)
    thread.join()
    assert holds(path, NEW)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # of threads, which the child does not use
def test_a_process_forked_during_a_save_does_not_keep_the_lock(path: Path):
    children = []

    def make() -> np.ndarray:
        children.append(os.fork())
        if not children[-1]:
            time.sleep(60)
            os._exit(0)
        return NEW["a"]

    save_file(NEW | {"a": Deferred((5,), "f4", make)}, path, max_shard_size=20)
    lock = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(lock)
        os.kill(children[0], signal.SIGKILL)
        os.waitpid(children[0], 0)


def test_without_locks_a_save_works_and_removes_no_leftovers(path: Path, monkeypatch: pytest.MonkeyPatch):
    def refused(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    save_shards(OLD, path)
    path.with_name(INDEX).unlink()
    monkeypatch.setattr(fcntl, "flock", refused)
    save_shards(NEW, path)
    assert names(path) == sorted([*USUAL, *MARKED, INDEX])
    assert holds(path, NEW)


SAVE_FOR_A_WHILE = """
import sys, time, numpy
from statezoo.checkpoints import load_file, save_file
end, number = time.monotonic() + 3, int(sys.argv[2])
while time.monotonic() < end:
    number += 1
    state = {str(n): numpy.full(500, number) for n in range(8)}
    save_file(state, sys.argv[1], max_shard_size=[None, 9000, 5000][number % 3], durable=False)
"""


@pytest.mark.slow
def test_two_writers_and_a_reader_at_once_see_only_complete_states(path: Path):
    save_shards(OLD, path)
    command = [sys.executable, "-c", SAVE_FOR_A_WHILE, path]
    writers = [subprocess.Popen([*command, start], stderr=subprocess.PIPE, text=True) for start in ("0", "1000000")]
    loads = 0
    while any(writer.poll() is None for writer in writers):
        loaded = load_file(path)
        assert len({array[0] for array in loaded.values()}) == 1 or list(loaded) == list(OLD)
        loads += 1
    assert [writer.communicate()[1] for writer in writers] == ["", ""]
    assert loads > 10
    save_shards(NEW, path)
    assert len(names(path)) == 4


def test_a_reader_that_a_writer_overtakes_tries_again(path: Path, monkeypatch: pytest.MonkeyPatch):
    from statezoo.checkpoints.files.sharding import reader as sharded

    save_shards(OLD, path)
    original = sharded.load_index
    saves = [save_shards, save_file]

    def load_index(index_path: str) -> Index:
        index = original(index_path)
        if saves:
            saves.pop(0)(NEW, path)
        return index

    monkeypatch.setattr(sharded, "load_index", load_index)
    assert list(compare_states(NEW, load_file(path))) == []
    assert names(path) == [path.name]


@pytest.mark.parametrize("which", range(4))
def test_a_folder_that_cannot_be_flushed_is_an_error_that_says_which_state_is_where(
    path: Path, which: int, monkeypatch: pytest.MonkeyPatch
):
    save_file(OLD, path)
    flush, calls = durable.flush_folder, iter(range(10))

    def failing(target: str, folder: str) -> None:
        if next(calls) == which:
            monkeypatch.setattr(os, "open", refuse_folders)
        flush(target, folder)

    def refuse_folders(target: Any, *arguments: Any) -> int:
        monkeypatch.undo()
        raise OSError(errno.EIO, os.strerror(errno.EIO), target)

    monkeypatch.setattr(durable, "flush_folder", failing)
    with pytest.raises(WriteError) as info:
        save_file(NEW, path, max_shard_size=20)
    reason, said = "input/output error", str(info.value)
    assert not list(compare_states(OLD, load_file(path)))
    if which < 3:
        assert said.startswith(f"{path} could not be saved in shards. What was there before is unchanged.\n")
        assert said.endswith(f"Its folder could not be flushed: {reason}. Save again, or to another disk.")
    else:
        assert said.startswith(
            f"{path} could not be removed to make way for its shards: the folder could not be flushed"
        )
        assert f"({reason}). It still has the old state; the new one is in {path}.index.json." in said


@pytest.mark.parametrize("at", [1, 2])  # to find free names; to remove the old shards
def test_a_set_that_a_signal_handler_saves_after_a_look_at_the_indexes_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
):
    def save(value: int) -> None:
        save_file({name: np.full(100, value) for name in "abc"}, path, max_shard_size=1000, durable=False)

    def look(folder: str) -> set[str] | None:
        named = named_in(folder)
        looks.append(folder)
        if len(looks) == at:  # the signal comes before anything is done with the names
            save(3)
        return named

    path, named_in, looks = tmp_path / "model.safetensors", ownership.named_in, list[str]()
    save(1)
    monkeypatch.setattr(ownership, "named_in", look)
    save(2)
    assert len(looks) == 4
    assert {float(array[0]) for array in load_file(path).values()} in ({2.0}, {3.0})
    assert len(list(tmp_path.iterdir())) == 4
