"""Run the cells of an environment, and print the results as JSON: python tests/interoperability/run.py ENVIRONMENT"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import tempfile
import traceback
import warnings
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from cells import CELLS, Cell  # noqa: E402
from environments import python_of, variables_of  # noqa: E402

TIMEOUT_S = 900
for _module in sorted(path.stem for path in HERE.glob("cells_*.py")):
    importlib.import_module(_module)


def results_of(environment: str) -> dict[str, dict[str, str]]:
    """Run the cells of an environment in a process of their own.

    Return, by the key of each cell, its "result" and its "versions", or the "error" that it raised.
    """
    command = [python_of(environment), str(HERE / "run.py"), environment]
    done = subprocess.run(
        command, env=variables_of(environment), capture_output=True, text=True, timeout=TIMEOUT_S, cwd=HERE
    )
    if done.returncode:
        raise AssertionError(f"the cells of {environment} did not run:\n{done.stderr[-5000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def _result(cell: Cell) -> dict[str, str]:
    try:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # those of other libraries
            result = cell.run(Path(folder))
    except Exception:
        return {"error": traceback.format_exc()}
    versions = ", ".join(f"{package} {version(package).partition('+')[0]}" for package in cell.packages)
    return {"result": result, "versions": versions}


if __name__ == "__main__":
    found = {key: _result(cell) for key, cell in CELLS.items() if cell.environment == sys.argv[1]}
    print("\n" + json.dumps(found))
