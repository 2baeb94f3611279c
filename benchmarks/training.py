"""One training step of tense-mlp, ours beside PyTorch's: medians of an interleaved run.

make bench
python benchmarks/training.py --rounds 200
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from tables import show

from statezoo import core, zoo


def contestants() -> dict[str, Callable[[], None]]:
    """Return what does one step, ours first."""
    recipe = zoo.get_recipe("tense-mlp")
    data = recipe.data()
    ours = zoo.create_model("tense-mlp")
    optimizer = core.optim.AdamW(ours.parameters(), lr=0.01)

    theirs = torch.nn.Sequential(torch.nn.Linear(23, 16), torch.nn.ReLU(), torch.nn.Linear(16, 5))
    their_optimizer = torch.optim.AdamW(theirs.parameters(), lr=0.01)
    x, y = torch.tensor(data.train_x), torch.tensor(data.train_y)

    def our_step() -> None:
        optimizer.zero_grad()
        recipe.loss(ours, data.train_x, data.train_y).backward()
        optimizer.step()

    def their_step() -> None:
        their_optimizer.zero_grad()
        torch.nn.functional.cross_entropy(theirs(x), y).backward()
        their_optimizer.step()

    return {"statezoo": our_step, "PyTorch eager": their_step}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200)
    rounds = parser.parse_args().rounds
    steps = contestants()
    times: dict[str, list[float]] = {name: [] for name in steps}
    for counted in range(rounds + 1):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if counted:
                times[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in times.items()}
    ours = next(iter(medians.values()))
    rows = ([name, f"{seconds * 1e3:.3f}", f"{seconds / ours:.2f}"] for name, seconds in medians.items())
    show("tense-mlp: one training step", ["", "ms", "theirs / ours"], rows)


if __name__ == "__main__":
    main()
