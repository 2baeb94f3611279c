"""Saves with a fault at any system call break nothing. `make faults` tries every fault at every call."""

import subprocess
import sys
from pathlib import Path

import pytest

from statezoo.checkpoints.formats import written_formats

CAMPAIGN = Path(__file__).with_name("campaign.py")
FORMATS = len(written_formats())


def run_campaign(folder: Path, *arguments: str) -> str:
    """Return what the campaign prints. It forks for each trial, so it runs in its own process, without threads."""
    command = [sys.executable, CAMPAIGN, "--folder", folder, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if done.returncode == 77:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_save_killed_at_any_system_call_leaves_the_complete_old_or_new_file(tmp_path: Path):
    printed = run_campaign(tmp_path, "--fault", "kill", *apis("save_file", "save_model", "durable=False"))
    assert printed.count("old file") == printed.count("new file") == 3 * FORMATS  # in each, some calls leave either


@pytest.mark.slow
def test_an_edit_killed_at_any_system_call_leaves_the_complete_old_or_new_file(tmp_path: Path):
    printed = run_campaign(tmp_path, "--fault", "kill", *apis("edit"))
    assert printed.count("old file") == printed.count("new file") == FORMATS


@pytest.mark.slow
def test_an_edit_whose_system_calls_fail_is_a_clear_error_or_succeeds(tmp_path: Path):
    printed = run_campaign(tmp_path, *apis("edit"), "--fault", "EIO", "--fault", "ENOSPC", "--stride", "2")
    assert printed.count("refused, as nothing could be read") == 2 * FORMATS
    run_campaign(tmp_path, *apis("edit of shards"), "--fault", "kill", "--fault", "EIO", "--stride", "5")


@pytest.mark.slow
def test_a_save_in_shards_killed_at_any_system_call_leaves_the_complete_old_or_new_state(tmp_path: Path):
    # A prime stride, so that it reaches each part of the work that is repeated for every shard.
    ways = apis("shards", "file to shards", "shards to file")
    printed = run_campaign(tmp_path, "--fault", "kill", "--stride", "3", *ways)
    assert printed.count("old file") == printed.count("new file") == 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("faults", "stride"), [(["short", "EIO"], "1"), (["ENOSPC", "EROFS", "EACCES"], "3"), (["EINTR"], "2")]
)
def test_a_save_whose_system_calls_fail_is_a_clear_error_or_succeeds(tmp_path: Path, faults: list[str], stride: str):
    ways = [*apis("save_file"), "--stride", stride, *(f"--fault={fault}" for fault in faults)]
    printed = run_campaign(tmp_path, *ways)
    assert printed.count("refused") == FORMATS * len([fault for fault in faults if fault != "short"])
    assert len(printed.splitlines()) == FORMATS * len(faults) + 1


@pytest.mark.slow
def test_what_a_save_in_shards_leaves_when_the_system_refuses_is_removed_by_the_next(tmp_path: Path):
    run_campaign(tmp_path, *apis("shards"), "--fault", "EIO", "--stride", "4")


@pytest.mark.slow
def test_a_file_that_cannot_be_looked_at_is_kept_for_the_next_save_or_is_an_error(tmp_path: Path):
    # The looks at the old file and at the shards are a tenth of the calls.
    run_campaign(tmp_path, *apis("file to shards", "shards to file"), "--fault", "EIO", "--stride", "2")


@pytest.mark.slow
def test_a_save_of_large_tensors_survives_faults_at_any_system_call(tmp_path: Path):
    run_campaign(tmp_path, *apis("large"), "--fault", "kill", "--fault", "EIO", "--stride", "9")


def apis(*names: str) -> list[str]:
    return [f"--api={name}" for name in names]
