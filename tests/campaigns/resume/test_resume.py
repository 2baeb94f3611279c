"""Trainings stopped from outside end with the bytes of one that was not. `make resume` does it to every entry."""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from killing import TRAIN, Case, Whole, differences, finish, kill_and_resume

from statezoo.checkpoints import verify
from statezoo.zoo.training.run.interruption import interruptible

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name != "posix", reason="Windows has no such signals")]
CASE = Case("linear-regression", "safetensors", epochs=60)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    return Whole.of(CASE, tmp_path_factory.mktemp("whole") / "run")


def wait_for_a_state(out: Path, process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 60
    while not (out / "training.safetensors").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize(
    "case",
    [
        Case("linear-regression", "safetensors", 30),
        Case("simple-mlp.digits-bn", "hdf5", 3),
    ],
    ids=lambda case: case.name,
)
def test_a_run_killed_at_random_moments_ends_with_the_bytes_of_an_undisturbed_run(case: Case, tmp_path: Path):
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")  # pytest shows it if the test fails
    whole = Whole.of(case, tmp_path / "whole")
    kill_and_resume(case, whole, tmp_path / "killed", 3, random.Random(seed))
    assert differences(whole.folder, tmp_path / "killed") == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_saves_its_state_and_says_how_to_resume(number: signal.Signals, whole: Whole, tmp_path: Path):
    out = tmp_path / "stopped"
    process = CASE.start(out)
    wait_for_a_state(out, process)
    process.send_signal(number)
    _, errors = process.communicate()
    assert process.returncode == 128 + number
    line = re.fullmatch(
        r"statezoo: linear-regression was stopped after step \d+ of 480, and its state was saved\.\n"
        r"To continue: statezoo train (linear-regression --out \S+ --resume)\n",
        errors,
    )
    assert line, errors
    subprocess.run([sys.executable, str(TRAIN), *line[1].split()], check=True, capture_output=True)
    assert differences(whole.folder, out) == []


def test_a_killed_run_continues_where_it_was_saved(whole: Whole, tmp_path: Path):
    out = tmp_path / "killed"
    process = CASE.start(out)
    wait_for_a_state(out, process)
    process.kill()
    process.communicate()
    assert verify(out / "training.safetensors").intact
    finish(CASE.start(out))
    assert differences(whole.folder, out) == []


def test_resuming_a_finished_run_changes_nothing(whole: Whole, tmp_path: Path):
    shutil.copytree(whole.folder, tmp_path / "run")
    finish(CASE.start(tmp_path / "run"))
    assert differences(whole.folder, tmp_path / "run") == []
    assert not (tmp_path / "run" / "training.safetensors").exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    if (
        not mount
        or subprocess.run([mount, "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], capture_output=True).returncode
    ):
        pytest.skip("only root may mount a small disk")
    yield disk
    subprocess.run(["umount", disk], check=True)


def fill(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(512))


def test_a_run_stopped_by_a_full_disk_continues_once_there_is_space(whole: Whole, small_disk: Path):
    out, ballast = small_disk / "run", small_disk / "ballast"
    process = CASE.start(out)
    wait_for_a_state(out, process)
    process.send_signal(signal.SIGSTOP)
    with pytest.raises(OSError, match="No space left"):
        fill(ballast)
    process.send_signal(signal.SIGCONT)
    _, errors = process.communicate()
    assert process.returncode == 1
    assert "could not be written: no space left on device. What was there before is unchanged." in errors
    assert "The disk is full: free some space" in errors
    assert verify(out / "training.safetensors").intact
    ballast.unlink()
    finish(CASE.start(out))
    assert differences(whole.folder, out) == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux limits a process that runs")
def test_a_run_stopped_by_a_refused_save_continues_without_the_limit(whole: Whole, tmp_path: Path):
    import resource

    out = tmp_path / "run"
    process = CASE.start(out)
    wait_for_a_state(out, process)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (64, 64))
    _, errors = process.communicate()
    assert process.returncode == 1
    assert "could not be written: file too large. What was there before is unchanged." in errors
    assert verify(out / "training.safetensors").intact
    assert {path.name for path in out.iterdir()} <= {"checkpoint.safetensors", "run.json", "training.safetensors"}
    finish(CASE.start(out))
    assert differences(whole.folder, out) == []


def test_two_processes_cannot_train_into_one_folder(tmp_path: Path):
    out = tmp_path / "run"
    first = CASE.start(out)
    wait_for_a_state(out, first)
    first.send_signal(signal.SIGSTOP)
    second = CASE.start(out)
    _, errors = second.communicate()
    first.kill()
    first.communicate()
    assert second.returncode == 1
    assert f"Another process is training into {out}. Wait for it" in errors


def test_the_first_signal_asks_to_stop_and_the_second_stops_at_once():
    with interruptible() as interruption:
        assert not interruption
        os.kill(os.getpid(), signal.SIGINT)
        assert interruption.signal == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
