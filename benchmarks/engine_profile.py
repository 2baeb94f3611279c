"""A profile of our training step or inference: the functions of the engine, by microseconds in each step.

    OPENBLAS_NUM_THREADS=1 python benchmarks/engine_profile.py --work tense
    OPENBLAS_NUM_THREADS=1 python benchmarks/engine_profile.py --work linear --action infer

For ten seconds, a signal records the running function after every millisecond of processor time. Python handles a
signal when the next function begins, a call ends or a loop repeats, so a function may be charged for the end of the
code that ran before it.
"""

from __future__ import annotations

import argparse
import signal
import time
from collections import Counter
from pathlib import Path
from types import FrameType

from engines.in_statezoo import build
from engines.work import WORK
from tables import show

_SECONDS, _BLOCK, _SHOWN = 10, 50, 16


def sample(work: str, action: str) -> tuple[float, Counter[str]]:
    """Return the microseconds of one action, and how often each function was seen running."""
    act = getattr(build(WORK[work]()), action)
    for _ in range(_BLOCK):
        act()
    seen: Counter[str] = Counter()

    def look(_: int, frame: FrameType | None) -> None:
        if frame is not None:
            seen[f"{Path(frame.f_code.co_filename).name} {frame.f_code.co_qualname}"] += 1

    signal.signal(signal.SIGPROF, look)
    signal.setitimer(signal.ITIMER_PROF, 1e-3, 1e-3)
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < _SECONDS:
        for _ in range(_BLOCK):
            act()
        count += _BLOCK
    took = time.perf_counter() - start
    signal.setitimer(signal.ITIMER_PROF, 0)
    return took / count * 1e6, seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", choices=WORK, default="tense")
    parser.add_argument("--action", choices=("step", "infer"), default="step")
    arguments = parser.parse_args()
    microseconds, seen = sample(arguments.work, arguments.action)
    each = microseconds / seen.total()
    top = seen.most_common(_SHOWN)
    rows = [[name, f"{count * each:,.1f}"] for name, count in top]
    rows.append(["all others", f"{(seen.total() - sum(count for _, count in top)) * each:,.1f}"])
    show(f"{arguments.work} {arguments.action}: microseconds of {microseconds:,.1f}", ["", "us"], rows)


if __name__ == "__main__":
    main()
