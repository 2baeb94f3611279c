"""The corpus of the fuzzers keeps to the properties; `make fuzz` looks for what does not."""

import re
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent


def test_what_fuzzing_kept_loads_or_is_refused_with_a_checkpoint_error():
    # A process of its own: there, nothing has a digest.
    done = subprocess.run([sys.executable, FOLDER / "replay.py", FOLDER / "corpus"], capture_output=True, text=True)
    assert not done.returncode, done.stdout + done.stderr
    counts = re.findall(r"(\w+): (\d+) load, (\d+) are refused", done.stdout)
    assert [name for name, *_ in counts] == ["safetensors", "hdf5"]
    assert all(int(loads) > 4 and int(refused) > 4 for _, loads, refused in counts)


def test_the_corpus_is_small():
    assert sum(path.stat().st_size for path in (FOLDER / "corpus").rglob("*")) < 200_000
