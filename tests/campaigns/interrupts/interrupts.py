"""Ctrl-C and other interrupts at random moments, in everything that reads, writes or changes memory.

    python tests/campaigns/interrupts/interrupts.py 20000              # every job, with every kind of interrupt
    python tests/campaigns/interrupts/interrupts.py 500 --only zoo.publish --seed 7
    python tests/campaigns/interrupts/interrupts.py --opcodes   # every change in memory, before each of its bytecodes
    python tests/campaigns/interrupts/interrupts.py 500 --opcodes      # before 500 of them each

After each trial, memory or disk holds the old version or the new one, whole; no descriptor and no thread is left; the
same call can be made again, also in another process, and then the folder holds nothing that did not belong there.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import os
import random
import re
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from interrupting import KINDS, Interrupter
from jobs import JOBS, Job
from memory import CASES, TRACELESS
from opcodes import Opcodes, Trials

BATCH = 50  # trials in one process
_GENERATION = re.compile(r"-\d{8}(?=-)")  # the number of a save in shards
_CHECK_EVERY = 10  # trials between two checks that another process can make the same call


class Batch:
    """Trials of one job in a folder, in this process."""

    def __init__(self, name: str, folder: Path, seed: int, kinds: tuple[str, ...] = KINDS) -> None:
        self.job: Job = JOBS[name](folder)
        self.name, self.folder, self.seed = name, folder, seed
        self.kinds = [kind for kind in kinds if kind != "thread" or not self.job.starts_threads]
        self.counts: Counter[str] = Counter()
        self.failures: list[str] = []
        self.version = 0
        self._whole_call()
        self._duration_s, opcodes = 0.0, Opcodes(everywhere=False)
        self._whole_call(self._timed)
        self._whole_call(opcodes.call)
        self._bytecodes = opcodes.count
        self._names, self._open = self._listing(), self._descriptors()

    def run(self, trials: int) -> None:
        """Run trials until one fails."""
        rng = random.Random(f"{self.name} {self.seed}")
        for trial in range(trials):
            kind = rng.choice(self.kinds)
            try:
                self._trial(Interrupter(kind, rng, self._duration_s, self._bytecodes), trial)
            except BaseException as error:
                steps = traceback.extract_tb(error.__traceback__)[-4:]
                where = " > ".join(f"{Path(step.filename).name}:{step.lineno}" for step in steps)
                what = f"{type(error).__name__}: {error} ({where})"
                self.failures.append(f"{self.name}: {kind}, trial {trial} of seed {self.seed}: {what}")
                return

    def _trial(self, interrupter: Interrupter, trial: int) -> None:
        self.job.prepare()
        self.counts[interrupter.call(lambda: self.job.call(self.version + 1))] += 1
        found = self.job.found(self.version + 1)
        assert found in (self.version, self.version + 1), f"version {found} instead of {self.version} or the next"
        self.counts["new" if found > self.version else "old"] += 1
        self.version = found
        if trial % _CHECK_EVERY == 0:
            self._call_in_another_process()
        self._whole_call()
        names = self._listing()
        assert not self.job.tidy or names == self._names, f"in the folder: {names}, not {self._names}"
        self._require_no_leaks()

    def _timed(self, function: Callable[[], Any]) -> None:
        began = time.perf_counter()
        function()
        self._duration_s = 1.1 * (time.perf_counter() - began)

    def _whole_call(self, calling: Callable[[Callable[[], Any]], Any] = lambda function: function()) -> None:
        self.job.prepare()
        self.version += 1
        calling(lambda: self.job.call(self.version))
        found = self.job.found(self.version)
        assert found == self.version, f"a call that was not interrupted left version {found}, not {self.version}"

    def _call_in_another_process(self) -> None:
        child = os.fork()
        if child == 0:
            try:
                self._whole_call()
                os._exit(0)
            finally:
                traceback.print_exc()
                os._exit(1)
        ended = time.monotonic() + 30
        while os.waitpid(child, os.WNOHANG) == (0, 0):
            assert time.monotonic() < ended, "another process waits for a lock"
            time.sleep(0.001)
        self.job.prepare()
        self.version = max(self.version, self.job.found(self.version + 1))

    def _require_no_leaks(self) -> None:
        for thread in threading.enumerate():
            if thread is not threading.main_thread() and not thread.daemon:
                thread.join(10)
                assert not thread.is_alive(), f"the thread {thread.name} is left"
        gc.collect()
        left = self._descriptors()
        assert len(left) <= len(self._open), (
            f"open descriptors: {sorted((Counter(left) - Counter(self._open)).elements())}"
        )

    def _listing(self) -> list[str]:
        paths = (str(path.relative_to(self.folder)) for path in self.folder.rglob("*"))
        return sorted(_GENERATION.sub("", path) for path in paths)

    @staticmethod
    def _descriptors() -> list[str]:
        found = []
        for number in os.listdir("/proc/self/fd"):
            try:
                found.append(os.readlink(f"/proc/self/fd/{number}"))
            except OSError:
                continue  # that of the listing
        return found


def run_batch(name: str, trials: int, seed: int, kinds: tuple[str, ...] = KINDS) -> dict[str, Any]:
    """Run a batch in a process of its own. Return its counts and failures."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        result: dict[str, Any] = {"counts": {}, "failures": [f"{name}: the process of seed {seed} died"]}
        try:
            with tempfile.TemporaryDirectory() as folder:
                batch = Batch(name, Path(folder), seed, kinds)
                batch.run(trials)
                result = {"counts": batch.counts, "failures": batch.failures}
        except BaseException:
            result["failures"] = [f"{name}, seed {seed}: {traceback.format_exc()}"]
        os.write(writer, json.dumps(result).encode())
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as answers:
        text = answers.read()
    os.waitpid(child, 0)
    return json.loads(text) if text else {"counts": {}, "failures": [f"{name}: the process of seed {seed} was killed"]}


def run_all(trials: int, seed: int, names: list[str]) -> tuple[Counter[str], list[str]]:
    """Divide the trials among the jobs, and print their outcomes."""
    counts, failures = Counter[str](), list[str]()
    each = max(1, round(trials / len(names)))
    for name in names:
        sizes = [BATCH] * (each // BATCH) + ([each % BATCH] if each % BATCH else [])
        with ThreadPoolExecutor(2) as pool:
            results = list(pool.map(run_batch, [name] * len(sizes), sizes, itertools.count(seed)))
        found = sum((Counter(result["counts"]) for result in results), Counter[str]())
        print(f"{name:40} {dict(found)}", flush=True)
        counts += found
        failures += _shown(failure for result in results for failure in result["failures"])
    return counts, failures


def run_opcodes(most: int | None, seed: int, names: list[str]) -> tuple[Counter[str], list[str]]:
    """Interrupt every change in memory before each of its bytecodes, or before `most` of them."""
    counts, failures = Counter[str](), list[str]()
    for name in names:
        trials = Trials(name)
        places = range(1, trials.count + 1)
        if most is not None and most < len(places):
            places = random.Random(seed).sample(places, most)
        found = [failure for at in places if (failure := trials.failure(at)) is not None]
        print(f"{name:40} {len(places)} of {trials.count} bytecodes, {len(found)} failures", flush=True)
        counts["trials"] += len(places)
        failures += _shown(found)
    return counts, failures


def _shown(failures: Iterable[str]) -> list[str]:
    shown = list(failures)
    for failure in shown:
        print(f"  {failure}", flush=True)
    return shown


def main() -> int:
    """Run the campaign. Return 1 if a trial failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trials", type=int, nargs="?", help="20,000 if not given, or every bytecode")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--only", choices=[*JOBS], action="append")
    parser.add_argument("--opcodes", action="store_true")
    arguments = parser.parse_args()
    sys.unraisablehook = lambda _: None  # an interrupt in a __del__ is printed and goes no further
    began = time.monotonic()
    if arguments.opcodes:
        counts, failures = run_opcodes(arguments.trials, arguments.seed, arguments.only or [*CASES, *TRACELESS])
    else:
        counts, failures = run_all(arguments.trials or 20_000, arguments.seed, arguments.only or [*JOBS])
    print(f"seed {arguments.seed}: {dict(counts)}, {len(failures)} failures in {time.monotonic() - began:.0f} s")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
