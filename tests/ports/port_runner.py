"""The scripts of examples/ports, run on statezoo and on PyTorch: python tests/ports/port_runner.py

The command runs all of them on PyTorch and keeps what they give in losses.json. The tests compare statezoo with it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PORTS = HERE.parents[1] / "examples" / "ports"
KEPT = HERE / "losses.json"


def changed_lines() -> Any:
    """Return the module examples/ports/changed_lines.py."""
    spec = importlib.util.spec_from_file_location("changed_lines", PORTS / "changed_lines.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CHANGED = changed_lines()
SCRIPTS = {str(path.relative_to(PORTS)): path for path in CHANGED.SCRIPTS}


def run_port(name: str, on_torch: bool = False) -> dict[str, Any]:
    """Run a script in an empty folder. Return its losses, its output and the shapes of its models' states."""
    source = SCRIPTS[name].read_text(encoding="utf-8")
    if on_torch:
        source = CHANGED.for_torch(source)
    names: dict[str, Any] = {"__name__": "__main__"}
    out = io.StringIO()
    with _empty_folder(), contextlib.redirect_stdout(out):
        exec(compile(source, str(SCRIPTS[name]), "exec"), names)
    states = {key: _shapes(value) for key, value in sorted(names.items()) if _is_model(value)}
    losses = [float(f"{loss:.8g}") for loss in names["losses"]]
    return {"losses": losses, "printed": out.getvalue().splitlines(), "states": states}


def _is_model(value: Any) -> bool:
    return hasattr(value, "state_dict") and hasattr(value, "parameters") and not isinstance(value, type)


def _shapes(model: Any) -> dict[str, list[int]]:
    return {name: list(value.shape) for name, value in model.state_dict().items()}


@contextlib.contextmanager
def _empty_folder() -> Iterator[None]:
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(before)


def run_on_torch(name: str) -> dict[str, Any]:
    """Run a script on PyTorch with statezoo's random numbers."""
    from shared_draws import shared_draws  # which needs torch

    with shared_draws():
        return run_port(name, on_torch=True)


def main() -> None:
    found = {name: run_on_torch(name) for name in SCRIPTS}
    lines = [f"{json.dumps(name)}: {json.dumps(kept)}" for name, kept in found.items()]
    KEPT.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    CHANGED.main()


if __name__ == "__main__":
    main()
