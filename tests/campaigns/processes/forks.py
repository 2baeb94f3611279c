"""Forks during everything: while this thread, a thread in the background and the threads of a save are at work.

    python tests/campaigns/processes/forks.py 500
    python tests/campaigns/processes/forks.py 500 --seed 7

Each trial starts saves and loads on several threads and forks meanwhile, from this thread or in a signal handler. The
child saves, loads, or goes on with what its parent was doing, and ends by os._exit, sys.exit, exec or a signal.

What the parent does must succeed. Both must end. No lock, descriptor or temporary file may be left, and every
checkpoint must be whole. A hang ends the campaign with the stacks of all threads.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "shared"))

from reporting import arguments, conclude
from worlds import CheckpointError, World, descriptors, quiet

PLACES = ("beside threads", "in a handler")
ENDS = ("os._exit", "sys.exit", "exec", "killed", "goes on")
_HANG_S = 60
_SETTLE_EVERY = 10
_OF_CHILD = 17  # the exit status of a child that has done all it should
_PROGRAM = f"import sys; sys.exit({_OF_CHILD})"


class Campaign:
    """Trials in one world. counts: their outcomes. failures: what went wrong."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.world, self.rng = World(folder), random.Random(seed)
        self.counts: Counter[str] = Counter()
        self.failures: list[str] = []
        self._last, self._parent = 10_000, os.getpid()
        self.world.settle()
        self._descriptors = descriptors()

    def run(self, count: int) -> None:
        """Run trials, of all places and ends in turn."""
        for number in range(count):
            faulthandler.dump_traceback_later(_HANG_S, exit=True)
            place, end = PLACES[number % 2], ENDS[number // 2 % len(ENDS)]
            try:
                forks = (self._beside_threads if place == PLACES[0] else self._in_a_handler)(end)
                self.counts[f"{place}, the child: {end}"] += forks
                self.world.check()
                if number % _SETTLE_EVERY == 0:
                    self.world.check_settled(self._descriptors)
            except Exception:
                self.failures.append(f"trial {number}, {place}, {end}: {traceback.format_exc()}")
                if len(self.failures) > 20:
                    break
        faulthandler.cancel_dump_traceback_later()

    def _beside_threads(self, end: str) -> int:
        """Fork while other threads save and load. Return the number of forks."""
        errors: list[str] = []
        threads = [
            threading.Thread(target=self._work, args=(self.rng.sample(list(self.world.saves), 3), errors)),
            threading.Thread(target=self._work, args=(self.rng.sample(list(self.world.actions), 3), errors)),
        ]
        self._do("History background")
        for thread in threads:
            thread.start()
        time.sleep(self.rng.uniform(0, 0.02))
        child = self._fork(end, is_handler=False)
        for thread in threads:
            thread.join()
        self._end_of(child, end)
        assert not errors, errors[0]
        return 1

    def _in_a_handler(self, end: str) -> int:
        """Fork in a signal handler that interrupts a save or a load. Return the number of forks: it may be over."""
        children: list[int] = []
        name = self.rng.choice(list(self.world.actions))
        signal.signal(signal.SIGALRM, lambda *_: children.append(self._fork(end, is_handler=True)))
        try:
            signal.setitimer(signal.ITIMER_REAL, self.rng.uniform(1e-5, 0.004))
            self._do(name)
        except CheckpointError:
            if os.getpid() == self._parent:
                raise  # a child may be told that its parent is saving
        finally:
            if os.getpid() == self._parent:
                signal.setitimer(signal.ITIMER_REAL, 0)
            else:
                self._be_child(end)
        for child in children:
            self._end_of(child, end)
        return len(children)

    def _fork(self, end: str, is_handler: bool) -> int:
        """Fork. Return in the child, too, if it should continue what was interrupted."""
        child = os.fork()
        if not child:
            signal.setitimer(signal.ITIMER_REAL, 0)
            if end != "goes on" or not is_handler:
                self._be_child(end)
        return child

    def _be_child(self, end: str) -> None:
        """Save and load, and end the process."""
        try:
            self._last += 1_000_000
            own = World(self.world.folder / f"child-{os.getpid()}")
            for world in own, self.world:
                for name in self.rng.sample(list(world.actions), 2):
                    self._last += 1
                    world.actions[name](self._last)
            for history in (*self.world.histories.values(), *own.histories.values()):
                history.close()
            own.check()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        if end == "exec":
            os.execv(sys.executable, [sys.executable, "-S", "-c", _PROGRAM])
        if end == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if end == "sys.exit":
            sys.exit(_OF_CHILD)  # unwinds what its parent was doing
        os._exit(_OF_CHILD)

    def _end_of(self, child: int, end: str) -> None:
        deadline, hangs = time.monotonic() + _HANG_S / 2, False
        while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0):
            time.sleep(0.001)
            if time.monotonic() > deadline:
                os.kill(child, signal.SIGUSR1)  # prints its stacks
                time.sleep(1)
                os.kill(child, signal.SIGKILL)
                deadline, hangs = deadline + _HANG_S, True
        status = os.waitstatus_to_exitcode(ended[1])
        assert not hangs, f"the child that is to end by {end} hangs"
        expected = -signal.SIGKILL if end == "killed" else _OF_CHILD
        assert status == expected, f"the child ended with {status}"
        subprocess.run(["rm", "-rf", self.world.folder / f"child-{child}"], check=True)

    def _do(self, name: str) -> None:
        self._last += 1
        self.world.actions[name](self._last)

    def _work(self, names: list[str], errors: list[str]) -> None:
        try:
            for name in names:
                self._do(name)
        except BaseException:
            errors.append(traceback.format_exc())


def main() -> int:
    parsed = arguments(__doc__, 750).parse_args()
    quiet()
    faulthandler.register(signal.SIGUSR1)
    parent = os.getpid()
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        try:
            campaign = Campaign(Path(folder), parsed.seed)
            campaign.run(parsed.trials)
        except SystemExit as end:
            if os.getpid() != parent:  # a child: the folder is its parent's
                sys.stdout.flush()
                os._exit(end.code if isinstance(end.code, int) else 1)
            raise
    return conclude(parsed.seed, campaign.counts, campaign.failures)


if __name__ == "__main__":
    sys.exit(main())
