"""The short form of bad_places.py."""

import subprocess
import sys

import bad_places
import pytest

pytest.importorskip("resource")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pipe", "no permissions", "hole"])
def test_what_is_not_a_file_is_an_error_of_ours(kind: str):
    command = [sys.executable, bad_places.__file__, kind]
    result = subprocess.run(command, capture_output=True, text=True)
    assert (result.returncode, "0 problems" in result.stdout) == (0, True), result.stdout + result.stderr
