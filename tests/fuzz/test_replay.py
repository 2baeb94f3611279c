"""Every input in the corpus of the fuzzers has the properties. `make fuzz` searches for inputs that do not."""

import re
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent


def replayed(folder: str) -> str:
    """Return what replay.py prints, in a separate process, because it turns off all digests."""
    done = subprocess.run([sys.executable, FOLDER / "replay.py", FOLDER / folder], capture_output=True, text=True)
    assert not done.returncode, done.stdout + done.stderr
    return done.stdout


def test_every_input_in_the_corpus_loads_or_is_refused_with_a_checkpoint_error():
    counts = re.findall(r"(\w+): (\d+) load, (\d+) are refused", replayed("corpus"))
    assert [name for name, *_ in counts] == ["safetensors", "hdf5", "torch", "npz"]
    assert all(int(loads) > 4 and int(refused) > 4 for _, loads, refused in counts)


def test_every_input_that_once_failed_loads_or_is_refused_with_a_checkpoint_error():
    replayed("known")


def test_the_corpus_is_small():
    assert sum(path.stat().st_size for path in (FOLDER / "corpus").rglob("*")) < 200_000
