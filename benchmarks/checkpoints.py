"""Our checkpoints against other libraries and against the limits of the machine, in one interleaved run.

    make bench
    python benchmarks/checkpoints.py --work big,many,toy,scale,cold --rounds 5

BIG is 64 float32 tensors, 1 GiB; MANY 20,000 tensors of 256 floats; TOY 6 tensors, 41 numbers. SCALE goes from 10 to
100,000 tensors and from 1 MiB to 4 GiB; COLD starts whole processes. Each peer works in a separate process. Figures are
medians; files are in the page cache when they are read; a save goes to an unused path. Our digests are always written,
and checked unless a row says otherwise. BIG and SCALE need 24 GiB of memory: --shrink 64 makes them 64 times smaller,
for a trial.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from pathlib import Path

import numpy as np
from files import cold, marks, scale
from files.peers import PEERS, SAFETENSORS
from files.workers import Measured, State, Worker
from machine import describe
from tables import MIB, Results, compare, milliseconds, ratio, show

# Files in this checkout that belong to no commit.
BUILD = Path(__file__).parents[1] / "build"

PACKAGES = ("numpy", "h5py", "safetensors", "xxhash", "torch", "orbax-checkpoint", "mlx", "tinygrad")


def big(shrink: int) -> State:
    rng = np.random.default_rng(0)
    return {f"layers.{i}.weight": rng.random((4096 // shrink, 1024), np.float32) for i in range(64)}


def many(shrink: int) -> State:
    rng = np.random.default_rng(0)
    return {f"layers.{i}.weight": rng.random(256, np.float32) for i in range(20_000 // shrink)}


def toy(_shrink: int) -> State:
    rng = np.random.default_rng(0)
    shapes = {"fc1.weight": (5, 4), "fc1.bias": (5,), "fc2.weight": (2, 5), "fc2.bias": (2,), "norm": (3,), "scale": ()}
    return {name: np.asarray(rng.random(shape), np.float32) for name, shape in shapes.items()}


# Each work by name: its state, and for how many seconds an action is repeated in a round.
WORK = {"big": (big, 0.0), "many": (many, 0.0), "toy": (toy, 0.1)}


def measure(work: str, folder: Path, rounds: int, shrink: int, left_out: list[str]) -> Results:
    """Print the tables of one work, and return their contents."""
    make, at_least_s = WORK[work]
    state = make(shrink)
    size = sum(array.nbytes for array in state.values())
    results: Results = {}
    with contextlib.ExitStack() as stack:
        workers = [Worker(name, peer, state, folder) for name, peer in PEERS.items() if name not in left_out]
        for worker in workers:
            stack.callback(worker.close)
            if worker.absent:
                print(f"not measured: {worker.name} ({worker.absent})", flush=True)
        for kind, title in {"save": "save", "load": "load", "open": "open one tensor"}.items():
            actions = [(w, action) for w in workers for action in w.actions if action.startswith(kind)]
            found = compare(actions, rounds, at_least_s)
            show(
                f"{work.upper()} {title}: {len(state):,} tensors, {_size(size)}",
                ["", "ms", "x limit", f"x {SAFETENSORS}", "memory, MiB"],
                (_row(key, measured, found) for key, measured in found.items()),
            )
            results |= found
    return results


def _size(size: int) -> str:
    return f"{size / MIB:,.0f} MiB" if size >= MIB else f"{size} bytes"


def _row(key: tuple[str, str], measured: Measured, table: Results) -> list[str]:
    name, action = key
    return [
        f"{name}: {action}",
        milliseconds(measured),
        ratio(measured, marks.limit_of(action, table)),
        ratio(measured, table.get((SAFETENSORS, action.split(",")[0]))),
        f"{measured.growth_bytes / MIB:.0f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", default="big,many,toy,scale,cold", help="which, separated by commas")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--folder", default=BUILD, type=Path, help="where the files go: a folder on the disk to measure"
    )
    parser.add_argument("--shrink", type=int, default=1, help="divide the sizes of BIG, MANY and SCALE by this")
    parser.add_argument("--without", default="", help="peers to leave out: some need minutes for MANY")
    arguments = parser.parse_args()
    describe(PACKAGES)
    results: dict[str, Results] = {}
    arguments.folder.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="benchmark-", dir=arguments.folder) as temporary:
        folder = Path(temporary).resolve()
        for work in arguments.work.split(","):
            if work in WORK:
                results[work] = measure(work, folder, arguments.rounds, arguments.shrink, arguments.without.split(","))
            elif work == "scale":
                results |= scale.measure(folder, arguments.rounds, arguments.shrink)
            elif work == "cold":
                results[work] = cold.measure(folder, arguments.rounds)
            else:
                parser.error(f"no work is called {work!r}")
    marks.show_all(results)


if __name__ == "__main__":
    main()
