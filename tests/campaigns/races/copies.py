"""Copy and rename checkpoints into and out of the folder of a history while it saves and removes.

    python tests/campaigns/races/copies.py 100
    python tests/campaigns/races/copies.py 1000 --seed 7

In each trial a thread saves checkpoints and keeps a few, while this thread copies, links, moves and renames, as people
and their programs do. Afterwards: nothing that is not the history's own was removed or changed, each finished copy
loads, and the history has kept what it promises. Prints counts; exit status 1 if anything is wrong.
"""

from __future__ import annotations

import collections
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "shared"))

import numpy as np
from reporting import arguments, conclude

from statezoo.checkpoints import CheckpointError, History, load_file

SAVES = 12
FIRST = 100  # the first step of the run
KINDS: dict[str, dict[str, Any]] = {"safetensors": {}, "hdf5": {"format": "hdf5"}, "share": {"share": True}}
Counts = collections.Counter[str]


def state(value: float) -> dict[str, Any]:
    return {"frozen": np.ones(20_000), "weight": np.full(20_000, value), "bias": np.full(3, value)}


def value_of(path: Path) -> float:
    """Return the value that a checkpoint was saved with. Raises CheckpointError, or AssertionError for a mixture."""
    loaded = load_file(path)
    assert set(loaded) == {"frozen", "weight", "bias"}, path
    values = {*np.unique(loaded["weight"]), *np.unique(loaded["bias"])}
    assert len(values) == 1, f"{path} mixes {values}"
    return float(values.pop())


class Trial:
    """A run that saves, an archive to copy from, and what must be there at the end."""

    def __init__(self, folder: Path, seed: int, counts: Counts) -> None:
        self.rng, self.counts, self.folder = random.Random(seed), counts, folder
        self.kind = self.rng.choice(list(KINDS))
        self.keep_last = self.rng.randrange(1, 4)
        self.run, self.out = folder / "run", folder / "out"
        self.out.mkdir()
        archive = History(folder / "archive", keep_last=100, durable=False, **KINDS[self.kind])
        for step in (3, 5, *range(FIRST, FIRST + 3)):
            archive.save(step, state(-step))
        self.archive = sorted((folder / "archive").glob("step-*"))
        self.history = History(self.run, keep_last=self.keep_last, durable=False, **KINDS[self.kind])
        self.foreign: dict[Path, float | str | None] = {}  # a checkpoint and its value, a text, or a link
        self.errors: list[str] = []
        self.saved = 0  # the last step that the run has saved

    def problems(self) -> list[str]:
        """Run the trial and return what is wrong at the end."""
        saver = threading.Thread(target=self.save)
        saver.start()
        while saver.is_alive():
            action = self.rng.choice(ACTIONS)
            try:
                action(self)
                self.counts[action.__name__] += 1
            except (OSError, shutil.Error):  # the run was faster: the program that copies says so itself
                self.counts["refused"] += 1
        saver.join()
        return [*self.errors, *self.wrong_foreign(), *self.wrong_own()]

    def save(self) -> None:
        try:
            for step in range(FIRST, FIRST + SAVES):
                self.history.save(step, state(step), {"loss": step})
                self.saved = step
        except BaseException:
            self.errors.append(traceback.format_exc())

    def wrong_foreign(self) -> list[str]:
        wrong = []
        for path, value in self.foreign.items():
            try:
                if isinstance(value, str):  # it may have been renamed with the folder that it is in
                    found: Any = next(self.folder.rglob(path.name)).read_text()
                else:
                    found = value_of(path) if value is not None else (None if path.is_symlink() else "no link")
            except (OSError, StopIteration, CheckpointError, AssertionError) as error:
                found = error
            if found != value:
                wrong.append(f"{path.relative_to(self.folder)} is {found!r}, not {value!r}")
        return wrong

    def wrong_own(self) -> list[str]:
        """Return what the history promised and did not keep. Nobody else used its last steps."""
        wrong = []
        for step in range(FIRST + SAVES - self.keep_last, FIRST + SAVES):
            found = [path for path in self.run.glob(f"step-{step:08}*") if not path.is_symlink()]
            if not found or value_of(found[0]) != step:
                wrong.append(f"step {step} of the run is {found}")
        lines = collections.Counter(record.step for record in self.history.log() if record.step >= FIRST)
        if any(lines[step] < 1 for step in range(FIRST, FIRST + SAVES)):
            wrong.append(f"the log has lines for {sorted(lines)}")
        last = self.run / f"step-{FIRST + SAVES - 1:08}"
        return wrong + [f"{path} was left" for folder in (self.run, last) for path in folder.glob(".statezoo-*")]

    def pick(self) -> tuple[Path, Path]:
        """Return a checkpoint of the archive, and a place in the run where nothing foreign is yet."""
        source = self.rng.choice(self.archive)
        step = int(source.name[5:13]) if self.rng.random() < 0.7 else self.rng.randrange(20, 60)
        target = self.run / f"step-{step:08}{source.suffix}"
        if target in self.foreign or step >= self.saved:  # a save of the same step would replace it
            raise FileExistsError(target)
        return source, target

    def own(self) -> Path:
        """Return a checkpoint that the run has saved, and may remove at any moment."""
        found = [path for path in self.run.glob("step-*") if path not in self.foreign and not path.is_symlink()]
        found = [path for path in found if FIRST <= int(path.name[5:13]) <= self.saved]
        if not found:
            raise FileNotFoundError
        return self.rng.choice(found)


def value_in(path: Path) -> float:
    """Return the value of a checkpoint of the archive: the negative of its step."""
    return -float(path.name[5:13])


def copy_in(trial: Trial) -> None:
    """Copy a checkpoint into the folder: file by file in any order, whole or under another name first."""
    source, target = trial.pick()
    if not target.exists() and trial.rng.random() < 0.2:
        done = subprocess.run(["cp", "-r", source, target], capture_output=True, check=False)
        if done.returncode or not target.is_dir() == source.is_dir():
            raise FileNotFoundError
    elif source.is_dir():
        names = sorted(os.listdir(source))  # the index comes last
        if trial.rng.random() < 0.5:
            trial.rng.shuffle(names)
        target.mkdir(exist_ok=True)
        for name in names:
            shutil.copy2(source / name, target / f".{name}.part")
            os.replace(target / f".{name}.part", target / name)
    elif trial.rng.random() < 0.5:
        shutil.copy2(source, target)
    else:
        shutil.copy2(source, target.with_name(f".{target.name}.part"))
        os.replace(target.with_name(f".{target.name}.part"), target)
    trial.foreign[target] = value_in(source)


def move_in(trial: Trial) -> None:
    """Rename a copy of a checkpoint into the folder, as `mv` does."""
    source, target = trial.pick()
    copy = trial.folder / "moving"
    shutil.rmtree(copy, ignore_errors=True)
    copy.unlink(missing_ok=True)
    shutil.copytree(source, copy) if source.is_dir() else shutil.copy2(source, copy)
    os.rename(copy, target)
    trial.foreign[target] = value_in(source)


def link_in(trial: Trial) -> None:
    """Link a checkpoint of the archive into the folder."""
    source, target = trial.pick()
    os.symlink(source, target)
    trial.foreign[target] = None


def copy_out(trial: Trial) -> None:
    """Copy a checkpoint out of the folder, which the run may remove meanwhile."""
    source = trial.own()
    target = trial.out / f"{len(trial.foreign)}{source.suffix}"
    step = float(source.name[5:13])
    if source.is_dir():
        has_index = (source / "model.safetensors.index.json").exists()
        shutil.copytree(source, target)
        if not has_index or not (target / "model.safetensors.index.json").exists():
            raise FileNotFoundError  # it was being written or removed
    else:
        shutil.copy2(source, target)
    trial.foreign[target] = step


def move_out(trial: Trial) -> None:
    """Rename a checkpoint out of the folder."""
    source = trial.own()
    step = float(source.name[5:13])
    if step >= FIRST + SAVES - trial.keep_last - 1:
        raise FileNotFoundError  # the run promises to keep it
    target = trial.out / f"{len(trial.foreign)}{source.suffix}"
    os.rename(source, target)
    if source.suffix or (target / "model.safetensors.index.json").exists():
        trial.foreign[target] = step


def rename_inside(trial: Trial) -> None:
    """Rename a checkpoint to one of another step, or to a name that means something to its owner."""
    source = trial.own()
    if int(source.name[5:13]) >= FIRST + SAVES - trial.keep_last - 1:
        raise FileNotFoundError
    step = float(source.name[5:13])
    other = trial.rng.choice([f"step-{trial.rng.randrange(60, 90):08}", "best"])
    target = trial.run / f"{other}{source.suffix}"
    if os.path.lexists(target):
        raise FileExistsError
    os.rename(source, target)
    if source.suffix or (target / "model.safetensors.index.json").exists():
        trial.foreign[target] = step


def put_note(trial: Trial) -> None:
    """Put a note next to the files of a checkpoint, or next to the checkpoints."""
    folder = trial.own() if trial.kind == "share" else trial.run
    note = folder / f"note-{len(trial.foreign)}.txt"
    with open(note, "x") as file:
        file.write("mine")
    trial.foreign[note] = "mine"


ACTIONS: list[Callable[[Trial], None]] = [copy_in, move_in, link_in, copy_out, move_out, rename_inside, put_note]


def run(trials: int, seed: int) -> tuple[Counts, list[str]]:
    """Run trials and return the counts, and what went wrong."""
    counts, failures = Counts(), list[str]()
    for number in range(trials):
        with tempfile.TemporaryDirectory() as folder:
            problems = Trial(Path(folder), seed + number, counts).problems()
        failures += [f"seed {seed + number}: {problem}" for problem in problems]
        counts["trials"] += 1
    return counts, failures


if __name__ == "__main__":
    parsed = arguments(__doc__, 100).parse_args()
    sys.exit(conclude(parsed.seed, *run(parsed.trials, parsed.seed)))
