"""How long a save of a history stops a training loop: in the foreground, and in the background.

python benchmarks/background.py --rounds 15

Each saves a state of 256 MiB in 64 tensors in turn, in interleaved rounds; the first round is not counted. The next
round begins when the background save has ended, as it has when training between two saves takes longer than writing.
The figures are medians, with the lowest and highest beside them.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from tables import MIB, show, spread

from statezoo.checkpoints import History

_TENSORS = 64


def contestants(folder: Path) -> dict[str, History]:
    """Return the histories to measure by name. The first is the one that the others are compared with."""
    options: dict[str, dict[str, Any]] = {
        "foreground": {},
        "background": {"background": True},
        "foreground, durable=False": {"durable": False},
        "background, durable=False": {"durable": False, "background": True},
    }
    return {name: History(folder / name, keep_last=1, **chosen) for name, chosen in options.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--mib", type=int, default=256)
    parser.add_argument("--folder", help="where to save; a temporary folder if not given")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    size = options.mib * MIB // _TENSORS // 4
    state = {f"layers.{number}.weight": rng.standard_normal(size, "f4") for number in range(_TENSORS)}
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        histories = contestants(Path(folder))
        stalls: dict[str, list[float]] = {name: [] for name in histories}
        wholes: dict[str, list[float]] = {name: [] for name in histories}
        for step in range(options.rounds + 1):
            for name, history in histories.items():
                start = time.perf_counter()
                history.save(step, state)
                stall = time.perf_counter() - start
                history.close()
                if step:
                    stalls[name].append(stall)
                    wholes[name].append(time.perf_counter() - start)
    first = statistics.median(next(iter(stalls.values())))
    rows = (
        [
            name,
            *spread(times),
            f"{statistics.median(times) / first:.3f}",
            f"{statistics.median(wholes[name]) * 1e3:.0f}",
        ]
        for name, times in stalls.items()
    )
    header = ["", "stall, ms", "lowest - highest", "x foreground", "until it is saved, ms"]
    show(f"STALL of a save: {_TENSORS} tensors, {options.mib} MiB, {options.rounds} rounds", header, rows)


if __name__ == "__main__":
    main()
