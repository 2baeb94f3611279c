"""Training steps and inferences of small models: ours against hand-written NumPy, PyTorch and JAX, interleaved.

    make bench
    python benchmarks/engine.py --work tense,cnn,lstm,gpt --rounds 30

Each contestant works in a separate process, once with one thread and once with its default number of threads. All start
from the same weights and data, and their losses over 20 steps and their outputs must agree before anything is timed. In
each round they take turns, a block of steps each; figures are medians of the rounds. "numpy" is the floor: the same by
hand, without an engine (engines/in_numpy.py says what that saves); cnn, lstm and gpt are not written by hand.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
from collections.abc import Iterable

import numpy as np
from engines.marks import FLOOR, JAX, OURS, TORCH, Results, Times, show_marks
from engines.work import WORK
from engines.workers import Memory, Proof, Worker
from machine import describe
from tables import show

CONTESTANTS = (OURS, FLOOR, TORCH, JAX)
PACKAGES = ("numpy", "torch", "jax")
# The values of --threads: whether each means one thread, and its name in the tables.
THREADS = {"1": (True, "1 thread"), "default": (False, "default threads")}
ACTIONS = ("step", "infer")

# All compute in float32, each in its own order. 20 steps amplify that: we saw 3e-7 of a loss and 1e-5 in an output.
STEPS, LOSS_TOLERANCE, OUTPUT_TOLERANCE = 20, 1e-5, 1e-3
# The time of one block: long enough that reading the clock does not count, short enough that a round ends soon.
_BLOCK_S = 0.02
_MEMORY_AFTER = (10, 1000)


def require_equal(work: str, proofs: dict[str, Proof]) -> None:
    """Raise SystemExit unless all contestants have the losses and the output of the first."""
    first, expected = next(iter(proofs.items()))
    for name, proof in proofs.items():
        loss = float(np.max(np.abs(proof.losses / expected.losses - 1)))
        output = float(np.max(np.abs(proof.output - expected.output)))
        if not (loss <= LOSS_TOLERANCE and output <= OUTPUT_TOLERANCE):
            raise SystemExit(
                f"{work}: {name} and {first} differ, so nothing is timed: the losses of {STEPS} steps by up "
                f"to {loss:.1e} (relative), the outputs after them by up to {output:.1e}."
            )


def measure(work: str, workers: list[Worker], rounds: int) -> dict[tuple[str, str], Times]:
    """Check that all contestants compute the same. Return their times by (contestant, action)."""
    workers = [worker for worker in workers if work not in worker.without]
    require_equal(work, {worker.name: worker.ask("prove", work, STEPS) for worker in workers})
    counts = {(w, action): _block(w, work, action) for w in workers for action in ACTIONS}
    runs: dict[tuple[str, str], list[float]] = {(w.name, action): [] for w, action in counts}
    for _ in range(rounds):
        for (worker, action), count in counts.items():
            runs[worker.name, action].append(worker.ask("seconds", work, action, count))
    return {key: Times(statistics.median(seconds), min(seconds)) for key, seconds in runs.items()}


def _block(worker: Worker, work: str, action: str) -> int:
    """Return how many repetitions of an action make a block. Finding out also warms it up."""
    count = 1
    while (seconds := worker.ask("seconds", work, action, count)) * count < _BLOCK_S / 2:
        count *= 2
    return max(1, round(_BLOCK_S / seconds))


def run(works: list[str], names: list[str], rounds: int, one_thread: bool, with_memory: bool) -> Results:
    """Return the times by work, contestant and action. Print what is left out, and our memory on request."""
    with contextlib.ExitStack() as stack:
        workers = [Worker(name, one_thread) for name in names]
        for worker in workers:
            stack.callback(worker.close)
            if worker.absent:
                print(f"not measured: {worker.name} ({worker.absent})", flush=True)
        present = [worker for worker in workers if not worker.absent]
        results = {(work, *key): t for work in works for key, t in measure(work, present, rounds).items()}
        if with_memory:
            ours = present[0]
            show_memory({work: ours.ask("memory", work, _MEMORY_AFTER) for work in works})
    return results


def show_times(threads: str, works: Iterable[str], results: Results) -> None:
    for action, title in {"step": "training step", "infer": "inference, batch 1"}.items():
        show(
            f"{title}, {threads}: microseconds, median (least)",
            ["", *CONTESTANTS, "ours / numpy", "torch / ours", "jax / ours"],
            ([work, *_row({name: results.get((work, name, action)) for name in CONTESTANTS})] for work in works),
        )


def _row(times: dict[str, Times | None]) -> list[str]:
    def ratio(above: str, below: str) -> str:
        a, b = times[above], times[below]
        return f"{a.median / b.median:.2f}" if a and b else "-"

    figures = [f"{t.median * 1e6:,.1f} ({t.least * 1e6:,.1f})" if t else "-" for t in times.values()]
    return [*figures, ratio(OURS, FLOOR), ratio(TORCH, OURS), ratio(JAX, OURS)]


def show_memory(found: dict[str, list[Memory]]) -> None:
    columns = [f"{what}, step {steps:,}" for steps in _MEMORY_AFTER for what in ("peak", "held after")]
    rows = ([work, *(f"{b:,}" for m in memories for b in (m.peak, m.held))] for work, memories in found.items())
    show("statezoo: bytes beyond those before a training step", ["", *columns], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", default=",".join(WORK), help="which, separated by commas")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--without", default="", help="contestants to leave out, separated by commas")
    parser.add_argument("--threads", default="1,default", help="'1', 'default' or both")
    arguments = parser.parse_args()
    works, left_out = arguments.work.split(","), arguments.without.split(",")
    if unknown := [work for work in works if work not in WORK]:
        parser.error(f"no work is called {unknown[0]!r}; there are {', '.join(WORK)}")
    if unknown := [setting for setting in arguments.threads.split(",") if setting not in THREADS]:
        parser.error(f"--threads takes {', '.join(THREADS)} or both, not {unknown[0]!r}")
    settings = [THREADS[setting] for setting in arguments.threads.split(",")]
    names = [name for name in CONTESTANTS if name == OURS or name not in left_out]
    describe(PACKAGES)
    for work in works:
        print(f"- {work}: {WORK[work]().title}", flush=True)
    results: dict[str, Results] = {}
    for one_thread, threads in settings:
        results[threads] = run(works, names, arguments.rounds, one_thread, with_memory=not results)
        show_times(threads, works, results[threads])
    show_marks(results)


if __name__ == "__main__":
    main()
