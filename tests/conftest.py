"""Markers and fixtures for every test."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from statezoo.core import manual_seed

# Each mark, and the packages that tests with this mark compare with. `make test-all` installs them.
ORACLES = {
    "torch": ("torch",),
    "keras": ("keras",),
    "jax": ("jax", "flax", "equinox", "optax"),
    "mlx": ("mlx",),
    "huggingface_hub": ("huggingface_hub",),
    "tensorboard": ("tensorboard",),
    "gguf": ("gguf",),
    "onnx": ("onnx", "onnxruntime"),
    "transformers": ("transformers",),
    "peft": ("peft", "torch"),
}
MISSING = [mark for mark, packages in ORACLES.items() if not all(map(find_spec, packages))]
# The environments with the libraries that open our files.
if not (Path(__file__).parents[1] / "build" / "readers" / ".ready").exists():
    MISSING.append("readers")

# Tests that interrupt code with a trace function. The tracer of coverage loses count of the frames that they leave, and
# may write to memory that is not its own.
TRACING = {"test_opcodes.py", "test_torch_opcodes.py", "test_interrupts.py", "test_locks.py", "test_source.py"}


def pytest_report_header() -> str:
    return f"deselected: the tests that need {', '.join(MISSING)}; make test-all runs them" if MISSING else ""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out = [item for item in items if any(item.get_closest_marker(name) for name in MISSING)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
    for item in items:
        if item.path.name in TRACING:
            item.add_marker("no_cover")


@pytest.fixture(autouse=True)
def _the_same_initial_values_in_each_run() -> None:
    """Seed the default generator: layers draw from it, and a draw near a tolerance would fail one run in thirty."""
    manual_seed(0)
