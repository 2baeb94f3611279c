"""Read histories and sharded checkpoints while other processes save, replace and remove them, and are killed.

    python tests/campaigns/races/readers.py 50000
    python tests/campaigns/races/readers.py 5000 --seed 7

Writers save to three histories with retention (two of them to one folder), in both formats and with shared shards, and
to one path as a plain file, in a few shards and in many. Each read must return one whole version that a writer wrote,
never an older one than the read before, never nothing, and no warning of damage. Prints counts; exit status 1 if
anything is wrong.
"""

from __future__ import annotations

import argparse
import collections
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "shared"))

import numpy as np
from reporting import arguments, conclude

from statezoo.checkpoints import DamagedWarning, History, load_file, open_checkpoint, save_file

HISTORIES: dict[str, dict[str, Any]] = {
    "plain": {"keep_last": 2},
    "hdf5": {"keep_last": 1, "format": "hdf5", "background": True},
    "share": {"keep_last": 1, "share": True},
}
WRITERS = ("plain 0", "plain 1", "hdf5 0", "share 0", "path 0")
SHARDS = (None, 40_000, 350)  # bytes: a plain file, a few shards, more than stay open at once
KILL_EVERY_S = 1.0
MOST_PROBLEMS = 5


def state(version: int) -> dict[str, Any]:
    arrays = {f"small.{number}": np.full(80, version, "f4") for number in range(70)}
    return {"frozen": np.ones(20_000), "weight": np.full(9_000, float(version)), **arrays}


def loss_of(version: int) -> float:
    """Return a number that tells a version, with no order."""
    return float(version * 7919 % 1009) + version / 2**20


def version_in(values: Any) -> int:
    """Return the version of a state. Raises AssertionError for a mixture."""
    assert len(values) == 72, len(values)
    versions = {float(value) for name in values if name != "frozen" for value in np.unique(np.asarray(values[name]))}
    assert len(versions) == 1, f"a mixture of {versions}"
    return int(versions.pop())


def history_at(folder: Path, kind: str) -> History:
    return History(folder / kind, keep_best=1, metric="loss", mode="min", durable=False, **HISTORIES[kind])


def write(folder: Path, kind: str, number: int) -> None:
    """Save versions forever. Two writers of one kind save the even and the odd ones."""
    if kind == "path":
        path = folder / "path" / "model.safetensors"
        first = version_in(load_file(path)) + 1 if os.listdir(path.parent) else 1
        for version in itertools.count(first):
            save_file(state(version), path, max_shard_size=SHARDS[version // 3 % 3], durable=version % 5 == 0)
    history = history_at(folder, kind)
    found = history.latest()
    step = 0 if found is None else found.step
    while True:
        step = max([step, *(saved.step for saved in history)]) + 1
        step += step % 2 != number if kind == "plain" else 0
        history.save(step, state(step), {"loss": loss_of(step)})


class Reader:
    """A process that reads in a loop, and remembers what it has seen."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.rng = folder, random.Random(seed)
        self.histories = {kind: history_at(folder, kind) for kind in HISTORIES}
        self.newest: dict[str, int] = collections.defaultdict(int)
        self.best: dict[str, float] = {}
        self.reads: list[Callable[[], str]] = [
            self.latest,
            self.load,
            self.find_best,
            self.listing,
            self.path,
            self.lazy,
        ]

    def kind(self) -> str:
        return self.rng.choice(list(HISTORIES))

    def seen(self, where: str, version: int) -> None:
        """Raise AssertionError if a version is older than one seen before."""
        assert version >= self.newest[where], f"{where}: {version} after {self.newest[where]}"
        self.newest[where] = version

    def latest(self) -> str:
        kind = self.kind()
        found = self.histories[kind].latest()
        assert found is not None, "None"
        assert found.metrics == {"loss": loss_of(found.step)}, found
        self.seen(kind, found.step)
        return f"latest {kind}"

    def load(self) -> str:
        kind = self.kind()
        found = self.histories[kind].load()
        assert found is not None, "None"
        assert version_in(found[1]) == found[0].step
        assert found[0].metrics == {"loss": loss_of(found[0].step)}, found[0]
        self.seen(kind, found[0].step)
        return f"load {kind}"

    def find_best(self) -> str:
        kind = self.kind()
        found = self.histories[kind].best()
        assert found is not None, "None"
        loss = found.metrics["loss"]
        assert loss == loss_of(found.step), found
        assert loss <= self.best.get(kind, loss), f"{kind}: {loss} after {self.best[kind]}"
        self.best[kind] = loss
        return f"best {kind}"

    def listing(self) -> str:
        kind = self.kind()
        found = list(self.histories[kind])
        assert found, "nothing"
        assert all(saved.metrics == {"loss": loss_of(saved.step)} for saved in found), found
        self.seen(kind, found[-1].step)
        return f"list {kind}"

    def path(self) -> str:
        file = self.rng.choice([self.folder / "path", self.folder / "path" / "model.safetensors"])
        mmap = self.rng.random() < 0.5
        self.seen("path", version_in(load_file(file, mmap=mmap)))
        return "load_file mapped" if mmap else "load_file"

    def lazy(self) -> str:
        with open_checkpoint(self.folder / "path" / "model.safetensors") as checkpoint:
            # Of many shards not all stay open: one that was replaced meanwhile is an error that says so.
            few = dict(itertools.islice(checkpoint.items(), 3))
            versions = {float(tensor[0]) for name, tensor in few.items() if name != "frozen"}
        assert len(versions) == 1, versions
        self.seen("path", int(versions.pop()))
        return "open_checkpoint"


def read(folder: Path, count: int, seed: int) -> None:
    """Read `count` times, and print the counts and the problems as JSON."""
    warnings.simplefilter("error", DamagedWarning)
    reader, counts, problems = Reader(folder, seed), collections.Counter[str](), []
    while counts.total() < count and len(problems) < MOST_PROBLEMS:
        try:
            counts[reader.rng.choice(reader.reads)()] += 1
        except Exception as error:
            if str(error).endswith("was replaced after the checkpoint was opened. Open it again."):
                counts["open_checkpoint overtaken"] += 1
                continue
            problems.append(traceback.format_exc())
    print(json.dumps([counts, problems]))


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(reads: int, seed: int, readers: int = 2) -> tuple[collections.Counter[str], list[str]]:
    """Read while writers save and are killed. Return the counts, and what went wrong."""
    rng, counts, problems = random.Random(seed), collections.Counter[str](), []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "path").mkdir()
        save_file(state(1), folder / "path" / "model.safetensors")
        for kind in HISTORIES:
            with history_at(folder, kind) as history:
                history.save(1, state(1), {"loss": loss_of(1)})
        writing = {writer: start("--write", folder, writer) for writer in WRITERS}
        reading = [start(reads // readers, "--read", folder, "--seed", seed + n) for n in range(readers)]
        while any(reader.poll() is None for reader in reading):
            time.sleep(KILL_EVERY_S)
            writer = rng.choice(WRITERS)
            counts["kills"] += end(writing[writer], problems)
            writing[writer] = start("--write", folder, writer)
        for process in writing.values():
            end(process, problems)
        for reader in reading:
            output, errors = reader.communicate()
            read, failed = json.loads(output) if output else ({}, [errors])
            counts.update(read)
            problems += failed
        for kind in HISTORIES:
            found = history_at(folder, kind).latest()
            counts[f"saves {kind}"] = found.step if found else 0
        counts["saves path"] = version_in(load_file(folder / "path"))
        problems += left_behind(folder)
    return counts, problems


def end(process: subprocess.Popen[str], problems: list[str]) -> int:
    """Kill a writer. Return 1 if it was still running."""
    process.kill()
    _, errors = process.communicate()
    if process.returncode != -9:
        problems.append(f"a writer failed: {errors}")
    return int(process.returncode == -9)


def left_behind(folder: Path) -> list[str]:
    """Save once more, and return the names of what killed writers left after that."""
    save_file(state(1), folder / "path" / "model.safetensors", max_shard_size=SHARDS[1])
    for kind in HISTORIES:
        with history_at(folder, kind) as history:
            history.save(10**8, state(1), {"loss": 0.0})
    return [f"{path} was left" for path in folder.rglob(".statezoo-*")]


def main() -> int:
    parser = arguments(__doc__, 50_000)
    parser.add_argument("--write", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--read", help=argparse.SUPPRESS)
    parsed = parser.parse_args()
    if parsed.write:
        kind, number = parsed.write[1].split()
        write(Path(parsed.write[0]), kind, int(number))
    if parsed.read:
        read(Path(parsed.read), parsed.trials, parsed.seed)
        return 0
    return conclude(parsed.seed, *run(parsed.trials, parsed.seed))


if __name__ == "__main__":
    sys.exit(main())
