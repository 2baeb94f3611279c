"""Our times beside the peers', as ratios of medians taken in one interleaved run.

    make bench
    python benchmarks/run.py --rounds 21

Checkpoints are compared with the stock libraries and with the physical limit, a plain write (or read) of the same
bytes; training steps with PyTorch. Every contestant of a table runs once in each round, in turn, so that a machine that
slows down slows all of them; the page cache is warm. The digests of our checkpoints are always on.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import safetensors.numpy
import torch

from statezoo import checkpoints, core, zoo

Contestants = dict[str, Callable[[], object]]


def medians(contestants: Contestants, rounds: int) -> dict[str, float]:
    """The median seconds of each contestant, after one round that is not counted."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for counted in range(rounds + 1):
        for name, run in contestants.items():
            start = time.perf_counter()
            run()
            if counted:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def show(title: str, contestants: Contestants, rounds: int) -> None:
    """Print one table; the first contestant is ours, and the others are ratios to it."""
    result = medians(contestants, rounds)
    ours = next(iter(result.values()))
    print(f"\n{title}\n{'':34}median ms   theirs / ours")
    for name, seconds in result.items():
        print(f"  {name:30} {seconds * 1e3:11.3f}   {seconds / ours:.2f}")


def state_of(count: int, size: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {f"layers.{i}.weight": rng.standard_normal(size, dtype=np.float32) for i in range(count)}


def h5py_save(state: dict[str, np.ndarray], path: Path) -> None:
    with h5py.File(path, "w") as file:
        for name, array in state.items():
            file[name.replace(".", "/")] = array


def h5py_load(path: Path, names: list[str]) -> dict[str, np.ndarray]:
    with h5py.File(path) as file:
        return {name: np.asarray(file[name.replace(".", "/")]) for name in names}


def plain_write(state: dict[str, np.ndarray], path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        for array in state.values():
            file.write(array.data)
        os.fsync(file.fileno())


def plain_read(state: dict[str, np.ndarray], path: Path) -> list[np.ndarray]:
    arrays = [np.empty_like(array) for array in state.values()]
    with path.open("rb", buffering=0) as file:
        for array in arrays:
            file.readinto(array.data)
    return arrays


def compare_checkpoints(title: str, state: dict[str, np.ndarray], folder: Path, rounds: int) -> None:
    ours, ours_h5 = folder / "ours.safetensors", folder / "ours.h5"
    stock, plain, npz, h5 = (folder / name for name in ("stock.safetensors", "plain", "stock.npz", "stock.h5"))
    saves: Contestants = {
        "statezoo safetensors": lambda: checkpoints.save_file(state, ours),
        "statezoo hdf5": lambda: checkpoints.save_file(state, ours_h5),
        "plain write + fsync (limit)": lambda: plain_write(state, plain),
        "safetensors.numpy (no fsync)": lambda: safetensors.numpy.save_file(state, stock),
        "np.savez (no fsync)": lambda: np.savez(npz, **state),  # pyright: ignore[reportArgumentType]
        "h5py (no fsync)": lambda: h5py_save(state, h5),
    }
    show(f"{title}: save", saves, rounds)
    loads: Contestants = {
        "statezoo safetensors, verified": lambda: checkpoints.load_file(ours),
        "statezoo hdf5, verified": lambda: checkpoints.load_file(ours_h5),
        "plain read (limit)": lambda: plain_read(state, plain),
        "safetensors.numpy": lambda: safetensors.numpy.load_file(stock),
        "np.load of npz": lambda: dict(np.load(npz)),
        "h5py": lambda: h5py_load(h5, list(state)),
    }
    show(f"{title}: load", loads, rounds)


def compare_training(rounds: int) -> None:
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

    show("tense-mlp: one training step", {"statezoo": our_step, "PyTorch eager": their_step}, rounds * 20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    print(f"{os.cpu_count()} processors, NumPy {np.__version__}, {rounds} rounds")
    with tempfile.TemporaryDirectory() as folder:
        compare_checkpoints("64 tensors, 256 MiB", state_of(64, 1 << 20), Path(folder), rounds)
        compare_checkpoints("2,000 tensors of 256 floats", state_of(2_000, 256), Path(folder), rounds)
    compare_training(rounds)


if __name__ == "__main__":
    main()
