"""Check the properties of every input in a corpus: `python replay.py FOLDER`. It needs no fuzzer."""

from __future__ import annotations

import sys
from pathlib import Path

from properties import check_hdf5, check_npz, check_safetensors, check_torch

CHECKS = {"safetensors": check_safetensors, "hdf5": check_hdf5, "torch": check_torch, "npz": check_npz}

if __name__ == "__main__":
    for name, check in CHECKS.items():
        loads = []
        for path in sorted(Path(sys.argv[1], name).glob("*")):
            try:
                loads.append(check(path.read_bytes()))
            except BaseException:
                print(f"with {path}:", flush=True)
                raise
        print(f"{name}: {sum(loads)} load, {len(loads) - sum(loads)} are refused")
