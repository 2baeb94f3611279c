"""A history removes its own checkpoints and what its killed processes left, and nothing else, whatever its name."""

import errno
import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from history_states import names, state, steps

from statezoo.checkpoints import CheckpointError, Deferred, History, load_file, save_file
from statezoo.checkpoints.runs.history import history as history_module

LARGE = {f"w{number}": np.full(20_000, number, "f8") for number in range(6)}


@pytest.mark.parametrize("share", [False, True])
def test_a_checkpoint_that_is_being_copied_into_the_history_is_left_alone(tmp_path: Path, share: bool):
    source = tmp_path / "archive"
    source.mkdir()
    save_file(LARGE, source / "model.safetensors", max_shard_size="200KB")
    history = History(tmp_path / "run", keep_last=1, durable=False, share=share)
    history.save(1000, state())
    copy = tmp_path / "run" / "step-00000500"
    copy.mkdir()
    for step, name in enumerate(sorted(os.listdir(source)), 1001):  # the index comes last, as with most programs
        shutil.copy2(source / name, copy)
        history.save(step, state())
        History(history.folder, keep_last=1, durable=False, share=share).save(step, state())
    loaded = load_file(copy)
    assert all(np.array_equal(loaded[name], array) for name, array in LARGE.items())


@pytest.mark.parametrize("is_cut", [False, True])
def test_a_history_opened_while_a_checkpoint_is_copied_in_leaves_it_alone(tmp_path: Path, is_cut: bool):
    archive = History(tmp_path / "archive", share=True, durable=False)
    for step in (1, 2):
        archive.save(2, {"frozen": np.ones(20_000), "weight": np.full(20_000, step)})
    source, copy = tmp_path / "archive" / "step-00000002", tmp_path / "run" / "step-00000002"
    copy.mkdir(parents=True)
    first, *others = sorted(os.listdir(source), reverse=True)  # `cp -r` follows the order of the disk: the index first
    shutil.copy2(source / first, copy)
    if is_cut:
        (copy / others[0]).write_bytes((source / others[0]).read_bytes()[:1000])
    history = History(tmp_path / "run", keep_last=1, share=True, durable=False)
    for step, name in enumerate(others, 10):
        history.save(step, state())
        shutil.copy2(source / name, copy)
    history.save(20, state())
    assert steps(tmp_path / "run") == [2, 20]
    assert load_file(copy)["weight"][0] == 2


def test_our_shards_without_an_index_are_left_alone(tmp_path: Path):
    history = History(tmp_path, share=True, durable=False)
    history.save(1, state())
    (tmp_path / "step-00000001" / "model.safetensors.index.json").unlink()
    before = names(tmp_path / "step-00000001")
    history.save(2, state())
    History(tmp_path, keep_last=1, share=True, durable=False).save(3, state())
    assert names(tmp_path / "step-00000001") == before


def outside(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.skipif(os.name != "posix", reason="links need privileges here")
def test_neither_a_link_nor_its_target_is_removed(tmp_path: Path):
    other = History(tmp_path / "other", share=True, durable=False)
    other.save(1, state())
    save_file(state(), tmp_path / "other.safetensors", {"history": '{"metrics":{},"step":2}'})
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "step-00000001").symlink_to(tmp_path / "other" / "step-00000001")
    (tmp_path / "run" / "step-00000002.safetensors").symlink_to(tmp_path / "other.safetensors")
    (tmp_path / "empty").mkdir()
    (tmp_path / "run" / "step-00000003").symlink_to(tmp_path / "empty")
    before = outside(tmp_path / "other" / "step-00000001")
    history = History(tmp_path / "run", keep_last=1, durable=False)
    for step in (5, 6):
        history.save(step, state())
    assert outside(tmp_path / "other" / "step-00000001") == before
    assert set(names(tmp_path / "run")) >= {"step-00000001", "step-00000002.safetensors", "step-00000003"}


@pytest.mark.skipif(os.name != "posix", reason="links need privileges here")
@pytest.mark.parametrize("share", [False, True])
def test_a_checkpoint_that_its_owner_moves_away_and_links_to_is_kept(tmp_path: Path, share: bool):
    history = History(tmp_path / "run", keep_last=1, share=share, durable=False)
    history.save(1, state(1))
    (there,) = (tmp_path / "run").glob("step-*")
    moved = tmp_path / f"elsewhere{there.suffix}"
    there.rename(moved)
    there.symlink_to(moved)
    for step in (2, 3):
        history.save(step, state(step))
    History(history.folder, keep_last=1, share=share, durable=False).save(4, state(4))
    assert steps(tmp_path / "run") == [1, 4]
    assert load_file(moved)["weight"][0] == load_file(there)["weight"][0] == 1


def a_plain_file(folder: Path) -> None:
    save_file(state(), folder / "step-00000002.safetensors")


def one_of_another_step(folder: Path) -> None:
    shutil.copy(History(folder.parent / "other", durable=False).save(9, state()), folder / "step-00000002.safetensors")


def no_checkpoint(folder: Path) -> None:
    (folder / "step-00000002.h5").write_bytes(b"notes")


def shards_of_another_program(folder: Path) -> None:
    (folder / "step-00000002").mkdir()
    save_file(LARGE, folder / "step-00000002" / "model.safetensors", max_shard_size="200KB")


@pytest.mark.parametrize("put", [a_plain_file, one_of_another_step, no_checkpoint, shards_of_another_program])
def test_a_file_named_like_a_step_but_not_its_checkpoint_is_kept(tmp_path: Path, put: Any):
    folder = tmp_path / "run"
    folder.mkdir()
    put(folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    history = History(folder, keep_last=1, durable=False)
    for step in (5, 6):
        history.save(step, state())
    assert [step for step in steps(folder) if step > 2] == [6]
    for path, content in before.items():
        assert path.read_bytes() == content


def test_other_files_next_to_the_shards_of_a_removed_checkpoint_are_kept(tmp_path: Path):
    history = History(tmp_path, keep_last=1, share=True, durable=False)
    history.save(1, state())
    folder = tmp_path / "step-00000001"
    (folder / "notes.txt").write_text("keep")
    save_file({"a": np.ones(9)}, folder / "diffusion-00001-of-00002.safetensors")
    history.save(2, state())
    assert steps(tmp_path) == [2]
    assert names(folder) == ["diffusion-00001-of-00002.safetensors", "notes.txt"]


def test_a_copy_over_a_checkpoint_that_is_about_to_be_removed_is_left_alone(tmp_path: Path):
    backup = tmp_path / "backup"
    history = History(tmp_path / "run", keep_last=1, share=True, durable=False)
    history.save(1, LARGE)
    shutil.copytree(history.folder, backup)
    copied = tmp_path / "run" / "step-00000001"
    for step, name in enumerate(sorted(os.listdir(backup / copied.name)), 2):  # as rsync does: the index comes last
        shutil.copy2(backup / copied.name / name, copied / ".new")
        os.replace(copied / ".new", copied / name)
        history.save(step, state())
    loaded = load_file(copied)
    assert all(np.array_equal(loaded[name], array) for name, array in LARGE.items())


@pytest.mark.parametrize("share", [False, True])
def test_a_checkpoint_restored_after_its_removal_is_kept(tmp_path: Path, share: bool):
    history = History(tmp_path / "run", keep_last=1, share=share, durable=False)
    saved = Path(history.save(1, state()))
    saved = saved.parent if share else saved
    copy = tmp_path / "backup"
    # Hard links: what comes back has the inodes and the times that it had.
    shutil.copytree(saved, copy, copy_function=os.link) if share else os.link(saved, copy)
    history.save(2, state())
    copy.rename(saved)
    history.save(3, state())
    history.save(4, state())
    assert steps(tmp_path / "run") == [1, 4]


def test_a_checkpoint_that_is_replaced_at_the_moment_of_its_removal_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    history = History(tmp_path, keep_last=1, durable=False)
    path = history.save(1, state())
    mine = tmp_path / "mine"
    save_file(state(7), tmp_path / "mine.safetensors", {"history": '{"metrics":{},"step":1}'})
    (tmp_path / "mine.safetensors").rename(mine)
    original = os.rename

    def rename(source: Any, target: Any) -> None:
        if source == path and mine.exists():
            os.replace(mine, path)
        original(source, target)

    monkeypatch.setattr(os, "rename", rename)
    history.save(2, state())
    assert load_file(path)["weight"][0] == 7


@pytest.mark.parametrize("share", [False, True])
def test_a_checkpoint_that_another_program_replaces_right_after_its_save_is_kept(
    tmp_path: Path, share: bool, monkeypatch: pytest.MonkeyPatch
):
    history = History(tmp_path, keep_last=1, share=share, durable=False)
    name = "save_linked" if share else "save_file"
    saving = getattr(history_module, name)

    def save_and_replace(state: Any, path: str, *arguments: Any, **named: Any) -> None:
        saving(state, path, *arguments, **named)
        file = path + ".index.json" if share else path
        shutil.copy2(file, tmp_path / "mine")
        os.replace(tmp_path / "mine", file)

    with monkeypatch.context() as patch:
        patch.setattr(history_module, name, save_and_replace)
        history.save(1, state(1))
    for step in (2, 3):
        history.save(step, state(step))
    assert steps(tmp_path) == [1, 3]
    assert load_file(next(iter(history)).path)["weight"][0] == 1


def test_a_folder_made_by_somebody_else_survives_a_save_into_it_that_fails(tmp_path: Path):
    history = History(tmp_path, share=True, durable=False)
    (tmp_path / "step-00000001").mkdir()
    with pytest.raises(ZeroDivisionError):
        history.save(1, {"a": Deferred((3,), "f8", lambda: np.zeros(1 // 0))})
    assert names(tmp_path / "step-00000001") == []
    with pytest.raises(ZeroDivisionError):
        history.save(2, {"a": Deferred((3,), "f8", lambda: np.zeros(1 // 0))})
    assert names(tmp_path) == ["history.jsonl", "step-00000001"]


def test_a_copy_into_the_folder_of_a_step_survives_saves_of_that_step(tmp_path: Path):
    source, copy = tmp_path / "archive", tmp_path / "run" / "step-00000005"
    source.mkdir()
    save_file(LARGE, source / "model.safetensors", max_shard_size="200KB")
    history = History(tmp_path / "run", keep_last=2, share=True, durable=False)
    copy.mkdir()
    for name in sorted(os.listdir(source)):
        shutil.copy2(source / name, copy)
        if not name.endswith(".json"):
            history.save(5, state(5))
            with pytest.raises(ZeroDivisionError):
                history.save(5, {"a": Deferred((3,), "f8", lambda: np.zeros(1 // 0))})
            assert load_file(copy)["weight"][0] == 5
    assert load_file(copy).keys() == LARGE.keys()
    for step in (6, 7, 8):  # it is not the checkpoint that the history saved
        history.save(step, state(step))
    assert load_file(copy).keys() == LARGE.keys()


def test_renamed_checkpoints_are_kept(tmp_path: Path):
    history = History(tmp_path, keep_last=1, durable=False)
    shared = History(tmp_path, keep_last=1, share=True, durable=False)
    history.save(1, state(1))
    (tmp_path / "step-00000001.safetensors").rename(tmp_path / "step-00000002.safetensors")
    shared.save(3, state(3))
    (tmp_path / "step-00000003").rename(tmp_path / "step-00000004")
    for step in (5, 6):
        history.save(step, state(step))
        History(tmp_path, keep_last=1, durable=False).save(step, state(step))
    assert steps(tmp_path) == [2, 4, 6]


KILLED = """
import os, signal, sys
import numpy as np
from statezoo.checkpoints import History
from statezoo.checkpoints.storage import durable

def dying(function):
    def count_and_call(*arguments, **keywords):
        global left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **keywords)
    return count_and_call

def save(folder):
    history = History(folder, keep_last=1, share=sys.argv[2] == "True", durable=False)
    history.save(1, {"a": np.ones(9)})
    for name in ("open", "unlink", "rmdir", "mkdir", "replace", "pwrite", "write", "link"):
        setattr(os, name, dying(getattr(os, name)))
    durable._write_at = os.pwrite
    history.save(2, {"a": np.ones(30_000), "b": np.zeros(9)})
    os._exit(0)

call, is_killed = 1, True
while is_killed:
    left = call
    child = os.fork()
    if not child:
        save(f"{sys.argv[1]}/{call}")
    status = os.waitpid(child, 0)[1]
    is_killed = os.WIFSIGNALED(status)
    call += 1
sys.exit(status)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("share", [False, True])
def test_a_save_killed_before_any_system_call_is_cleaned_up_by_the_next_save(tmp_path: Path, share: bool):
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), str(share)], check=True)
    assert len(names(tmp_path)) > 5
    for folder in tmp_path.iterdir():
        intact = [saved.step for saved in History(folder) if load_file(saved.path)]
        assert set(intact) & {1, 2}
        History(folder, keep_last=1, share=share, durable=False).save(3, state())
        assert names(folder) == ["history.jsonl", "step-00000003" if share else "step-00000003.safetensors"], folder


CALLS = ("open", "close", "unlink", "rmdir", "mkdir", "replace", "pwrite", "write", "link", "stat", "fstat", "listdir")
ERRORS: list[Callable[[], BaseException]] = [lambda: OSError(errno.EIO, "no luck"), KeyboardInterrupt]


def failing(call: int, patch: pytest.MonkeyPatch, error: Callable[[], BaseException]) -> Callable[[], bool]:
    """Make the system call with this number, counted from now, fail. Return a function that says whether it did."""
    left = itertools.count(call, -1)
    reached: list[None] = []

    def failing_once(function: Callable[..., Any]) -> Callable[..., Any]:
        def count_and_call(*arguments: Any, **keywords: Any) -> Any:
            if next(left) == 1:
                reached.append(None)
                raise error()
            return function(*arguments, **keywords)

        return count_and_call

    for name in CALLS:
        patch.setattr(os, name, failing_once(getattr(os, name)))
    patch.setattr("statezoo.checkpoints.storage.durable._write_at", os.pwrite)
    return lambda: bool(reached)


@pytest.mark.skipif(not hasattr(os, "pwrite"), reason="no pwrite here")
@pytest.mark.parametrize("error", ERRORS, ids=["OSError", "KeyboardInterrupt"])
@pytest.mark.parametrize("share", [False, True])
def test_a_save_that_fails_in_any_system_call_leaves_complete_checkpoints_and_the_next_save_cleans_up(
    tmp_path: Path, share: bool, error: Callable[[], BaseException]
):
    call, was_reached = 0, True
    while was_reached:
        call += 1
        folder = tmp_path / str(call)
        history = History(folder, keep_last=2, share=share, durable=False)
        for step in (1, 2):
            history.save(step, state(step))
        with pytest.MonkeyPatch.context() as patch:
            reached = failing(call, patch, error)
            with suppress(CheckpointError, KeyboardInterrupt):
                history.save(3, state(3))
            was_reached = reached()
        intact = [saved.step for saved in history if (load_file(saved.path)["weight"] == saved.step).all()]
        assert len(intact) >= 2, call
        history.save(4, state(4))
        assert steps(folder) in ([3, 4], [2, 4]), call
        suffix = "" if share else ".safetensors"
        assert names(folder) == ["history.jsonl", *(f"step-{step:08}{suffix}" for step in steps(folder))], call
        assert {record.step for record in history.log()} >= set(steps(folder)), call
