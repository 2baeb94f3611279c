"""What the last bits of a result depend on beside its recipe: code, versions, processor and linear algebra."""

import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ...extras import require

# In a checkout the packages stand side by side under its top folder; an installed copy has no history.
CHECKOUT = Path(__file__).parents[3]
CODE = ("core", "checkpoints", "zoo", "scripts")
UNKNOWN = "unknown"
_THEN = ", then "


def environment() -> dict[str, str]:
    """The environment of this process, as a run and a manifest record it.

    blas_threads is the number at the moment of the call: ask inside `one_thread`, where recipes run. commit is the
    checkout's, with "-dirty" behind it if library code was changed since, and "unknown" for an installed copy.
    Raises MissingExtraError without threadpoolctl.
    """
    from importlib.metadata import version  # slow to import, and needed by nothing else here

    built, blas = np.show_config(mode="dicts"), _blas()
    library = built["Build Dependencies"]["blas"]  # pyright: ignore[reportOptionalSubscript]
    extensions = built["SIMD Extensions"]  # pyright: ignore[reportOptionalSubscript]
    return {
        "python": platform.python_version(),
        "statezoo": version("statezoo"),
        "commit": _commit(),
        "numpy": np.__version__,
        "simd": " ".join([*extensions.get("baseline", []), *extensions.get("found", [])]),  # none found: no such key
        "blas": f"{library['name']} {library['version']}",
        "blas_kernel": str(blas.get("architecture", UNKNOWN)),
        "blas_threads": str(blas.get("num_threads", UNKNOWN)),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu(),
    }


def merged(recorded: Mapping[str, str], here: Mapping[str, str]) -> dict[str, str]:
    """The environment of a run that was begun in one and goes on here: "2.1.0, then 2.4.6" where they differ."""
    goes_on = {}
    for key, value in here.items():
        before = recorded.get(key, value)
        goes_on[key] = before if before.split(_THEN)[-1] == value else f"{before}{_THEN}{value}"
    return goes_on


def changes(recorded: Mapping[str, str], here: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """What differs between two environments: key -> the recorded value and the one here."""
    pairs = {key: (recorded.get(key, UNKNOWN), here.get(key, UNKNOWN)) for key in {**recorded, **here}}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def _blas() -> dict[str, object]:
    """What threadpoolctl finds of NumPy's linear algebra library; empty if it knows it not, as Apple's."""
    found = require("threadpoolctl", "threadpoolctl").threadpool_info()
    # SciPy may bring one of its own. NumPy's was loaded first.
    return next((library for library in found if library["user_api"] == "blas"), {})


def _commit() -> str:
    if not (CHECKOUT / ".git").exists():
        return UNKNOWN
    commit, changed = _git("rev-parse", "HEAD"), _git("status", "--porcelain", "--", *(f"{name}/*.py" for name in CODE))
    if commit is None or changed is None:
        return UNKNOWN
    return f"{commit}-dirty" if changed else commit


def _git(*arguments: str) -> str | None:
    """What git answers in the checkout; None where there is no git, or it refuses."""
    try:
        result = subprocess.run(
            ["git", "--no-optional-locks", *arguments], cwd=CHECKOUT, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return result.stdout.strip()


def _cpu() -> str:
    # platform.processor() is empty on most Linux systems.
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or UNKNOWN
