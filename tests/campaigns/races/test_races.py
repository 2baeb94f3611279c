"""Short forms of `copies.py` and `readers.py`."""

import os

import copies
import pytest
import readers

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the campaigns rename open files and kill processes")


def test_copies_and_renames_during_a_run_lose_nothing():
    counts, failures = copies.run(8, seed=1)
    assert failures == []
    assert counts["copy_in"] > 10


@pytest.mark.slow
def test_readers_see_one_whole_version_while_writers_save_and_are_killed():
    counts, problems = readers.run(1000, seed=1)
    assert problems == []
    assert counts["kills"] > 2
