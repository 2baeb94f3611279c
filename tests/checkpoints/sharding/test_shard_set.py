"""Replacing a set of shards: whatever fails, the complete old or new state is at the path at every moment."""

import errno
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from statezoo.checkpoints import ArgumentError, Deferred, WriteError, load_file, open_checkpoint, save_file
from statezoo.checkpoints.sharding import ownership
from statezoo.checkpoints.storage import durable
from statezoo.checkpoints.testing import compare_states

OLD = {name: np.full(5, number, "f4") for number, name in enumerate("abc")}
NEW = {name: array + 10 for name, array in OLD.items()}
USUAL = [f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)]
MARKED = [f"model-00000001-0000{number}-of-00003.safetensors" for number in (1, 2, 3)]
INDEX = "model.safetensors.index.json"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


def save_plain(state: dict[str, Any], path: Path, durable: bool = False) -> None:
    save_file(state, path, durable=durable)


def save_shards(state: dict[str, Any], path: Path, durable: bool = False) -> None:
    save_file(state, path, durable=durable, max_shard_size=20)


BEFORE = pytest.mark.parametrize("before", [save_plain, save_shards])
AFTER = pytest.mark.parametrize("after", [save_plain, save_shards])


def names(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.parent.iterdir())


def holds(path: Path, state: dict[str, Any]) -> bool:
    return all(list(compare_states(state, load_file(file))) == [] for file in (path, path.parent))


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


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # of threads, which the child does not use
@BEFORE
@AFTER
def test_a_process_killed_at_any_step_leaves_the_old_or_the_new_state(path: Path, before: Callable, after: Callable):
    status = -1
    for step in STEPS:
        before(OLD, path)
        process = os.fork()
        if not process:
            strike(pytest.MonkeyPatch(), step, lambda: os.kill(os.getpid(), signal.SIGKILL))
            after(NEW, path, durable=True)
            os._exit(0)
        _, status = os.waitpid(process, 0)
        assert_old_or_new(path)
    assert status == 0  # so every step was tested


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # of threads, which the child does not use
def test_a_plain_save_clears_what_a_killed_writer_of_shards_left(path: Path):
    status = -1
    for step in STEPS:
        save_plain(OLD, path)
        process = os.fork()
        if not process:
            strike(pytest.MonkeyPatch(), step, lambda: os.kill(os.getpid(), signal.SIGKILL))
            save_shards(NEW, path)
            os._exit(0)
        _, status = os.waitpid(process, 0)
        save_plain(OLD, path)
        assert names(path) == [path.name]
        assert holds(path, OLD)
    assert status == 0  # so every step was tested


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


def test_shards_that_another_index_or_none_names_are_kept(path: Path):
    save_shards(OLD, path)
    other = path.with_name("best.safetensors.index.json")
    other.write_bytes(path.with_name(INDEX).read_bytes())  # keeps the shards that it names
    # Named as ours, written by us, and not finished: all of them may belong to a copy whose index comes last.
    copied, plain, unfinished = (path.with_name(f"model-0000{number}-of-00009.safetensors") for number in (1, 2, 3))
    copied.write_bytes(path.with_name(USUAL[0]).read_bytes())
    save_file(OLD, plain, {"format": "pt"})
    unfinished.write_bytes(b"not finished")
    there = [USUAL[0].replace("-", "-00000009-", 1), copied.name, plain.name, unfinished.name]
    path.with_name(there[0]).write_bytes(path.with_name(USUAL[0]).read_bytes())
    save_shards(NEW, path)
    assert names(path) == sorted([*USUAL, *MARKED, INDEX, other.name, *there])
    assert list(compare_states(OLD, load_file(other))) == []


def test_a_copy_of_another_checkpoint_to_the_same_names_is_left_alone(path: Path):
    source = path.parent / "backup"
    source.mkdir()
    save_shards(NEW, source / path.name)
    save_shards(OLD, path)
    path.with_name(INDEX).unlink()
    save_plain(OLD, path)
    for name in sorted(os.listdir(source)):  # the index comes last
        shutil.copy2(source / name, path.parent)
        if name != INDEX:
            save_shards(OLD, path)
            save_plain(OLD, path)
    path.unlink()
    assert list(compare_states(NEW, load_file(path))) == []


def test_names_in_an_index_that_is_copied_before_its_shards_are_not_used(path: Path):
    copied = path.with_name("copied.index.json")
    copied.write_text(json.dumps({"weight_map": dict(zip("abc", USUAL, strict=True))}))
    save_shards(OLD, path)
    assert names(path) == sorted([*MARKED, INDEX, copied.name])


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_what_another_program_puts_at_the_name_of_a_shard_during_a_save_is_kept(path: Path, kind: str):
    save_shards(OLD, path)
    taken = path.with_name("model-00002-of-00004.safetensors")

    def make() -> np.ndarray:
        if kind == "file":
            taken.write_text("mine")
        elif kind == "folder":
            taken.mkdir()
        else:
            taken.symlink_to("elsewhere")
        return np.ones(5, "f4")

    with pytest.raises(WriteError, match=r"made by another program during the save\. Save again|is a folder"):
        save_shards({"d": Deferred((5,), "f4", make), **NEW}, path)
    assert os.path.lexists(taken)
    assert names(path) == sorted([*USUAL, taken.name, INDEX])
    assert holds(path, OLD)


def test_a_shard_that_another_file_has_replaced_is_kept(path: Path, monkeypatch: pytest.MonkeyPatch):
    save_shards(OLD, path)
    mine = path.with_name("mine")
    mine.write_text("mine")
    original = os.rename

    def rename(source: Any, target: Any) -> None:
        if source == str(path.with_name(USUAL[1])):  # the save is about to remove it
            os.replace(mine, source)
        original(source, target)

    monkeypatch.setattr(os, "rename", rename)
    save_shards(NEW, path)
    assert path.with_name(USUAL[1]).read_text() == "mine"
    assert names(path) == sorted([*MARKED, USUAL[1], INDEX])


def test_a_link_in_place_of_a_shard_is_kept_and_so_is_its_target(path: Path):
    save_shards(OLD, path)
    disk = path.parent / "disk"
    disk.mkdir()
    path.with_name(USUAL[0]).rename(disk / "first.safetensors")
    path.with_name(USUAL[0]).symlink_to(disk / "first.safetensors")
    assert holds(path, OLD)
    save_plain(NEW, path)
    assert names(path) == sorted(["disk", USUAL[0], path.name])
    assert len(list(disk.iterdir())) == 1


def test_a_plain_save_leaves_the_shards_of_another_library_alone(path: Path):
    from safetensors.numpy import save_file as save_stock

    for name, shard in zip("ab", USUAL, strict=False):
        save_stock({name: OLD[name]}, path.with_name(shard))
    path.with_name(INDEX).write_text(json.dumps({"weight_map": dict(zip("ab", USUAL, strict=False))}))
    before = {name: path.with_name(name).read_bytes() for name in names(path)}
    save_plain(NEW, path)
    assert list(compare_states(NEW, load_file(path))) == []
    assert {name: path.with_name(name).read_bytes() for name in before} == before


def test_a_plain_save_removes_our_shards_whose_index_another_program_rewrote(path: Path):
    save_shards(OLD, path)
    content = json.loads(path.with_name(INDEX).read_text())
    path.with_name(INDEX).write_text(json.dumps({"weight_map": content["weight_map"]}))
    save_plain(NEW, path)
    assert names(path) == [path.name]


def test_nothing_is_removed_while_an_index_in_the_folder_cannot_be_read_and_the_rest_is_removed_later(path: Path):
    save_shards(OLD, path)
    path.with_name("other.index.json").write_text("{")
    save_shards(NEW, path)
    there = [name for name in names(path) if not name.startswith(".statezoo")]
    assert there == sorted([*USUAL, *MARKED, INDEX, "other.index.json"])
    assert list(compare_states(NEW, load_file(path))) == []
    path.with_name("other.index.json").unlink()
    save_shards(OLD, path)
    assert len(names(path)) == 4
    assert holds(path, OLD)


def test_files_in_an_old_index_without_shard_names_are_kept(path: Path):
    part = path.with_name("part.safetensors")
    save_file(OLD, part)
    path.with_name(INDEX).write_text(json.dumps({"weight_map": dict.fromkeys(OLD, part.name)}))
    assert list(compare_states(OLD, load_file(path))) == []
    save_shards(NEW, path)
    assert names(path) == sorted([*USUAL, INDEX, part.name])


def test_anything_at_the_path_of_an_index_that_is_not_an_index_is_kept(path: Path):
    path.with_name(INDEX).write_text("a note")
    save_file(OLD, path)
    assert path.with_name(INDEX).read_text() == "a note"


def test_folders_and_pipes_in_the_way_are_refused_before_anything_is_written(path: Path):
    path.mkdir()
    with pytest.raises(WriteError, match=r"model.safetensors is a folder, and nothing was written. Give the name of a"):
        save_shards(OLD, path)
    path.rmdir()
    os.mkfifo(path.with_name(INDEX))
    with pytest.raises(WriteError, match=r"index.json is not a regular file, and nothing was written"):
        save_shards(OLD, path)
    assert names(path) == [INDEX]
    with pytest.raises(WriteError, match=r"The folder does not exist: create it first"):
        save_shards(OLD, path.parent / "missing" / path.name)


@pytest.mark.parametrize("name", ["a\\b.safetensors", "a\nb.safetensors", "a\udcff.safetensors"], ids=ascii)
def test_paths_that_an_index_cannot_have_are_refused(tmp_path: Path, name: str):
    with pytest.raises(
        ArgumentError, match=r"cannot be saved in shards: the index with their names allows no /.*Choose another"
    ):
        save_shards(OLD, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["état zéro.safetensors", "a.b.SafeTensors", "[x].safetensors", "a:b.safetensors"])
def test_unusual_paths_are_saved_and_found(tmp_path: Path, name: str):
    for state in (OLD, NEW, OLD):
        save_shards(state, tmp_path / name)
        assert list(compare_states(state, load_file(tmp_path / name))) == []
        assert len(list(tmp_path.iterdir())) == 4


def test_a_program_that_changes_its_working_directory_during_a_save_saves_where_it_began(
    path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(path.parent)

    def make() -> np.ndarray:
        os.chdir("/")
        return NEW["a"]

    save_file(NEW | {"a": Deferred((5,), "f4", make)}, path.name, max_shard_size=20)
    assert holds(path, NEW)


def test_relative_paths_and_links_replace_every_kind_of_state(path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(path.parent)
    for save, state in ((save_shards, OLD), (save_plain, NEW), (save_shards, OLD), (save_plain, NEW)):
        save(state, Path(path.name))
        assert holds(path, state)
        assert len(names(path)) == (1 if save is save_plain else 4)
    path.unlink()
    Path("disk").mkdir()
    path.symlink_to("disk/weights.safetensors")
    for save, state in ((save_shards, OLD), (save_plain, NEW), (save_shards, OLD)):
        save(state, Path(path.name))
        assert list(compare_states(state, load_file(path.name))) == []
        assert len(os.listdir("disk")) == (1 if save is save_plain else 4)


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
    from statezoo.checkpoints.sharding import reader as sharded

    save_shards(OLD, path)
    original = sharded.read_index
    saves = [save_shards, save_file]

    def read_index(index: str) -> bytes:
        text = original(index)
        if saves:
            saves.pop(0)(NEW, path)
        return text

    monkeypatch.setattr(sharded, "read_index", read_index)
    assert list(compare_states(NEW, load_file(path))) == []
    assert names(path) == [path.name]


@BEFORE
@AFTER
def test_a_symbolic_link_is_followed_by_every_kind_of_save(path: Path, before: Callable, after: Callable):
    disk = path.parent / "disk"
    disk.mkdir()
    path.symlink_to(disk / "weights.safetensors")
    for save, state in ((before, OLD), (after, NEW), (before, OLD)):
        save(state, path)
        assert list(compare_states(state, load_file(path))) == []
        assert list(compare_states(state, load_file(disk / "weights.safetensors"))) == []
        assert list(compare_states(state, load_file(path.parent))) == []
        assert len(list(disk.iterdir())) == (1 if save is save_plain else 4)
        assert names(path) == ["disk", path.name]
        assert path.is_symlink()


def test_shards_replace_those_beside_a_link_and_those_of_its_target(path: Path):
    save_shards(OLD, path)
    target = path.parent / "disk" / "weights.safetensors"
    target.parent.mkdir()
    path.symlink_to(target)
    save_shards(NEW, path)
    assert names(path) == ["disk", path.name]
    assert list(compare_states(NEW, load_file(path))) == []


def test_a_link_at_the_path_of_an_index_is_followed(path: Path):
    index = path.parent / "disk" / "index"
    index.parent.mkdir()
    index.touch()
    path.with_name(INDEX).symlink_to(index)
    for state in (OLD, NEW):
        save_shards(state, path)
        assert holds(path, state)
        assert path.with_name(INDEX).is_symlink()
        assert set(json.loads(index.read_text())["weight_map"]) == set(state)


def test_a_link_that_leads_back_to_itself_is_an_error_and_is_kept(path: Path):
    path.symlink_to(path.name)
    with pytest.raises(WriteError, match=r"symbolic link that leads back to itself, and nothing was written\. Remove"):
        save_shards(NEW, path)
    assert path.is_symlink()


def test_a_plain_file_that_is_saved_while_shards_replace_an_earlier_one_is_kept(
    path: Path, monkeypatch: pytest.MonkeyPatch
):
    save_plain(OLD, path)
    later = path.with_name("later")
    save_plain({"later": np.ones(3)}, path.with_name("later.safetensors"))
    path.with_name("later.safetensors").rename(later)
    original = os.replace

    def replace(source: Any, target: Any) -> None:
        original(source, target)
        if str(target).endswith(INDEX) and later.exists():
            original(later, path)

    monkeypatch.setattr(os, "replace", replace)
    save_shards(NEW, path)
    assert list(load_file(path)) == ["later"]


def test_a_link_to_a_file_that_no_shards_can_be_named_after_is_refused_and_kept(path: Path):
    blob = path.with_name("blob")  # as in Hugging Face's cache
    save_file(OLD, path)
    path.rename(blob)
    path.symlink_to(blob)
    with pytest.raises(
        ArgumentError, match=r"blob' cannot be saved in shards: .* no suffix but \.safetensors\. Choose"
    ):
        save_shards(NEW, path)
    assert names(path) == ["blob", path.name]
    assert list(compare_states(OLD, load_file(path))) == []


@BEFORE
@AFTER
def test_the_mode_and_the_owner_of_the_files_replaced_are_kept(path: Path, before: Callable, after: Callable):
    before(OLD, path)
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    for file in path.parent.iterdir():
        file.chmod(0o640)
        if is_root:
            os.chown(file, 12, 34)
    after(NEW, path)
    for file in path.parent.iterdir():
        status = file.stat()
        assert status.st_mode & 0o777 == 0o640, file
        assert not is_root or (status.st_uid, status.st_gid) == (12, 34)


def test_the_mode_of_new_shards_follows_the_umask(path: Path):
    before = os.umask(0o027)
    try:
        save_shards(OLD, path)
    finally:
        os.umask(before)
    assert {file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == {0o640}


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


def test_a_temporary_file_that_no_mark_names_is_not_removed(tmp_path: Path):
    foreign = tmp_path / ".statezoo-0123456789abcdef-0.tmp"
    foreign.write_text("mine")
    for _ in range(2):
        save_file({f"w{number}": np.ones(100) for number in range(4)}, tmp_path / "m.safetensors", max_shard_size=900)
    assert foreign.read_text() == "mine"


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
