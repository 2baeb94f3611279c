"""Short forms of signals.py and forks.py."""

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts descriptors as Linux shows them")
@pytest.mark.parametrize(("campaign", "count"), [("signals.py", 240), ("forks.py", 30)])
def test_signals_and_forks_at_random_moments_lose_nothing_and_leave_nothing(campaign: str, count: int):
    done = subprocess.run(
        [sys.executable, HERE / campaign, str(count)], capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert " 0 failures" in done.stdout
