"""A folder takes its place whole, whatever happens on the way."""

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from statezoo.zoo.publishing import placing
from statezoo.zoo.publishing.placing import placed

PLACE = """
import os, signal, sys
from pathlib import Path
from statezoo.zoo.publishing import placing

kill_at, exchange = int(sys.argv[2]), sys.argv[3] == "exchange"
if not exchange:
    placing._renameat2 = lambda one, other: False
calls = 0

def counting(function):
    def call(*arguments, **options):
        global calls
        result = function(*arguments, **options)
        calls += 1
        if calls == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return call

Path.rename, os.fsync = counting(Path.rename), counting(os.fsync)
placing._renameat2 = counting(placing._renameat2)
with placing.placed(Path(sys.argv[1]), lambda target: None) as folder:
    (folder / "content").write_text("new")
"""


def free(target: Path) -> None:
    """Let whatever stands there be replaced."""


@pytest.fixture(params=["exchange", "two renames"])
def exchange(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Once as Linux does it, once as a system without an exchange of names does."""
    if request.param == "two renames":
        monkeypatch.setattr(placing, "_renameat2", lambda one, other: False)
    return request.param


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "entry").mkdir()
    (tmp_path / "entry" / "content").write_text("old")
    return tmp_path / "entry"


def content(target: Path) -> str:
    return (target / "content").read_text()


def test_a_new_folder_replaces_the_old_one_and_nothing_is_left_over(target: Path, exchange: str):
    with placed(target, free) as folder:
        (folder / "content").write_text("new")
        assert content(target) == "old"
    assert content(target) == "new"
    assert os.listdir(target.parent) == ["entry"]


def test_a_first_folder_is_placed_in_a_parent_that_did_not_exist(tmp_path: Path):
    with placed(tmp_path / "zoo" / "entry", free) as folder:
        (folder / "content").write_text("new")
    assert content(tmp_path / "zoo" / "entry") == "new"


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt, SystemExit])
def test_whatever_ends_the_block_leaves_the_old_folder_and_nothing_else(target: Path, error: type[BaseException]):
    def end_badly() -> None:
        with placed(target, free) as folder:
            (folder / "content").write_text("new")
            raise error

    with pytest.raises(error):
        end_badly()
    assert content(target) == "old"
    assert os.listdir(target.parent) == ["entry"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_an_interrupt_between_the_two_renames_puts_the_old_folder_back(
    target: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
):
    rename = Path.rename

    def interrupted(self: Path, to: Path) -> Path:
        if self.name == "new":
            raise error
        return rename(self, to)

    monkeypatch.setattr(placing, "_renameat2", lambda one, other: False)
    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(error), placed(target, free) as folder:
        (folder / "content").write_text("new")
    assert content(target) == "old"


@pytest.mark.parametrize("way", ["exchange", "two renames"])
@pytest.mark.parametrize("kill_at", range(1, 8))
def test_killed_at_any_step_the_old_or_the_new_folder_is_there_for_the_next(target: Path, kill_at: int, way: str):
    command = [sys.executable, "-c", PLACE, str(target), str(kill_at), way]
    killed = subprocess.run(command, capture_output=True)
    assert killed.returncode in (0, -signal.SIGKILL), killed.stderr
    if way == "exchange":
        assert content(target) in ("old", "new")
    with placed(target, free) as folder:
        assert content(target) in ("old", "new")
        (folder / "content").write_text("newest")
    assert content(target) == "newest"
    assert os.listdir(target.parent) == ["entry"]


def test_a_second_process_has_to_wait(target: Path):
    descriptor = os.open(target.parent, os.O_RDONLY)
    with placed(target, free) as folder:
        (folder / "content").write_text("new")
        with pytest.raises(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(descriptor)


def test_a_check_that_refuses_leaves_everything_as_it_was(target: Path):
    def refuse(place: Path) -> None:
        raise FileExistsError(place)

    with pytest.raises(FileExistsError), placed(target, refuse):
        pytest.fail("the block must not run")
    assert content(target) == "old"
    assert os.listdir(target.parent) == ["entry"]
