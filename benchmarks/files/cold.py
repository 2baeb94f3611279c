"""COLD: whole processes, from start to exit, in turn; compiled files are cached."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from files.workers import Measured
from tables import Results, milliseconds, ratio, show

NUMPY = "import numpy"
PREDICT = "from statezoo import zoo; zoo.load('tense-mlp').predict('hablar', 'yo')"
PROGRAMS = {
    NUMPY: NUMPY,
    PREDICT: PREDICT,
    "import statezoo.checkpoints": "import statezoo.checkpoints",
    "import safetensors.numpy": "import safetensors.numpy",
    "import h5py": "import h5py",
    "import torch": "import torch",
}
# A start takes a tenth of a second and varies: it is measured this many times a round.
_STARTS = 4


def measure(folder: Path, rounds: int) -> Results:
    """Print the table of whole processes, and return it by (program, "run")."""
    # Without this variable Python keeps the bytecode that it compiles in the round that is not counted.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    times: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for counted in range(rounds * _STARTS + 1):
        for name, program in PROGRAMS.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", program], check=True, env=environment, cwd=folder)
            if counted:
                times[name].append(time.perf_counter() - start)
    results = {(name, "run"): Measured(statistics.median(values), 0) for name, values in times.items()}
    rows = (
        [f"`{name}`", milliseconds(found), ratio(found, results[NUMPY, "run"])] for (name, _), found in results.items()
    )
    show("COLD: a process that starts, does this and ends", ["", "ms", f"x {NUMPY}"], rows)
    return results
