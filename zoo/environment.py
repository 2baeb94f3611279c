"""What a result depends on beside its recipe: versions, platform and the linear algebra library."""

import platform
from pathlib import Path

import numpy as np


def environment() -> dict[str, str]:
    """The environment of this process, as a manifest records it. Recipes always run on one thread."""
    from importlib.metadata import version  # slow to import, and needed by nothing else here

    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]  # pyright: ignore[reportOptionalSubscript]
    return {
        "python": platform.python_version(),
        "statezoo": version("statezoo"),
        "numpy": np.__version__,
        "blas": f"{blas['name']} {blas['version']}",
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
