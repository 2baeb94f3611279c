"""The environment of a run, which decides its last bits: code, versions, processor, linear algebra, and the pin."""

import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ....checkpoints.storage.threads import undisturbed
from .determinism import PINNED, find_blas, pin, simd_features

# In a checkout the packages are side by side in its top folder. An installed copy has no history.
CHECKOUT = Path(__file__).parents[3]
CODE = ("core", "checkpoints", "zoo", "scripts")
UNKNOWN = "unknown"
_THEN = ", then "


def environment() -> dict[str, str]:
    """Return the environment of this process, as a run and a manifest record it.

    blas_threads is the current number, and pin says whether the pin is in effect: call this inside `one_thread`, where
    recipes run. commit is the checkout's, with "-dirty" appended if library code was changed since, and "unknown" for
    an installed copy. Raises MissingExtraError if threadpoolctl is not installed.
    """
    from importlib.metadata import version  # slow to import, and needed by nothing else here

    blas = find_blas()
    library: Any = np.show_config(mode="dicts")
    built = library["Build Dependencies"]["blas"]
    return {
        "python": platform.python_version(),
        "statezoo": version("statezoo"),
        "commit": _commit(),
        "numpy": np.__version__,
        "simd": " ".join([*simd_features("baseline"), *simd_features()]),
        "blas": f"{built['name']} {built['version']}",
        "blas_kernel": str(blas.get("architecture", UNKNOWN)),
        "blas_threads": str(blas.get("num_threads", UNKNOWN)),
        "pin": pin(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu(),
    }


def is_pinned(environment: Mapping[str, str]) -> bool:
    """Return whether the pin was in effect in a recorded environment."""
    return environment.get("pin") == PINNED


def same_bits(recorded: Mapping[str, str], here: Mapping[str, str]) -> bool:
    """Return whether a recipe must give the same bits in two environments.

    The commit is not compared: a change that moves a bit comes with a release and newly published entries.
    """
    decisive = ("statezoo", "numpy", "blas", "platform", "pin")
    if not (is_pinned(recorded) and is_pinned(here)):
        decisive += ("simd", "blas_kernel", "blas_threads", "cpu")
    return not changes(recorded, here).keys() & set(decisive)


def merged(recorded: Mapping[str, str], here: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a run resumed here: "2.1.0, then 2.4.6" where it differs from the recorded one."""
    goes_on = {}
    for key, value in here.items():
        before = recorded.get(key, value)
        goes_on[key] = before if before.split(_THEN)[-1] == value else f"{before}{_THEN}{value}"
    return goes_on


def changes(recorded: Mapping[str, str], here: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Return what differs between two environments: key -> (the recorded value, the value here)."""
    pairs = {key: (recorded.get(key, UNKNOWN), here.get(key, UNKNOWN)) for key in {**recorded, **here}}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def _commit() -> str:
    if not (CHECKOUT / ".git").exists():
        return UNKNOWN
    commit, changed = _git("rev-parse", "HEAD"), _git("status", "--porcelain", "--", *(f"{name}/*.py" for name in CODE))
    if commit is None or changed is None:
        return UNKNOWN
    return f"{commit}-dirty" if changed else commit


def _git(*arguments: str) -> str | None:
    """Return the output of git in the checkout, or None if git is missing or fails."""
    try:
        command = ["git", "--no-optional-locks", *arguments]
        # subprocess leaves pipes open if it is interrupted.
        result = undisturbed(lambda: subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True))
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
