"""A folder is replaced atomically, whatever happens on the way."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from statezoo.zoo import RunError
from statezoo.zoo.publishing import placing
from statezoo.zoo.publishing.placing import placed
from statezoo.zoo.versions import MARK, place_of

STEPS = 40  # more than there are
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
placing._renameat2 = counting(placing._renameat2) if sys.argv[3] == "exchange" else lambda one, other: False
with placing.placed(Path(sys.argv[1]), lambda target: None) as folder:
    (folder / "content").write_text("new")
    (folder / "manifest.json").write_text('{"files": {"content": {}}}')
print(calls)
"""


def free(target: Path) -> None:
    """Allow any target to be replaced."""


def write(folder: Path, text: str) -> None:
    """Write what stands for an entry: a file, and the manifest that lists it."""
    (folder / "content").write_text(text)
    (folder / "manifest.json").write_text('{"files": {"content": {}}}')


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "entry").mkdir()
    write(tmp_path / "entry", "old")
    return tmp_path / "entry"


@pytest.fixture(params=["exchange", "two renames"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The way in which folders are replaced: in one step, or as on a system that cannot do that."""
    if request.param != "exchange":
        monkeypatch.setattr(placing, "_renameat2", lambda one, other: False)
    return request.param


def content(target: Path) -> str:
    return (target / "content").read_text()


@pytest.mark.usefixtures("way")
def test_a_new_folder_replaces_the_old_one_and_nothing_is_left_over(target: Path):
    with placed(target, free) as folder:
        write(folder, "new")
        assert content(target) == "old"
    assert content(target) == "new"
    assert os.listdir(target.parent) == ["entry"]


def test_a_first_folder_is_placed_in_a_parent_that_did_not_exist(tmp_path: Path):
    with placed(tmp_path / "zoo" / "entry", free) as folder:
        write(folder, "new")
    assert content(tmp_path / "zoo" / "entry") == "new"


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt, SystemExit])
def test_whatever_ends_the_block_leaves_the_old_folder_and_nothing_else(target: Path, error: type[BaseException]):
    def end_badly() -> None:
        with placed(target, free) as folder:
            write(folder, "new")
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
        write(folder, "new")
    assert content(target) == "old"


def place_and_kill(target: Path, kill_at: int, way: str) -> "subprocess.CompletedProcess[str]":
    """Replace a folder in a process that is killed at a step. After its last step it prints their number."""
    command = [sys.executable, "-c", PLACE, str(target), str(kill_at), way]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.slow
def test_a_kill_at_any_step_leaves_the_old_or_the_new_folder_for_readers_and_for_the_next_process(
    target: Path, way: str
):
    (target / "notes.txt").write_text("mine")
    for kill_at in range(1, STEPS + 1):
        killed = place_and_kill(target, kill_at, way)
        assert killed.returncode in (0, -signal.SIGKILL), killed.stderr
        assert content(place_of(target)) in ("old", "new")
        with placed(target, free) as folder:
            assert content(target) in ("old", "new")
            write(folder, "old")
        assert content(target) == "old"
        assert (target / "notes.txt").read_text() == "mine"
        assert os.listdir(target.parent) == ["entry"]
        if killed.returncode == 0:
            return
    raise AssertionError("there are more steps than this test knows")


def killed_between_the_renames(target: Path) -> None:
    """Kill a process while its target is missing, so that its leftovers stay."""
    for step in range(1, STEPS + 1):
        place_and_kill(target, step, "two renames")
        if not target.exists():
            return
        shutil.rmtree(target.parent / f".{target.name}.publishing", ignore_errors=True)
    raise AssertionError("the target was never missing")


@pytest.mark.parametrize("text", [b"", b"\xa5" * 512])
def test_a_mark_that_a_power_cut_tore_does_not_keep_the_next_process_from_publishing(target: Path, text: bytes):
    work = target.with_name(f".{target.name}.publishing")
    (work / "new").mkdir(parents=True)
    (work / MARK).write_bytes(text)
    with placed(target, free) as folder:
        write(folder, "new")
    assert (target / "content").read_text() == "new"
    assert not work.exists()


def test_an_entry_that_a_killed_process_moved_away_is_put_back_by_the_next_one_beside_it(tmp_path: Path):
    shorter, longer = tmp_path / "net.digits", tmp_path / "net.digits-bn"
    longer.mkdir()
    write(longer, "the only copy")
    killed_between_the_renames(longer)
    with placed(shorter, free) as folder:
        write(folder, "shorter")
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
        write(folder, "new")
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
        write(folder, "new")
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


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("name", ["notes.txt", "trials", "link"])
def test_what_the_user_keeps_in_the_folder_moves_into_the_new_one(target: Path, tmp_path: Path, name: str):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "precious").write_text("mine")
    if name == "trials":
        (target / name).mkdir()
        (target / name / "precious").write_text("mine")
    elif name == "link":
        (target / name).symlink_to(tmp_path / "outside")
    else:
        (target / name).write_text("mine")
    with placed(target, free) as folder:
        write(folder, "new")
    assert content(target) == "new"
    kept = target / name if name == "notes.txt" else target / name / "precious"
    assert kept.read_text() == "mine"
    assert (tmp_path / "outside" / "precious").read_text() == "mine"
    assert sorted(os.listdir(tmp_path)) == ["entry", "outside"]


def test_a_file_of_the_user_at_the_name_of_a_new_file_is_an_error_and_stays(target: Path):
    (target / "model.onnx").write_text("mine")

    def replace() -> None:
        with placed(target, free) as folder:
            write(folder, "new")
            (folder / "model.onnx").write_text("ours")

    with pytest.raises(FileExistsError, match=r"model\.onnx was not written by statezoo, and a new file has that name"):
        replace()
    assert content(target) == "old"
    assert (target / "model.onnx").read_text() == "mine"
    assert os.listdir(target.parent) == ["entry"]


@pytest.mark.usefixtures("way")
def test_a_link_at_the_name_of_an_old_file_is_removed_and_what_it_leads_to_stays(target: Path, tmp_path: Path):
    (target / "content").rename(tmp_path / "elsewhere")
    (target / "content").symlink_to(tmp_path / "elsewhere")
    with placed(target, free) as folder:
        write(folder, "new")
    assert content(target) == "new"
    assert (tmp_path / "elsewhere").read_text() == "old"


def test_a_call_inside_another_one_is_refused_and_disturbs_nothing(target: Path):
    with placed(target, free) as folder:
        with (
            pytest.raises(RunError, match="This call runs inside another one that is publishing into"),
            placed(target, free),
        ):
            pytest.fail("the block must not run")
        write(folder, "new")
    assert content(target) == "new"
    assert os.listdir(target.parent) == ["entry"]


def test_a_process_that_is_forked_in_the_block_leaves_the_publishing_to_its_parent(target: Path):
    child = 0

    def replace() -> None:
        nonlocal child
        with placed(target, free) as folder:
            write(folder, "new")
            child = os.fork()

    try:
        replace()
    except RunError:
        os._exit(7 if child == 0 else 8)
    if child == 0:
        os._exit(9)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert content(target) == "new"
    assert os.listdir(target.parent) == ["entry"]
