"""The short form of entries.py."""

import os

import entries
import pytest
from reporting import broken


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="Windows has no such signals")
def test_readers_see_one_whole_version_of_an_entry_that_others_publish_over():
    counts = entries.run(900, seed=1)
    assert not broken(counts)
    assert counts["load by name"] > 100
    assert counts["the user's files"] == 3
