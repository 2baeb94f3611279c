"""The pin: one BLAS kernel, one SIMD level and one thread, for the same bits on any x86-64 processor.

OpenBLAS and NumPy choose their code for the processor they find, and the last bits of a sum depend on that choice.
Both read the environment only once, when NumPy is imported, so a process must be pinned from its start.
"""

import os
import platform
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ...extras import require

PINNED = "Haswell kernel, AVX2, one thread"

_KERNEL = "Haswell"
_DISABLE, _ENABLE = "NPY_DISABLE_CPU_FEATURES", "NPY_ENABLE_CPU_FEATURES"
_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
# The features up to AVX2 and FMA3, which the Haswell kernel needs: one by one up to NumPy 2.3, in levels since 2.4.
_AVX2 = ({"X86_V3"}, {"AVX2", "FMA3"})
_KEPT = {"SSE", "SSE2", "SSE3", "SSSE3", "SSE41", "POPCNT", "SSE42", "AVX", "F16C", "FMA3", "AVX2", "X86_V2", "X86_V3"}


def pinned_environment() -> dict[str, str]:
    """Return the environment variables of a pinned process: those of this one, with the pin's values set.

    On a processor without AVX2, or one that is not x86-64, only the number of threads is set.
    """
    pinned = {**os.environ, **dict.fromkeys(_THREADS, "1")}
    # If the variables hide features, NumPy cannot say what the processor has. Every current one has AVX2.
    hidden = _DISABLE in os.environ or _ENABLE in os.environ
    if not _is_x86_64() or not (_has_avx2(set(simd_features())) or hidden):
        return pinned
    pinned.pop(_ENABLE, None)  # NumPy refuses to start with both variables
    # All features that this NumPy was built with. Naming one that the processor does not have is harmless.
    above = sorted({*simd_features(), *simd_features("not found")} - _KEPT)
    return {**pinned, "OPENBLAS_CORETYPE": _KERNEL, _DISABLE: " ".join(above)}


def run_pinned() -> None:
    """Start this program again with the pinned environment, or return at once if it already has it.

    For a command line that trains or publishes. It replaces the whole process, so call it first in a `main` that was
    started as a program, and never in one that other code calls with a list of arguments, such as a test:

        def main(arguments: list[str] | None = None) -> int:
            if arguments is None:
                run_pinned()

    The process keeps its id and its signals; on Windows, a child runs and this one exits with its status.
    """
    environ = pinned_environment()
    if environ == dict(os.environ) or not sys.executable:
        return
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    command = [sys.executable, *sys.orig_argv[1:]]
    if os.name == "posix":
        os.execve(sys.executable, command, environ)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C also reaches the child, which decides what to do
    sys.exit(subprocess.run(command, env=environ).returncode)


def pin() -> str:
    """Return `PINNED` if the pin is in effect in this process, otherwise "none: " and the reason.

    Call it inside `one_thread`. Raises MissingExtraError if threadpoolctl is not installed.
    """
    blas, features = find_blas(), set(simd_features())
    above = sorted(features - _KEPT)
    if not _is_x86_64():
        return f"none: the processor is {platform.machine()}, not x86-64"
    if blas.get("internal_api") != "openblas":
        return f"none: the BLAS is {blas.get('internal_api', 'unknown')}, not OpenBLAS"
    if not _has_avx2(features):
        return "none: NumPy finds no AVX2"
    if blas["architecture"] != _KERNEL:
        return f"none: OpenBLAS uses its {blas['architecture']} kernel"
    if above:
        return f"none: NumPy uses {' '.join(above)}"
    if blas["num_threads"] != 1:
        return f"none: OpenBLAS uses {blas['num_threads']} threads"
    return PINNED


@contextmanager
def one_thread() -> Iterator[None]:
    """Limit NumPy's linear algebra to one thread: a different number of threads adds in a different order.

    Small matrices are also faster this way. Raises MissingExtraError if threadpoolctl is not installed.
    """
    with require("threadpoolctl", "threadpoolctl").threadpool_limits(1):
        yield


def find_blas() -> dict[str, Any]:
    """Return what threadpoolctl reports about NumPy's BLAS; empty for a library it does not know, such as Apple's.

    Raises MissingExtraError if threadpoolctl is not installed.
    """
    found = require("threadpoolctl", "threadpoolctl").threadpool_info()
    # SciPy may bring its own BLAS. NumPy's was loaded first.
    return next((library for library in found if library["user_api"] == "blas"), {})


def simd_features(kind: str = "found") -> list[str]:
    """Return NumPy's SIMD features of one kind: "baseline", "found", or "not found" on this processor."""
    built: Any = np.show_config(mode="dicts")
    return built["SIMD Extensions"].get(kind, [])  # a kind without features has no key


def _is_x86_64() -> bool:
    return platform.machine().lower() in ("x86_64", "amd64")


def _has_avx2(features: set[str]) -> bool:
    return any(needed <= features for needed in _AVX2)
