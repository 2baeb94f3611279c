"""The machine that a run was measured on, the versions, and the command."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path

from tables import GIB


def describe(packages: Iterable[str]) -> None:
    """Print the machine, the versions of packages and the command, as a list in Markdown."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    print(f"- {_model()}, {os.cpu_count()} processors, {memory:.0f} GiB")
    print(f"- {platform.system()} {platform.release()}, Python {platform.python_version()}")
    print("- " + ", ".join(f"{package} {_version(package)}" for package in packages))
    print(f"- `python {shlex.join(sys.argv)}`", flush=True)


def _model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "is not installed"
