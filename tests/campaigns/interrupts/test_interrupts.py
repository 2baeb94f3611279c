"""A short form of `interrupts.py`: whatever is interrupted leaves the old version or the new one, and nothing else."""

import pytest
from interrupts import JOBS, run_batch
from memory import CASES, TRACELESS


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in JOBS if name not in (*CASES, *TRACELESS)])
def test_a_call_that_is_interrupted_at_random_leaves_all_of_the_old_version_or_of_the_new_one(name: str):
    result = run_batch(name, trials=6, seed=1)
    assert result["failures"] == []
    assert result["counts"].get("old", 0) + result["counts"].get("new", 0) == 6
