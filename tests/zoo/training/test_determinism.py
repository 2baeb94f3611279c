"""The pin: a process that computes the same bits on any x86-64 processor with AVX2."""

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from statezoo.zoo.training.run import determinism
from statezoo.zoo.training.run.determinism import PINNED, one_thread, pin, pinned_environment

PROGRAM = """
import sys
from statezoo.zoo.training.run.determinism import one_thread, pin, run_pinned

run_pinned()
with one_thread():
    print(pin(), sys.argv[1:])
"""

# The variables of five different users.
PROCESSORS = {
    "as it is": {},
    "as pinned, by hand": {"OPENBLAS_CORETYPE": "Haswell", "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL"},
    "a processor of 2008": {"OPENBLAS_CORETYPE": "Nehalem", "NPY_DISABLE_CPU_FEATURES": "X86_V3,X86_V4,AVX512_ICL"},
    "enabled by hand": {"OPENBLAS_CORETYPE": "Sandybridge", "NPY_ENABLE_CPU_FEATURES": "X86_V3"},
    "eight threads": {"OPENBLAS_NUM_THREADS": "8", "OMP_NUM_THREADS": "8"},
}


@pytest.fixture
def a_pin_is_available() -> None:
    """Skip the test with the reason if a process cannot be pinned here."""
    command = [sys.executable, "-c", "from statezoo.zoo.training.run.determinism import *; print(pin())"]
    found = subprocess.run(command, env=pinned_environment(), capture_output=True, text=True, check=True).stdout.strip()
    if found != PINNED:
        pytest.skip(f"no pin on this machine ({found})")


@pytest.mark.parametrize("processor", PROCESSORS)
def test_a_program_runs_pinned_whatever_its_environment_says(processor: str, tmp_path: Path, a_pin_is_available: None):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    environ = {**os.environ, **PROCESSORS[processor]}
    command = [sys.executable, str(program), "tense-mlp", "--out", "a b"]
    result = subprocess.run(command, env=environ, capture_output=True, text=True)
    assert result.stdout == f"{PINNED} ['tense-mlp', '--out', 'a b']\n", result.stderr


def test_a_process_that_is_pinned_is_not_started_again(monkeypatch: pytest.MonkeyPatch):
    def refuse(*arguments: object) -> None:
        raise AssertionError("started again")

    for name, value in pinned_environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(os, "execve", refuse)
    determinism.run_pinned()


@pytest.mark.parametrize(
    ("dispatched", "disabled"),
    [
        (["X86_V3", "X86_V4", "AVX512_ICL"], "AVX512_ICL AVX512_SPR X86_V4"),
        (["SSE42", "AVX", "F16C", "FMA3", "AVX2", "AVX512F", "AVX512_SKX"], "AVX512F AVX512_SKX AVX512_SPR"),
    ],
)
def test_the_features_above_avx2_are_disabled_by_the_names_that_this_numpy_knows(
    dispatched: list[str], disabled: str, monkeypatch: pytest.MonkeyPatch
):
    pretend(monkeypatch, found=dispatched, not_found=["AVX512_SPR"])
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    assert pinned_environment()["NPY_DISABLE_CPU_FEATURES"] == disabled
    assert pinned_environment()["OPENBLAS_CORETYPE"] == "Haswell"


@pytest.mark.parametrize(("machine", "found"), [("x86_64", ["SSE42", "AVX"]), ("aarch64", ["ASIMDHP", "SVE"])])
def test_another_processor_gets_one_thread_and_nothing_else(
    machine: str, found: list[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("NPY_DISABLE_CPU_FEATURES", raising=False)
    pretend(monkeypatch, found=found, not_found=["AVX512_SPR"])
    monkeypatch.setattr(platform, "machine", lambda: machine)
    threads = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    assert pinned_environment() == {**os.environ, **threads}


HASWELL = {"internal_api": "openblas", "architecture": "Haswell", "num_threads": 1}


@pytest.mark.parametrize(
    ("machine", "blas", "found", "expected"),
    [
        ("x86_64", HASWELL, ["X86_V3"], PINNED),
        ("AMD64", HASWELL, ["AVX2", "FMA3"], PINNED),
        ("aarch64", HASWELL, ["SVE"], "none: the processor is aarch64, not x86-64"),
        ("x86_64", {}, ["X86_V3"], "none: the BLAS is unknown, not OpenBLAS"),
        ("x86_64", {"internal_api": "mkl"}, ["X86_V3"], "none: the BLAS is mkl, not OpenBLAS"),
        ("x86_64", HASWELL, ["AVX"], "none: NumPy finds no AVX2"),
        ("x86_64", HASWELL | {"architecture": "Zen"}, ["X86_V3"], "none: OpenBLAS uses its Zen kernel"),
        ("x86_64", HASWELL, ["X86_V3", "X86_V4"], "none: NumPy uses X86_V4"),
        ("x86_64", HASWELL | {"num_threads": 2}, ["X86_V3"], "none: OpenBLAS uses 2 threads"),
    ],
)
def test_a_pin_that_is_not_in_effect_has_its_reason(
    machine: str, blas: dict[str, Any], found: list[str], expected: str, monkeypatch: pytest.MonkeyPatch
):
    pretend(monkeypatch, found=found, not_found=[])
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(determinism, "find_blas", lambda: blas)
    assert pin() == expected


def test_one_thread_limits_the_blas():
    with one_thread():
        assert determinism.find_blas().get("num_threads", 1) == 1


def pretend(monkeypatch: pytest.MonkeyPatch, found: list[str], not_found: list[str]) -> None:
    """Make NumPy report these features of the processor."""
    features = {"found": found, "not found": not_found}
    monkeypatch.setattr(determinism, "simd_features", lambda kind="found": features[kind])
