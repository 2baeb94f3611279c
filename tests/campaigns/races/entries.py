"""Read an entry in several processes while others publish over it and are killed or interrupted.

    python tests/campaigns/races/entries.py 5000

Three readers load the entry by its name and by its folder, in both formats, verify it, read its card and list the zoo.
Two publishers replace it by one of two versions all the time: one exchanges folders in one step, the other renames
twice, as on a system that cannot exchange them. A third one runs the whole of zoo.publish. Each publisher gets SIGKILL
or Ctrl-C at random moments and is started again. Every read must find one of the two versions, whole, and what a user
keeps in the entry's folder and beside it must still be there at the end.
"""

import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "shared"))

from reporting import arguments, conclude

from statezoo import zoo
from statezoo.checkpoints import fingerprint
from statezoo.zoo import loading
from statezoo.zoo.loading import find
from statezoo.zoo.publishing import placing

NAME = "linear-regression"
READERS = 3
Versions = tuple[Path, Path]


def read(here: Path, versions: set[str], count: int, seed: int, results: Connection) -> None:
    """Read the entry `count` times and send the counts; a read that finds no whole version is sent as its error."""
    loading.HERE = here
    entry = f"file:{here / 'arch' / NAME}"
    rng, counts = random.Random(seed), Counter[str]()

    def load(name: str, format: str) -> bool:
        return fingerprint(zoo.load(name, format).state_dict()) in versions

    def verify() -> bool:
        failed = [check for check in zoo.verify(entry, metrics=False) if not check.passed]
        assert not failed, failed
        return True

    ways: dict[str, Callable[[], bool]] = {
        "load by name": lambda: load(NAME, rng.choice(["h5", "safetensors"])),
        "load by folder": lambda: load(entry, rng.choice(["h5", "safetensors"])),
        "verify": verify,
        "card": lambda: zoo.card(entry).startswith("---"),
        "list": lambda: zoo.list_models() == [NAME],
    }
    for _ in range(count):
        way = rng.choice(list(ways))
        try:
            counts[way if ways[way]() else f"BROKEN {way}: another version"] += 1
        except Exception as error:
            counts[f"BROKEN {way}: {type(error).__name__}: {error}"] += 1
    results.send(counts)


def replace(target: Path, versions: Versions, exchanges: bool, seed: int) -> None:
    """Replace the entry by one of its versions, again and again, until the process is ended."""
    rng = random.Random(seed)
    if not exchanges:
        placing._renameat2 = lambda one, other: False
    while True:
        with placing.placed(target, lambda target: None) as folder:
            shutil.copytree(rng.choice(versions), folder, dirs_exist_ok=True)


def publish(target: Path, runs: Versions, seed: int) -> None:
    """Publish one of two runs over the entry, again and again, until the process is ended."""
    rng = random.Random(seed)
    while True:
        zoo.publish(rng.choice(runs), target.parent, force=True)


def prepare(root: Path) -> tuple[Versions, Versions, set[str]]:
    """Make two runs and their entries. Return both, and the fingerprints of their weights."""
    recipe = zoo.get_recipe(NAME)
    runs, entries = [], []
    for seed in (0, 1):
        zoo.train(recipe.with_settings(seed=seed, epochs=40), root / f"run-{seed}")
        runs.append(root / f"run-{seed}")
        entries.append(zoo.publish(runs[-1], root / f"zoo-{seed}"))
    prints = {fingerprint(zoo.load(f"file:{entry}").state_dict()) for entry in entries}
    return (entries[0], entries[1]), (runs[0], runs[1]), prints


class Publisher:
    """A process that publishes, and the signals it gets."""

    def __init__(self, name: str, act: Callable[..., None], arguments: tuple[Any, ...], counts: Counter[str]) -> None:
        self.name, self._act, self._arguments, self._counts = name, act, arguments, counts
        self.start()

    def start(self) -> None:
        self.process = multiprocessing.get_context("fork").Process(target=self._run, daemon=True)
        self.process.start()

    def _run(self) -> None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 (an interrupted process shows its traceback)
        self._act(*self._arguments, random.SystemRandom().randrange(10**6))

    def end(self, number: signal.Signals) -> None:
        """Send a signal and wait for the end."""
        assert self.process.pid is not None
        os.kill(self.process.pid, number)
        self.process.join(10)
        if self.process.is_alive():  # Ctrl-C came where nothing raises it, such as in a finalizer
            self.process.kill()
            self.process.join()
        self._counts[f"{signal.Signals(number).name} to {self.name}"] += 1


def start_reader(here: Path, versions: set[str], count: int, seed: int) -> tuple[Any, Connection]:
    """Start a process that reads. Return it, and the connection that its counts come through."""
    context = multiprocessing.get_context("fork")
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=read, args=(here, versions, count, seed, send), daemon=True)
    process.start()
    return process, receive


def run(reads: int, seed: int) -> Counter[str]:
    """Run the campaign and return its counts: see reporting.py."""
    rng, counts = random.Random(seed), Counter[str]()
    with tempfile.TemporaryDirectory() as scratch:
        entries, runs, prints = prepare(Path(scratch))
        target = Path(shutil.copytree(find(NAME), Path(scratch) / "models" / "arch" / NAME))
        shutil.rmtree(target)
        shutil.copytree(entries[0], target)
        kept = {target / "notes.txt", target.parent / f".{NAME}-backup" / "notes.txt", target.parent / f"{NAME}-more"}
        for path in kept:
            path.parent.mkdir(exist_ok=True)
            path.write_text("mine")
        publishers = [
            Publisher("a publisher that exchanges", replace, (target, entries, True), counts),
            Publisher("a publisher that renames twice", replace, (target, entries, False), counts),
            Publisher("zoo.publish", publish, (target, runs), counts),
        ]
        readers = [
            start_reader(target.parents[1], prints, reads // READERS, rng.randrange(10**6)) for _ in range(READERS)
        ]
        while readers:
            time.sleep(rng.uniform(0.0, 0.3))
            struck = rng.choice(publishers)
            struck.end(rng.choice([signal.SIGKILL, signal.SIGINT]))
            struck.start()
            for process, receive in [pair for pair in readers if pair[1].poll()]:
                process.join()
                try:
                    counts += receive.recv()
                except EOFError:
                    counts[f"BROKEN: a reader died with status {process.exitcode}"] += 1
                readers.remove((process, receive))
        for publisher in publishers:
            publisher.end(signal.SIGKILL)
        counts += _left_over(target, entries[0], kept)
    return counts


def _left_over(target: Path, version: Path, kept: set[Path]) -> Counter[str]:
    """Publish once more, and count what is left over or missing after it."""
    with placing.placed(target, lambda target: None) as folder:
        shutil.copytree(version, folder, dirs_exist_ok=True)
    counts = Counter({"the user's files": sum(path.read_text() == "mine" for path in kept if path.exists())})
    counts["BROKEN: a file of the user is gone"] = len(kept) - counts["the user's files"]
    expected = {NAME, f".{NAME}-backup", f"{NAME}-more"}
    counts["BROKEN: something is left over"] = len(set(os.listdir(target.parent)) ^ expected)
    return +counts


if __name__ == "__main__":
    parsed = arguments(__doc__, 5000).parse_args()
    sys.exit(conclude(parsed.seed, run(parsed.trials, parsed.seed)))
