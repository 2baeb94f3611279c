"""Power cuts at every moment of saves of every kind, and the checks of what they may leave.

    python tests/campaigns/power/campaign.py            # everything, with counts; takes some minutes
    python tests/campaigns/power/campaign.py 200 --scenario "save .h5" --seed 7

Each scenario runs once, and its system calls are recorded. For each moment, the states of the disk that POSIX allows
after a power cut are computed (see disk.py and states.py), made in a folder and read:

- a state whose save was reported is never lost, and nothing that loads is a mixture;
- files of other programs are as they were;
- the next save works. It clears what the last one left if the process was killed and the power stayed, and after a
  power cut if names reach the disk in the order of the calls, as with every journal. With shards, it needs the mark of
  the killed process for that, whose text is not flushed. Files that no checkpoint names may stay otherwise: "left
  over".
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from disk import Cut, Disk, cuts
from recording import record, why_not
from saves import Scenario
from scenarios import SCENARIOS, check_foreign, prepare
from states import Tree, after_kill, replay, trees

from statezoo.checkpoints import CheckpointError
from statezoo.zoo import ZooError

# Of the states that a cut may leave, many are those of the cut before.
_MOST_REPETITIONS = 5
# The exit status of a skipped test, as in automake.
_CANNOT_RUN = 77


class Seen(NamedTuple):
    """What is in a folder after a cut: the number of the state, or what is wrong. left: what the next save leaves."""

    number: int | None
    problem: str
    left: str = ""


class Campaign:
    """One scenario: recorded once, then cut everywhere. most: about how many different states to look at."""

    def __init__(self, scenario: Scenario, folder: Path, most: int, seed: int) -> None:
        self._scenario, self._folder, self._most, self._seed = scenario, folder, most, seed
        self.outcomes: Counter[str] = Counter()
        self.cuts = 0
        self._seen: dict[bytes, Seen] = {}

    @property
    def states(self) -> int:
        """The number of different states that were made and read."""
        return len(self._seen)

    def run(self) -> None:
        """Record, cut and look, once for each kill."""
        for kill in self._scenario.kills:
            self._run(kill)

    def _run(self, kill: int) -> None:
        root = self._folder / "recorded"
        root.mkdir()
        prepare(self._scenario, root)
        command = [sys.executable, Path(__file__).with_name("scenarios.py"), self._scenario.name, root]
        kills = [kill, 0] if kill else [0]
        disk = record([[*command, str(number)] for number in kills], root, self._folder / "log")
        moments = list(cuts(disk))
        self.cuts += len(moments)
        for number, cut in enumerate(moments):
            share = -(-self._most // (len(moments) * len(self._scenario.kills)))
            enough = self.states + share
            self._judge(disk, cut, after_kill(disk, cut), is_killed=True)
            for tree in trees(disk, cut, _MOST_REPETITIONS * share, self._seed + number):
                self._judge(disk, cut, tree)
                if self.states >= enough:
                    break
        shutil.rmtree(root)

    def _judge(self, disk: Disk, cut: Cut, tree: Tree, is_killed: bool = False) -> None:
        files = [(path, node, content and sha256(content).digest()) for path, node, content in tree.files]
        key = sha256(repr(files).encode()).digest()
        is_first = key not in self._seen
        if is_first:
            self._seen[key] = self._look(disk, tree)
        seen = self._seen[key]
        outcome = self._outcome(seen, cut.notes, is_killed)
        if seen.left and (is_killed or (tree.is_ordered and not self._scenario.needs_marks)):
            outcome = f"BROKEN: {'a kill' if is_killed else 'a cut'} leaves {seen.left}"
        if is_first or outcome.startswith("BROKEN"):
            self.outcomes[outcome] += 1
            self.outcomes["left over"] += bool(seen.left)

    def _outcome(self, seen: Seen, notes: list[str], is_killed: bool) -> str:
        begun, ended = (
            max([self._scenario.first, *(int(note.split()[1]) for note in notes if note.startswith(word))])
            for word in ("begin", "end")
        )
        if seen.number is None:
            return f"BROKEN: LOST: {seen.problem}" if is_killed else seen.problem
        if seen.number > begun:
            return f"BROKEN: state {seen.number} is there before it was saved"
        if seen.number < ended and (self._scenario.durable or is_killed):
            return f"BROKEN: LOST: state {ended}, after it was saved"
        return "new" if seen.number == begun else "old"

    def _look(self, disk: Disk, tree: Tree) -> Seen:
        with tempfile.TemporaryDirectory(dir=self._folder) as made:
            root, problem, number = Path(made), "", None
            replay(disk, tree, root)
            try:
                number = self._scenario.look(root)
            except (CheckpointError, ZooError, FileNotFoundError) as error:
                if self._scenario.durable:
                    return Seen(None, f"BROKEN: LOST: {str(error).replace(made, '')}")
                problem = "damaged, and reported"
            except Exception as error:
                return Seen(None, f"BROKEN: {type(error).__name__}: {str(error).replace(made, '')}")
            try:
                left = self._scenario.go_on(root)
                check_foreign(root)
            except Exception as error:
                return Seen(None, f"BROKEN: then: {type(error).__name__}: {str(error).replace(made, '')}")
            return Seen(number, problem, ", ".join(left))


class Result(NamedTuple):
    """The outcomes of a scenario."""

    name: str
    cuts: int
    states: int
    outcomes: Counter[str]

    def __str__(self) -> str:
        counts = ", ".join(f"{count:,} {outcome}" for outcome, count in sorted((+self.outcomes).items()))
        return f"{self.name:42} {self.cuts:4} cuts {self.states:6,} states: {counts}"


def run(name: str, folder: Path | None, most: int, seed: int) -> Result:
    """Run the campaign of a scenario."""
    with tempfile.TemporaryDirectory(dir=folder) as made:
        campaign = Campaign(SCENARIOS[name], Path(made).resolve(), most, seed)
        campaign.run()
    return Result(name, campaign.cuts, campaign.states, campaign.outcomes)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("most", type=int, nargs="?", default=1000, help="states of each scenario (default: 1000)")
    parser.add_argument("--scenario", action="append", choices=SCENARIOS, help="all of them if not given")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where the files are made (default: a temporary folder)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="scenarios at a time (default: one a core)")
    arguments = parser.parse_args()
    if reason := why_not():
        print(reason, file=sys.stderr)
        sys.exit(_CANNOT_RUN)
    names = arguments.scenario or list(SCENARIOS)
    total: Counter[str] = Counter()
    states = 0
    with ProcessPoolExecutor(arguments.jobs) as pool:
        rest = arguments.folder, arguments.most, arguments.seed
        for result in pool.map(run, names, *([one] * len(names) for one in rest)):
            print(result, flush=True)
            total += result.outcomes
            states += result.states
    broken = sum(count for outcome, count in total.items() if outcome.startswith("BROKEN"))
    print(f"{states:,} states of {len(names)} scenarios, and {broken} broke what is promised")
    sys.exit(broken > 0)


if __name__ == "__main__":
    main()
