"""A short form of power/campaign.py: power cuts during saves lose nothing that a save reported."""

import subprocess
import sys
from pathlib import Path

import pytest
from disk import with_numbers

CAMPAIGN = Path(__file__).with_name("campaign.py")


def test_inodes_in_a_text_are_replaced_all_at_once_and_as_whole_numbers():
    text = b'{"name": "model-00012.safetensors", "identity": [12, 34, 1234, 99]}'
    assert with_numbers(text, {12: 34, 34: 56, 23: 7}) == text.replace(b"[12, 34,", b"[34, 56,")


@pytest.mark.slow
@pytest.mark.parametrize(
    "scenarios",
    [
        ("save .safetensors over a file", "save .h5 through a link", "save without durable"),
        ("shards over shards, more and fewer", "a file over shards"),
        ("edit .safetensors", "edit .h5", "edit of shards"),
        ("history", "history in the background"),
        ("history that shares, in new folders",),
        ("publish over an entry",),
    ],
    ids=["file", "shards", "edit", "history", "shared history", "publish"],
)
def test_a_power_cut_loses_nothing_that_a_save_reported(scenarios: tuple[str, ...], tmp_path: Path):
    chosen = [f"--scenario={name}" for name in scenarios]
    command = [sys.executable, CAMPAIGN, "150", "--jobs=1", "--folder", tmp_path, *chosen]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if done.returncode == 77:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(" old") == len(scenarios)
