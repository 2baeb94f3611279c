"""How long new metadata takes for a large file: as an edit, and by rewriting it.

python benchmarks/edits.py --rounds 7

Each way replaces a file of 1 GiB in 64 tensors in turn, in interleaved rounds; the first round is not counted, and the
file is flushed before the next way begins. "copy_file_range" copies the file with that call alone, and renames the copy
over it: the limit. The figures are medians, with the lowest and highest beside them, and the processor time.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import safetensors.numpy
from tables import MIB, show, spread

from statezoo.checkpoints import edit, load_file, open_checkpoint, save_file

_TENSORS = 64


def copy(path: Path, durable: bool) -> None:
    """Replace a file by a copy, with system calls alone."""
    target = path.with_suffix(".copy")
    source, new = os.open(path, os.O_RDONLY), os.open(target, os.O_WRONLY | os.O_CREAT)
    left = os.fstat(source).st_size
    while left:
        left -= os.copy_file_range(source, new, min(left, 1 << 27))
    if durable:
        os.fsync(new)
    os.close(source)
    os.close(new)
    os.replace(target, path)


def rewrite(path: Path, durable: bool) -> None:
    """Copy a file tensor by tensor, each checked and hashed."""
    with open_checkpoint(path) as checkpoint:
        save_file(checkpoint, path, {"epoch": "8"}, durable=durable)


def ways(path: Path) -> dict[str, Callable[[], object]]:
    """Return the ways to measure, by name."""
    found: dict[str, Callable[[], object]] = {}
    for durable in (False, True):
        end = ", durable" if durable else ""
        found |= {
            f"copy_file_range{end}": lambda durable=durable: copy(path, durable),
            f"edit{end}": lambda durable=durable: edit(path, metadata={"epoch": "8"}, durable=durable),
            f"save_file of an open checkpoint{end}": lambda durable=durable: rewrite(path, durable),
            f"load_file, save_file{end}": lambda durable=durable: save_file(
                load_file(path), path, {"epoch": "8"}, durable=durable
            ),
        }
    return found | {
        "safetensors.numpy, load and save": lambda: safetensors.numpy.save_file(
            safetensors.numpy.load_file(path), path.with_suffix(".theirs"), {"epoch": "8"}
        )
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--folder", help="where the file is; a temporary folder if not given")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    size = options.mib * MIB // _TENSORS // 4
    state = {f"layers.{number}.weight": rng.standard_normal(size, "f4") for number in range(_TENSORS)}
    times: dict[str, list[float]] = {}
    processor: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        path = Path(folder, "model.safetensors")
        save_file(state, path, {"epoch": "7"})
        del state
        for counted in range(options.rounds + 1):
            for name, way in ways(path).items():
                start, used = time.perf_counter(), time.process_time()
                way()
                if counted:
                    times.setdefault(name, []).append(time.perf_counter() - start)
                    processor.setdefault(name, []).append(time.process_time() - used)
                with path.open("rb") as file:
                    os.fsync(file)
    medians = {name: statistics.median(found) for name, found in times.items()}
    rows = (
        [
            name,
            *spread(found),
            f"{medians[name] / medians['edit, durable' if 'durable' in name else 'edit']:.2f}",
            f"{statistics.median(processor[name]) * 1e3:.0f}",
        ]
        for name, found in times.items()
    )
    header = ["", "ms", "lowest - highest", "x edit", "processor, ms"]
    show(f"EDIT of metadata: {_TENSORS} tensors, {options.mib} MiB, {options.rounds} rounds", header, rows)


if __name__ == "__main__":
    main()
