"""A folder is replaced atomically, whatever happens on the way."""

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from statezoo.zoo.publishing.placing import placed

STEPS = 18  # one more than there are
PLACE = """
import os, signal, sys
from pathlib import Path
from statezoo.zoo.publishing import placing

kill_at = int(sys.argv[2])
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

for name in ("rename", "mkdir", "touch", "unlink", "rmdir"):
    setattr(Path, name, counting(getattr(Path, name)))
os.fsync, os.unlink, os.rmdir = counting(os.fsync), counting(os.unlink), counting(os.rmdir)
with placing.placed(Path(sys.argv[1]), lambda target: None) as folder:
    (folder / "content").write_text("new")
print(calls)
"""


def free(target: Path) -> None:
    """Allow any target to be replaced."""


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "entry").mkdir()
    (tmp_path / "entry" / "content").write_text("old")
    return tmp_path / "entry"


def content(target: Path) -> str:
    return (target / "content").read_text()


def test_a_new_folder_replaces_the_old_one_and_nothing_is_left_over(target: Path):
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

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(error), placed(target, free) as folder:
        (folder / "content").write_text("new")
    assert content(target) == "old"


@pytest.mark.parametrize("kill_at", range(1, STEPS + 1))
def test_a_kill_at_any_step_leaves_the_old_or_the_new_folder_for_the_next_process(target: Path, kill_at: int):
    command = [sys.executable, "-c", PLACE, str(target), str(kill_at)]
    killed = subprocess.run(command, capture_output=True, text=True)
    assert killed.returncode in (0, -signal.SIGKILL), killed.stderr
    assert killed.returncode == 0 or kill_at < STEPS, "there are more steps than this test knows"
    with placed(target, free) as folder:
        assert content(target) in ("old", "new")
        (folder / "content").write_text("newest")
    assert content(target) == "newest"
    assert os.listdir(target.parent) == ["entry"]


def killed_between_the_renames(target: Path) -> None:
    """Kill a process while its target is missing, so that its leftovers stay."""
    for step in range(1, STEPS + 1):
        subprocess.run([sys.executable, "-c", PLACE, str(target), str(step)], capture_output=True)
        if not target.exists():
            return
    raise AssertionError("the target was never missing")


def test_an_entry_that_a_killed_process_moved_away_is_put_back_by_the_next_one_beside_it(tmp_path: Path):
    shorter, longer = tmp_path / "net.digits", tmp_path / "net.digits-bn"
    longer.mkdir()
    (longer / "content").write_text("the only copy")
    killed_between_the_renames(longer)
    with placed(shorter, free) as folder:
        (folder / "content").write_text("shorter")
    assert content(shorter) == "shorter"
    assert content(longer) == "the only copy"
    assert sorted(os.listdir(tmp_path)) == ["net.digits", "net.digits-bn"]


@pytest.mark.parametrize(
    "name", [".entry-backup", ".entry-x1y2z3", ".entry.publishing.old", "entry.publishing", ".a.publishing"]
)
def test_a_foreign_folder_stays_whatever_its_name(target: Path, name: str):
    (target.parent / name / "new").mkdir(parents=True)
    (target.parent / name / "new" / "precious").write_text("mine")
    with placed(target, free) as folder:
        (folder / "content").write_text("new")
    assert content(target) == "new"
    assert (target.parent / name / "new" / "precious").read_text() == "mine"


@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_anything_in_the_way_is_an_error_and_stays(target: Path, tmp_path: Path, kind: str):
    work = target.parent / ".entry.publishing"
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "new").mkdir(parents=True)
    if kind == "folder":
        elsewhere.rename(work)
    elif kind == "file":
        work.write_text("mine")
    else:
        work.symlink_to(elsewhere)
    with pytest.raises(FileExistsError, match=r"\.entry\.publishing is in the way .*; move it"), placed(target, free):
        pytest.fail("the block must not run")
    assert content(target) == "old"
    assert os.path.lexists(work)


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
