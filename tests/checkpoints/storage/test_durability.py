"""A save that fails or is killed leaves the complete old file and nothing else."""

import contextlib
import errno
import gc
import os
import resource
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from statezoo.checkpoints import Deferred, ReadError, WriteError, load_file, save_file
from statezoo.checkpoints.storage import durable
from statezoo.checkpoints.storage.gc_pause import without_collection
from statezoo.checkpoints.testing import compare_states

OLD = {"x": np.arange(5.0)}


class ExplodingArray:
    """An array whose memory cannot be read when it is saved."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise self.error


def assert_only_the_old_file_is_there(path: Path) -> None:
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    assert list(compare_states(OLD, load_file(path))) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("x"), OSError(errno.EIO, "input/output error")])
@pytest.mark.parametrize("durable", [True, False])
def test_an_exception_in_the_middle_of_a_save_leaves_the_old_file(path: Path, error: BaseException, durable: bool):
    def fail() -> np.ndarray:
        raise error

    save_file(OLD, path)
    state = {"a": np.ones(100_000), "b": Deferred((100_000,), np.float64, fail)}
    with pytest.raises(ReadError if isinstance(error, OSError) else type(error)):
        save_file(state, path, durable=durable)
    assert_only_the_old_file_is_there(path)


@pytest.mark.parametrize("call", ["os.fsync", "os.replace", "os.open"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EACCES])
def test_a_system_call_that_fails_is_an_error_with_advice_and_leaves_the_old_file(
    path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int
):
    save_file(OLD, path)

    def failing(*_: Any, **__: Any) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(durable.os, call.removeprefix("os."), failing)
        with pytest.raises(WriteError, match=r"could not be written: .* What was there before is unchanged") as caught:
            save_file({"a": np.ones(3)}, path)
    assert caught.value.errno == code
    assert isinstance(caught.value, OSError)
    assert_only_the_old_file_is_there(path)


def test_a_folder_that_cannot_be_flushed_is_an_error_that_says_the_file_was_written(
    path: Path, monkeypatch: pytest.MonkeyPatch
):
    original = os.fsync

    def failing(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EIO, "Input/output error")
        original(descriptor)

    monkeypatch.setattr(durable.os, "fsync", failing)
    with pytest.raises(WriteError, match=r"was written, but its folder could not be flushed .*input/output error"):
        save_file(OLD, path)
    assert_only_the_old_file_is_there(path)


SAVE_FOR_EVER = """
import sys, numpy
from statezoo.checkpoints import save_file
number = 0
while True:
    number += 1
    save_file({str(n): numpy.full(20_000, number) for n in range(20)}, sys.argv[1])
    print(number, flush=True)
"""


@pytest.mark.slow
def test_a_killed_save_leaves_the_complete_old_or_new_state(path: Path):
    for trial in range(12):
        process = subprocess.Popen([sys.executable, "-c", SAVE_FOR_EVER, path], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.003 * trial)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        loaded = load_file(path)
        assert list(loaded) == [str(number) for number in range(20)]
        assert len({int(array[0]) for array in loaded.values()}) == 1
        assert all((array == array[0]).all() for array in loaded.values())
    save_file(OLD, path)
    assert_only_the_old_file_is_there(path)


def limited_to_64_kib() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, 65_536))


def test_a_file_larger_than_the_system_allows_is_an_error_with_advice_and_leaves_the_old_file(path: Path):
    save_file(OLD, path)
    code = (
        "import sys, numpy; from statezoo.checkpoints import *\n"
        "try: save_file({'x': numpy.zeros(100_000)}, sys.argv[1])\n"
        "except WriteError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, check=True, preexec_fn=limited_to_64_kib
    )
    assert "could not be written: file too large" in done.stdout
    assert "ulimit -f" in done.stdout
    assert done.stderr == ""
    assert_only_the_old_file_is_there(path)


@contextlib.contextmanager
def mounted(folder: Path, *arguments: str | Path) -> Iterator[None]:
    if subprocess.run(["mount", *arguments, folder], capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("durable", [True, False])
def test_a_full_disk_is_an_error_with_advice_and_leaves_the_old_file(path: Path, durable: bool):
    disk = path.parent / "disk"
    disk.mkdir()
    with mounted(disk, "-t", "tmpfs", "-o", "size=200k", "none"):
        save_file(OLD, disk / path.name)
        with pytest.raises(WriteError, match=r"no space left on device.*\nThe disk is full") as caught:
            save_file({"x": np.zeros(100_000)}, disk / path.name, durable=durable)
        assert caught.value.errno == errno.ENOSPC
        assert_only_the_old_file_is_there(disk / path.name)


def test_a_mount_point_at_the_path_is_an_error_with_advice_and_leaves_the_old_file(path: Path):
    save_file(OLD, path)
    with mounted(path, "--bind", path):
        with pytest.raises(WriteError, match=r"resource busy.* is unchanged.\nSomething is mounted at this very path"):
            save_file({"x": np.zeros(3)}, path)
        assert_only_the_old_file_is_there(path)


SAVE_AS_NOBODY = """
import os, sys, numpy
from statezoo.checkpoints import ReadError, WriteError, save_file
for path in sys.argv[1:]:  # the modules that a first save imports must still be readable
    save_file({"x": numpy.zeros(3)}, path)
os.chdir("/")
os.setuid(65534)
for path in sys.argv[1:]:
    try: save_file({"x": numpy.ones(3)}, path)
    except WriteError as error: print(error)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize(
    ("mode", "advice"),
    [
        (0o755, "You may not write in this folder"),
        (0o1777, "The file is protected, or another user's in a folder where"),
    ],
)
def test_another_users_folder_or_file_is_an_error_with_advice_and_leaves_the_old_file(mode: int, advice: str):
    for suffix in (".safetensors", ".h5"):
        with tempfile.TemporaryDirectory() as folder:  # other users cannot enter pytest's folder
            os.chmod(folder, mode)
            path = Path(folder) / f"state{suffix}"
            done = subprocess.run(
                [sys.executable, "-c", SAVE_AS_NOBODY, path], capture_output=True, text=True, check=True
            )
            assert f"is unchanged.\n{advice}" in done.stdout
            assert [entry.name for entry in Path(folder).iterdir()] == [path.name]
            assert not load_file(path)["x"].any()


def test_a_folder_at_the_path_a_missing_folder_and_a_file_in_the_way_are_errors_with_advice(path: Path):
    path.mkdir()
    with pytest.raises(WriteError, match=r"is a folder, and nothing was written. Give the name of a file"):
        save_file(OLD, path)
    with pytest.raises(WriteError, match=r"The folder does not exist: create it first"):
        save_file(OLD, path.parent / "missing" / path.name)
    (path.parent / "file").touch()
    with pytest.raises(WriteError, match=r"A part of the path is a file"):
        save_file(OLD, path.parent / "file" / path.name)
    os.mkfifo(path.parent / f"pipe{path.suffix}")
    with pytest.raises(WriteError, match=r"is not a regular file"):
        save_file(OLD, path.parent / f"pipe{path.suffix}")


def test_a_name_too_long_for_the_file_system_is_an_error_with_advice(path: Path):
    with pytest.raises(WriteError, match=r"The name is too long"):
        save_file(OLD, path.parent / ("x" * 300 + path.suffix))
    longest = path.parent / ("x" * (255 - len(path.suffix)) + path.suffix)
    save_file(OLD, longest)
    assert_only_the_old_file_is_there(longest)


def test_a_symbolic_link_is_followed_and_kept(path: Path):
    target = path.parent / "folder" / f"target{path.suffix}"
    target.parent.mkdir()
    path.symlink_to(target)
    for _ in range(2):  # the link points to nothing at first, then to a file
        save_file(OLD, path)
        assert path.is_symlink()
        assert target.is_file()
    assert list(compare_states(OLD, load_file(path))) == []


def test_a_symbolic_link_to_itself_is_an_error_with_advice(path: Path):
    path.symlink_to(path)
    with pytest.raises(WriteError, match=r"leads back to itself"):
        save_file(OLD, path)


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_permissions_come_from_the_umask_or_the_replaced_file(path: Path, umask: int):
    before = os.umask(umask)
    try:
        save_file(OLD, path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask
        path.chmod(0o640)
        save_file(OLD, path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
    finally:
        os.umask(before)


def test_saving_over_a_mapped_file_leaves_the_mapped_values_unchanged(path: Path):
    save_file({"x": np.zeros(1000)}, path)
    mapped = np.memmap(path, np.uint8, "r")
    before = mapped.tobytes()
    save_file({"x": np.ones(1000)}, path)
    assert mapped.tobytes() == before
    assert load_file(path)["x"].all()


def test_an_array_that_cannot_be_read_is_refused_before_anything_is_written(path: Path):
    save_file(OLD, path)
    with pytest.raises(ValueError, match=r"'bad' cannot be read as a NumPy array: no memory"):
        save_file({"bad": ExplodingArray(RuntimeError("no memory"))}, path)
    assert_only_the_old_file_is_there(path)


def test_the_owner_of_a_replaced_file_is_requested_for_the_new_one(path: Path, monkeypatch: pytest.MonkeyPatch):
    given: list[tuple[int, int]] = []
    save_file(OLD, path)
    status = os.stat(path)
    monkeypatch.setattr(os, "fchown", lambda descriptor, user, group: given.append((user, group)))
    save_file(OLD, path)
    assert given == []
    monkeypatch.setattr(os, "stat", lambda target, original=os.stat, **more: other_owner(original(target, **more)))
    monkeypatch.setattr(os, "lstat", lambda target, original=os.lstat: other_owner(original(target)))
    with durable.replace(str(path)):
        pass
    assert given == [(status.st_uid + 1, status.st_gid)]


def other_owner(status: os.stat_result) -> os.stat_result:
    """Return the status with a different user, as if the file had another owner."""
    values = list(status)
    values[4] += 1
    return os.stat_result(values)


def test_the_group_is_kept_if_the_owner_cannot_be(path: Path, monkeypatch: pytest.MonkeyPatch):
    given: list[tuple[int, int]] = []

    def fchown(descriptor: int, user: int, group: int) -> None:
        given.append((user, group))
        if user != -1:
            raise PermissionError

    save_file(OLD, path)
    monkeypatch.setattr(os, "fchown", fchown)
    monkeypatch.setattr(os, "lstat", lambda target, original=os.lstat: other_owner(original(target)))
    save_file(OLD, path)
    assert given == [(os.geteuid() + 1, os.stat(path).st_gid), (-1, os.stat(path).st_gid)]
    assert list(compare_states(OLD, load_file(path))) == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may give files away")
def test_a_save_by_root_keeps_the_owner_of_the_file(path: Path):
    save_file(OLD, path)
    os.chown(path, 4242, 4343)
    os.chmod(path, 0o600)
    save_file({"new": np.ones(2)}, path)
    status = os.stat(path)
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (4242, 4343, 0o600)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("shards", [False, True])
def test_a_child_that_leaves_its_parents_save_removes_nothing_and_the_save_goes_on(tmp_path: Path, shards: bool):
    parent, children = os.getpid(), list[int]()

    def make() -> np.ndarray:
        children.append(os.fork())
        if not children[0]:
            sys.exit(0)  # as in a worker that a Deferred starts: unwinds the save
        assert os.waitpid(children[0], 0)[1] == 0
        return np.ones(500)

    path = tmp_path / "state.safetensors"
    state = {"a": np.ones(500), "b": Deferred((500,), np.float64, make)}
    try:
        save_file(state, path, max_shard_size=4000 if shards else None)
    finally:
        if os.getpid() != parent:
            os._exit(0)
    assert list(load_file(path)) == ["a", "b"]
    assert [name for name in os.listdir(tmp_path) if name.startswith(".")] == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("shards", [False, True])
def test_a_child_that_goes_on_with_its_parents_save_is_told_so(tmp_path: Path, shards: bool):
    parent, children, outcome = os.getpid(), list[int](), 1

    def make() -> np.ndarray:
        children.append(os.fork())
        if children[0]:
            assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 7
        return np.ones(500)

    path = tmp_path / "state.safetensors"
    state = {"a": np.ones(500), "b": Deferred((500,), np.float64, make)}
    try:
        save_file(state, path, max_shard_size=4000 if shards else None)
        outcome = 2
    except WriteError as error:
        outcome = 7 if "was forked from the one that is saving it" in str(error) else 3
    finally:
        if os.getpid() != parent:
            os._exit(outcome)
    assert outcome == 2
    assert list(load_file(path)) == ["a", "b"]
    assert [name for name in os.listdir(tmp_path) if name.startswith(".")] == []


def test_an_interrupted_pause_of_the_garbage_collector_ends_and_a_forked_child_has_none_of_other_threads():
    for stop in KeyboardInterrupt, None:
        with contextlib.suppress(KeyboardInterrupt), without_collection():
            assert not gc.isenabled()
            with without_collection():
                assert not gc.isenabled()
            assert not gc.isenabled()
            if stop:
                raise stop
        assert gc.isenabled()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_the_garbage_collector_is_on_in_a_child_forked_while_another_thread_loads():
    paused, go_on = threading.Event(), threading.Event()

    def pause() -> None:
        with without_collection():
            paused.set()
            go_on.wait()

    thread = threading.Thread(target=pause)
    thread.start()
    paused.wait()
    child = os.fork()
    if not child:
        os._exit(0 if gc.isenabled() else 1)
    status = os.waitpid(child, 0)[1]
    go_on.set()
    thread.join()
    assert status == 0
    assert gc.isenabled()
