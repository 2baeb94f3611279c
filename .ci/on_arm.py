"""What must hold on another architecture: entries verify, files have the same bytes, two recipes keep their promise."""

import platform
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from statezoo import zoo

FORMATS = Path("tests", "checkpoints", "formats")
RETRAINED = ("linear-regression", "tense-mlp")


def main(checkout: str) -> int:
    print(f"{platform.machine()}, Python {platform.python_version()}, NumPy {np.__version__}", flush=True)
    failed = [*verify(), *contract(checkout), *retrain()]
    print("\n".join(failed) or "all of it holds on this processor")
    return bool(failed)


def verify() -> list[str]:
    failed = []
    for name in zoo.list_models():
        start = time.monotonic()
        checks = zoo.verify(name)
        failed += [f"{name}: {check.name}: {check.found}" for check in checks if not check.passed]
        print(f"verify {name}: {len(checks)} checks in {time.monotonic() - start:.0f} s", flush=True)
    return failed


def contract(checkout: str) -> list[str]:
    """Run the contract of the formats, whose golden files were written on x86-64."""
    tests = [str(FORMATS / name) for name in ("test_golden.py", "test_contract.py")]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow", *tests]
    return [f"{tests} failed"] if subprocess.run(command, cwd=checkout).returncode else []


def retrain() -> list[str]:
    results = [zoo.repro(name) for name in RETRAINED]
    print(*results, sep="\n", flush=True)
    return [f"repro {result.name} failed" for result in results if not result.passed]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
