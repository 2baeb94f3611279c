"""What a result depends on beside its recipe: versions, platform, linear algebra library and its threads."""

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np


def environment() -> dict[str, Any]:
    """The environment of this process, as a manifest records it."""
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]  # pyright: ignore[reportOptionalSubscript]
    return {
        "python": platform.python_version(),
        "statezoo": version("statezoo"),
        "numpy": np.__version__,
        "blas": f"{blas['name']} {blas['version']}",
        "threads": os.environ.get("OPENBLAS_NUM_THREADS") or os.environ.get("OMP_NUM_THREADS") or "default",
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu(),
    }


def _cpu() -> str:
    # platform.processor() is empty on most Linux systems.
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"
