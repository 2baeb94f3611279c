"""What holds for every test."""

import pytest

from statezoo.core import manual_seed


@pytest.fixture(autouse=True)
def _the_same_initial_values_in_each_run() -> None:
    """Seed the default generator: layers draw from it, and a draw near a limit fails one run in thirty."""
    manual_seed(0)
