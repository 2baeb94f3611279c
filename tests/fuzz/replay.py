"""Hold what fuzzing found worth keeping to the properties once more: `python replay.py`. It needs no fuzzer."""

from __future__ import annotations

from pathlib import Path

from properties import check_hdf5, check_safetensors

CORPUS = Path(__file__).parent / "corpus"

if __name__ == "__main__":
    for name, check in {"safetensors": check_safetensors, "hdf5": check_hdf5}.items():
        loads = []
        for path in sorted((CORPUS / name).iterdir()):
            try:
                loads.append(check(path.read_bytes()))
            except BaseException:
                print(f"with {path}:", flush=True)
                raise
        print(f"{name}: {sum(loads)} load, {len(loads) - sum(loads)} are refused")
