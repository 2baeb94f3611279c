"""Temporary files: those of dead writers are removed, those of living ones kept, and writers do not interfere."""

import errno
import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from statezoo.checkpoints import WriteError, load_file, save_file
from statezoo.checkpoints.storage import durable, locks


def temporary(path: Path, number: int) -> Path:
    return path.with_name(f".statezoo-{number}.tmp")


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def replace_with(path: Path, content: bytes) -> None:
    with durable.replace(str(path), durable=False) as descriptor:
        durable.write_all(descriptor, content, 0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.safetensors"


@pytest.mark.parametrize("numbers", [[0], [0, 1, 2], [1, 2]])
def test_the_next_save_removes_what_dead_writers_left(path: Path, numbers: list[int]):
    for number in numbers:
        temporary(path, number).write_bytes(b"half a state")
    save_file({"x": np.ones(3)}, path)
    assert names(path.parent) == [path.name]


@pytest.mark.parametrize("others", [0, 500])
@pytest.mark.parametrize("numbers", [(0, 3, 12), (16,)])
def test_leftovers_of_writers_of_other_files_in_the_folder_are_removed_too(
    path: Path, numbers: tuple[int, ...], others: int
):
    """Each step of a run may have a name of its own: no save of that name would come to remove them."""
    for step in range(others):  # a large folder is not listed
        path.with_name(f"step-{step}-of-a-run-with-a-long-name.h5").touch()
    for number in numbers:  # the gaps were those of writers that finished
        temporary(path.with_name("step-7.h5"), number).write_bytes(b"half a state")
    save_file({"x": np.ones(3)}, path)
    assert [name for name in names(path.parent) if name.startswith(".")] == []


@pytest.mark.parametrize("name", [".statezoo-x.tmp", ".statezoo-0.tmp.gz", ".statezoo--1.tmp", "statezoo-0.tmp"])
def test_files_with_similar_names_are_not_touched(path: Path, name: str):
    path.with_name(name).write_bytes(b"precious")
    save_file({"x": np.ones(3)}, path)
    assert path.with_name(name).read_bytes() == b"precious"


def test_the_files_of_a_living_writer_are_not_touched_and_both_can_finish(path: Path):
    with durable.replace(str(path)) as first:
        with durable.replace(str(path)) as second:
            assert names(path.parent) == [temporary(path, 0).name, temporary(path, 1).name]
            durable.write_all(second, b"second", 0)
        assert path.read_bytes() == b"second"
        durable.write_all(first, b"first", 0)
    assert path.read_bytes() == b"first"
    assert names(path.parent) == [path.name]


@pytest.mark.parametrize("kind", ["folder", "pipe", "link"])
def test_anything_else_at_the_name_of_a_temporary_file_is_not_written_to_and_does_not_stop_a_save(
    path: Path, kind: str
):
    there = temporary(path, 0)
    victim = path.with_name("victim")
    victim.write_bytes(b"precious")
    {"folder": there.mkdir, "pipe": lambda: os.mkfifo(there), "link": lambda: there.symlink_to(victim)}[kind]()
    replace_with(path, b"new")
    assert path.read_bytes() == b"new"
    assert victim.read_bytes() == b"precious"


def test_a_file_that_is_removed_before_it_is_locked_is_not_used(path: Path, monkeypatch: pytest.MonkeyPatch):
    removed = []

    def lock(descriptor: int, operation: int) -> None:
        if not removed:  # another writer is faster
            removed.append(temporary(path, 0).unlink())
        original(descriptor, operation)

    original = fcntl.flock
    monkeypatch.setattr(fcntl, "flock", lock)
    replace_with(path, b"new")
    assert removed
    assert path.read_bytes() == b"new"
    assert names(path.parent) == [path.name]


def test_a_file_that_another_process_locked_first_is_left_to_it(path: Path, monkeypatch: pytest.MonkeyPatch):
    rival: list[int] = []

    def lock(descriptor: int, operation: int) -> None:
        if not rival:
            rival.append(os.open(temporary(path, 0), os.O_RDONLY))
            original(rival[0], fcntl.LOCK_EX)
        original(descriptor, operation)

    original = fcntl.flock
    monkeypatch.setattr(fcntl, "flock", lock)
    replace_with(path, b"new")
    os.close(rival[0])
    assert path.read_bytes() == b"new"
    assert names(path.parent) == [temporary(path, 0).name, path.name]


def test_a_writer_that_finishes_while_it_is_checked_is_not_mistaken_for_a_dead_one(
    path: Path, monkeypatch: pytest.MonkeyPatch
):
    def lock(descriptor: int, operation: int) -> None:
        if temporary(path, 0).exists() and os.fstat(descriptor).st_ino == left:
            temporary(path, 0).rename(path)
            temporary(path, 0).write_bytes(b"a third writer's")
        original(descriptor, operation)

    temporary(path, 0).write_bytes(b"finished")
    left = temporary(path, 0).stat().st_ino
    original = fcntl.flock
    monkeypatch.setattr(fcntl, "flock", lock)
    with durable.replace(str(path), durable=False):
        assert path.read_bytes() == b"finished"
        assert temporary(path, 0).read_bytes() == b"a third writer's"


def test_a_removed_temporary_file_is_an_error_and_a_file_with_its_name_is_not_used(path: Path):
    path.write_bytes(b"old")

    def replace_and_lose() -> None:
        with durable.replace(str(path)):
            temporary(path, 0).unlink()
            temporary(path, 0).write_bytes(b"another's")

    with pytest.raises(WriteError, match=r"its temporary file .*-0.tmp was removed meanwhile.*\nSave again"):
        replace_and_lose()
    assert path.read_bytes() == b"old"
    assert temporary(path, 0).read_bytes() == b"another's"


def test_without_locks_a_save_works_and_removes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch):
    temporary(path, 0).write_bytes(b"who knows")

    def refuse(*_: int) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", refuse)
        replace_with(path, b"without locks")
    assert path.read_bytes() == b"without locks"
    monkeypatch.setattr(locks, "fcntl", None)
    replace_with(path, b"on another system")
    assert path.read_bytes() == b"on another system"
    with pytest.raises(RuntimeError, match="stop"), durable.replace(str(path)):
        raise RuntimeError("stop")
    assert names(path.parent) == [temporary(path, 0).name, path.name]
    assert temporary(path, 0).read_bytes() == b"who knows"


def test_a_relative_path_refers_to_the_working_directory_at_the_start_of_the_save(
    path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(path.parent)
    with durable.replace(path.name):
        (path.parent / "elsewhere").mkdir()
        os.chdir(path.parent / "elsewhere")
    assert path.exists()
    assert names(path.parent / "elsewhere") == []


def test_permissions_are_never_wider_than_those_of_the_replaced_file(path: Path, monkeypatch: pytest.MonkeyPatch):
    path.touch(0o600)
    monkeypatch.setattr(os, "chmod", lambda *_: pytest.fail("the file was made with other permissions"))
    with durable.replace(str(path)) as descriptor:
        assert os.fstat(descriptor).st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", [b"", b"abc", np.arange(30_000).reshape(3, -1), np.zeros((0, 3))])
def test_all_bytes_are_written_however_few_the_system_accepts_at_a_time(
    path: Path, content: Any, monkeypatch: pytest.MonkeyPatch
):
    def take_some(descriptor: int, view: memoryview, offset: int) -> int:
        return os.pwrite(descriptor, view[: len(view) // 2 + 1], offset)

    monkeypatch.setattr(durable, "_write_at", take_some)
    with durable.replace(str(path)) as descriptor:
        durable.write_all(descriptor, content, 5)
    assert path.read_bytes() == (bytes(5) + bytes(content) if len(content) else b"")


def test_a_system_that_accepts_no_more_bytes_is_an_error_not_an_endless_wait(
    path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(durable, "_write_at", lambda *_: 0)
    with pytest.raises(WriteError, match="could not be written: the system takes no more bytes"):
        replace_with(path, b"abc")


def test_bytes_are_written_where_they_belong_without_pwrite_too(path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(durable, "_write_at", durable._seek_and_write)
    with durable.replace(str(path)) as descriptor:
        durable.write_all(descriptor, b"world", 6)
        durable.write_all(descriptor, b"hello ", 0)
    assert path.read_bytes() == b"hello world"


SAVE_FOR_A_WHILE = """
import sys, time, numpy
from statezoo.checkpoints import save_file
path, number, end = sys.argv[1], int(sys.argv[2]), time.monotonic() + float(sys.argv[3])
saves = 0
while time.monotonic() < end or saves < 10:
    save_file({str(n): numpy.full(30_000, number) for n in range(5)}, path, durable=saves % 3 == 0)
    saves += 1
print(saves)
"""


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".safetensors", ".h5", ".npz"])
def test_concurrent_writers_leave_one_complete_file_at_every_moment(path: Path, suffix: str):
    path = path.with_suffix(suffix)
    arguments = [sys.executable, "-c", SAVE_FOR_A_WHILE, path]
    writers = [
        subprocess.Popen([*arguments, str(number), "2"], stdout=subprocess.PIPE, text=True) for number in range(3)
    ]
    seen = set()
    while any(writer.poll() is None for writer in writers):
        if path.exists():
            arrays = list(load_file(path).values())
            assert len(arrays) == 5
            seen.add(arrays[0][0])
            assert all((array == arrays[0][0]).all() for array in arrays)
        time.sleep(0.001)
    assert all(int(writer.communicate()[0]) >= 10 for writer in writers)
    assert len(seen) > 1
    assert names(path.parent) == [path.name]
