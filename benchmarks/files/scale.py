"""SCALE: the cost of a tensor as their number grows, and the cost of a GiB as their size grows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from files.peers import LIMIT, OURS, OURS_HDF5, PEERS
from files.workers import Measured, State, Worker
from tables import GIB, MIB, Results, compare, milliseconds, show

COUNTS = (10, 100, 1_000, 10_000, 100_000)
SIZES = (MIB, 16 * MIB, 256 * MIB, GIB, 4 * GIB)
_ACTIONS = ("save", "load", "open + one tensor")


def measure(folder: Path, rounds: int, shrink: int) -> dict[str, Results]:
    """Print both tables. Return their results by "scale COUNT tensors" and "scale SIZE bytes"."""
    counts = {count: _measure(_small(count), folder, rounds) for count in COUNTS if count <= COUNTS[-1] // shrink}
    names = [f"{name}: {action}" for name in (LIMIT, OURS, OURS_HDF5) for action in ("save", "load")]
    show(
        "SCALE in number: tensors of 256 floats, microseconds per tensor",
        ["tensors", *names],
        ([f"{count:,}", *_cells(found, names, 1e6 / count)] for count, found in counts.items()),
    )
    sizes = {size: _measure(_large(size), folder, rounds) for size in SIZES if size <= SIZES[-1] // shrink}
    show(
        "SCALE in size: 64 tensors, seconds per GiB",
        ["MiB", *names],
        ([f"{size // MIB:,}", *_cells(found, names, GIB / size)] for size, found in sizes.items()),
    )
    opened = [(OURS, "open + one tensor"), (OURS_HDF5, "open + one tensor")]
    show(
        "SCALE in size: open and read one tensor of 4 KiB, ms",
        ["MiB", *(name for name, _ in opened)],
        (
            [f"{size // MIB:,}", *(milliseconds(found[key]) if key in found else "-" for key in opened)]
            for size, found in sizes.items()
        ),
    )
    return {f"scale {n} tensors": r for n, r in counts.items()} | {f"scale {n} bytes": r for n, r in sizes.items()}


def _small(count: int) -> State:
    rng = np.random.default_rng(0)
    return {f"layers.{i}.weight": rng.random(256, np.float32) for i in range(count)}


def _large(size: int) -> State:
    rng = np.random.default_rng(0)
    state = {f"layers.{i}.weight": rng.random((size // 256 // 64, 64), np.float32) for i in range(64)}
    return state | {"bias": rng.random(1024, np.float32)}


def _measure(state: State, folder: Path, rounds: int) -> Results:
    """Measure one format after the other, so that the memory holds the files of only one."""
    results: Results = {}
    # Anything shorter than a scheduler's tick is repeated.
    at_least_s = 0.1 if sum(array.nbytes for array in state.values()) < 64 * MIB else 0
    for name in (LIMIT, OURS, OURS_HDF5):
        worker = Worker(name, PEERS[name], state, folder)
        for action in _ACTIONS:
            if action in worker.actions:
                results |= compare([(worker, action)], rounds, at_least_s)
        worker.close()
    return results


def _cells(found: Results, names: list[str], factor: float) -> list[str]:
    cells = [found.get((name.split(": ")[0], name.split(": ")[1])) for name in names]
    return [_figure(cell, factor) for cell in cells]


def _figure(measured: Measured | None, factor: float) -> str:
    return f"{measured.seconds * factor:.3g}" if measured else "-"
