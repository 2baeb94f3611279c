"""Real training processes that get a signal at random moments, and are resumed, until they have finished."""

import json
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TRAIN = Path(__file__).parents[3] / "scripts" / "train.py"


@dataclass(frozen=True)
class Case:
    """A recipe to train, the number of epochs (the recipe's own if None), and the format of its checkpoints."""

    name: str
    format: str
    epochs: int | None = None

    def start(self, out: Path, *options: str) -> "subprocess.Popen[str]":
        """Start a process that trains into `out`, or resumes there."""
        command = [sys.executable, str(TRAIN), self.name, "--out", str(out), "--resume", "--save-every", "7", *options]
        command += ["--format", self.format] + (["--epochs", str(self.epochs)] if self.epochs else [])
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=out.parent)


@dataclass(frozen=True)
class Whole:
    """An undisturbed run: its folder, and how long it took before the training and for the training."""

    folder: Path
    startup_s: float
    training_s: float

    @classmethod
    def of(cls, case: Case, out: Path) -> "Whole":
        """Train without a kill."""
        began = time.monotonic()
        finish(case.start(out))
        took_s = time.monotonic() - began
        training_s = json.loads((out / "run.json").read_text())["made"]["wall_time_s"]
        return cls(out, took_s - training_s, training_s)


# SIGKILL ends a process at once. The first of the others asks it to save and stop, if it listens already.
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGINT, signal.SIGTERM)
# As a killed process, as one that stopped when asked, or as Python before it listens.
_STATUSES = {-signal.SIGKILL, -signal.SIGINT, -signal.SIGTERM, 128 + signal.SIGINT, 128 + signal.SIGTERM}


def kill_and_resume(case: Case, whole: Whole, out: Path, kills: int, rng: random.Random) -> int:
    """Train into `out`, ending the process by a signal up to `kills` times. Return how many hit a living process."""
    done = 0
    for _ in range(kills):
        process = case.start(out)
        # Some kills come before the training starts; if there are many, each leaves time for it to finish.
        latest_s = whole.startup_s + 2 * whole.training_s / (max(kills, 4) + 1)
        time.sleep(rng.uniform(0.5 * whole.startup_s, latest_s))
        process.send_signal(rng.choice(SIGNALS))
        _, errors = process.communicate()
        if process.returncode == 0:
            break
        assert process.returncode in _STATUSES, (process.returncode, errors)
        done += 1
    finish(case.start(out))
    return done


def finish(process: "subprocess.Popen[str]") -> None:
    """Wait for a process that must finish."""
    _, errors = process.communicate()
    assert process.returncode == 0, errors


def differences(one: Path, other: Path) -> list[str]:
    """Return the files of two run folders that differ in any byte, except for times in run.json."""
    names = sorted({str(path.relative_to(folder)) for folder in (one, other) for path in folder.rglob("*")})
    return [name for name in names if _content(one / name) != _content(other / name)]


def _content(path: Path) -> Any:
    if not path.is_file():
        return path.exists()
    if path.name != "run.json":
        return path.read_bytes()
    record = json.loads(path.read_text())
    del record["made"]["wall_time_s"]
    del record["made"]["environment"]["commit"]  # it changes with a commit between the runs
    return record
