"""Signals at random moments of every kind of save and load, with handlers that save, load or raise.

    python tests/campaigns/processes/signals.py 4000          # trials; takes some minutes
    python tests/campaigns/processes/signals.py 4000 --seed 7 --kind act

act: the handler saves or loads, too: both must end, without waiting for each other.
raise: the handler raises, as Ctrl-C does: what was there before is whole, or what was being saved.
storm: a handler that does nothing, every 100 microseconds: no system call that it interrupts may fail.

Every checkpoint must be whole all the time. After the next save, no temporary file, lock or descriptor is left. A hang
ends the campaign with the stacks of all threads.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import random
import signal
import statistics
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "shared"))

from reporting import arguments, conclude
from worlds import World, descriptors, quiet

KINDS = ("act", "raise", "storm")
_HANG_S = 60
_CHECK_EVERY, _SETTLE_EVERY = 5, 40
_STORM_S = 100e-6


class Interrupt(KeyboardInterrupt):
    """What the handlers raise."""


class Campaign:
    """Trials in one world. counts: their outcomes. failures: what went wrong."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.world, self.rng = World(folder), random.Random(seed)
        self.counts: Counter[str] = Counter()
        self.failures: list[str] = []
        self._durations: dict[str, list[float]] = defaultdict(list)
        self._last = 10_000
        self._handled: Callable[[], None] = lambda: None
        signal.signal(signal.SIGALRM, lambda *_: self._handled())
        sys.unraisablehook = self._unraised
        self.world.settle()
        self._descriptors = descriptors()

    def run(self, count: int, kinds: tuple[str, ...]) -> None:
        """Run trials, of the kinds in turn."""
        for number in range(count):
            faulthandler.dump_traceback_later(_HANG_S, exit=True)
            kind = kinds[number % len(kinds)]
            name = self.rng.choice(list(self.world.actions))
            try:
                outcome = {"act": self._act, "raise": self._raise, "storm": self._storm}[kind](name)
                self.counts[f"{kind}: {outcome}"] += 1
                if number % _CHECK_EVERY == 0:
                    self.world.check()
                if number % _SETTLE_EVERY == 0:
                    self._settle()
            except Exception as error:
                self.failures.append(f"trial {number}, {kind} in {name}: {type(error).__name__}: {error}")
                if len(self.failures) > 20:
                    break
        faulthandler.cancel_dump_traceback_later()

    def _act(self, name: str) -> str:
        """Interrupt an action by another one."""
        other = self.rng.choice(list(self.world.actions))
        ran: list[str] = []

        def handle() -> None:
            try:
                self._call(other)
                ran.append("")
            except BaseException:  # which the interrupted code might catch
                ran.append(f"{other} in the handler: {traceback.format_exc()}")

        self._interrupted(name, handle)
        assert not any(ran), ran[0]
        return "the handler ran" if ran else "it was over"

    def _raise(self, name: str) -> str:
        """Interrupt an action by an exception. Keep the exception, as an interactive session does."""

        def handle() -> None:
            raise Interrupt

        kept: Interrupt | None = None
        try:
            self._interrupted(name, handle)
        except Interrupt as interrupt:
            kept = interrupt
        if self.rng.random() < 0.5:
            kept = None if kept is None else kept.with_traceback(None)
        return "it was over" if kept is None else "interrupted"

    def _storm(self, name: str) -> str:
        self._handled = lambda: None
        signal.setitimer(signal.ITIMER_REAL, _STORM_S, _STORM_S)
        try:
            self._call(name)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        return "ended"

    def _interrupted(self, name: str, handle: Callable[[], None]) -> None:
        usual_s = statistics.median(self._durations[name][-9:] or [0.003])
        self._handled = handle
        try:
            start = time.perf_counter()
            try:
                signal.setitimer(signal.ITIMER_REAL, max(1e-6, self.rng.uniform(0, 1.2 * usual_s)))
                self._call(name)
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            self._durations[name].append(time.perf_counter() - start)
        finally:
            self._handled = lambda: None

    def _call(self, name: str) -> None:
        self._last += 1
        self.world.actions[name](self._last)

    def _settle(self) -> None:
        self.world.check_settled(self._descriptors)
        assert gc.isenabled(), "the garbage collector is off"
        assert threading.active_count() == 1, f"threads: {threading.enumerate()}"

    def _unraised(self, unraised: Any) -> None:
        if unraised.exc_type is not Interrupt:  # one in a finalizer is lost, as Python says
            self.failures.append(f"unraisable: {unraised.exc_value!r} in {unraised.object!r}")


def main() -> int:
    parser = arguments(__doc__, 4000)
    parser.add_argument("--kind", action="append", choices=KINDS)
    parsed = parser.parse_args()
    quiet()
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        campaign = Campaign(Path(folder), parsed.seed)
        campaign.run(parsed.trials, tuple(parsed.kind or KINDS))
    return conclude(parsed.seed, campaign.counts, campaign.failures)


if __name__ == "__main__":
    sys.exit(main())
