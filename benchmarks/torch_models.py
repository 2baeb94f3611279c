"""Saves and loads of a PyTorch model: ours, those of safetensors.torch, and torch.save with load_state_dict.

python benchmarks/torch_models.py --rounds 5

The model has 1 GiB of float32 parameters in 64 linear layers; --mib makes it smaller. Everything runs in turn in one
process, in interleaved rounds, and the first round is not counted. Files are in the page cache when they are read. A
save goes to an unused path, and its bytes are flushed, untimed, before the next begins. Ours write digests and check
them; none of the others does. The figures are medians of wall and processor time.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import safetensors.torch
import torch
from machine import describe
from tables import show

from statezoo.checkpoints import load_model, save_model

_LAYERS = 64
# For each of ours: the peer, and the most that ours may take of its time.
MARKS = {
    "save, ours": [("save, safetensors.torch", 1.1)],
    "load, ours": [("load, safetensors.torch", 1.0), ("load, torch", 0.5)],
}


def made(mib: int) -> torch.nn.Module:
    return torch.nn.ModuleList(torch.nn.Linear(1024, 256 * mib // _LAYERS, bias=False) for _ in range(_LAYERS))


def actions(model: torch.nn.Module, other: torch.nn.Module, folder: Path) -> dict[str, Callable[[], object]]:
    """Return what is measured, by name. Each save comes before the load of its file."""
    ours, theirs, pickled = (folder / name for name in ("ours.safetensors", "theirs.safetensors", "model.pt"))
    return {
        "save, ours": lambda: save_model(model, ours, durable=False),
        "save, safetensors.torch": lambda: safetensors.torch.save_model(model, str(theirs)),
        "save, torch": lambda: torch.save(model.state_dict(), pickled),
        "load, ours": lambda: load_model(other, ours),
        "load, ours, not verified": lambda: load_model(other, ours, verify=False),
        "load, safetensors.torch": lambda: safetensors.torch.load_model(other, str(theirs)),
        "load, torch": lambda: other.load_state_dict(torch.load(pickled)),
        "load, torch, mapped": lambda: other.load_state_dict(torch.load(pickled, mmap=True)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--folder", help="where to save; a temporary folder if not given")
    options = parser.parse_args()
    describe(("numpy", "safetensors", "torch"))
    times: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        todo = actions(made(options.mib), made(options.mib), Path(folder))
        for number in range(options.rounds + 1):
            for path in Path(folder).iterdir():
                path.unlink()
            for name, action in todo.items():
                wall, busy = time.perf_counter(), time.process_time()
                action()
                if number:
                    times.setdefault(name, []).append((time.perf_counter() - wall, time.process_time() - busy))
                os.sync()
    walls, busy = (
        {name: statistics.median(runs[i] for runs in found) for name, found in times.items()} for i in (0, 1)
    )
    rows = [[name, f"{walls[name] * 1e3:.0f}", f"{busy[name] * 1e3:.0f}"] for name in times]
    show(f"A PyTorch model of {options.mib} MiB", ["", "ms", "ms of processor"], rows)
    marks = [(one, other, most, walls[one] / walls[other]) for one, found in MARKS.items() for other, most in found]
    show(
        "Marks",
        ["mark", "at most", "measured", ""],
        ([f"{a} to {b}", f"{m} x", f"{r:.2f} x", "reached" if r <= m else "LOST"] for a, b, m, r in marks),
    )


if __name__ == "__main__":
    main()
