"""The short form of threads.py."""

import pytest
import threads
from reporting import broken


@pytest.mark.slow
def test_saves_while_other_threads_train_hold_only_values_that_were_there():
    counts = threads.run(150, seed=1)
    assert not broken(counts)
    assert counts["trials"] == 150
    assert counts["model: saved"] > 0
