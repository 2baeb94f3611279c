"""A version number that a flipped bit changed is damage: no file asks for an upgrade that would not help."""

import json
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from damage import a_state

from statezoo import core, zoo
from statezoo.checkpoints import (
    CheckpointError,
    History,
    VersionError,
    inspect,
    load_file,
    open_checkpoint,
    save_file,
    save_training,
    verify,
)
from statezoo.checkpoints.testing import compare_states
from statezoo.zoo.entry import manifest_text
from statezoo.zoo.loading import find


def save_a_training(path: Path) -> None:
    model = core.Linear(2, 2)
    save_training(model, core.optim.Adam(model.parameters()), path, progress={"epoch": 1})


def save_shards(path: Path) -> None:
    save_file({f"w{number}": np.ones(50) for number in range(3)}, path, {"epoch": "7"}, max_shard_size=500)


# How each file is saved, and which of the files that a save leaves is damaged.
WRITERS: dict[str, tuple[Callable[[Path], None], str]] = {
    "safetensors": (lambda path: save_file(a_state(), path, {"epoch": "7"}), "x.safetensors"),
    "hdf5": (lambda path: save_file(a_state(), path, {"epoch": "7"}), "x.h5"),
    "index": (save_shards, "x.safetensors.index.json"),
    "shard": (save_shards, "x-00002-of-00003.safetensors"),
    "training": (save_a_training, "x.safetensors"),
    "training in hdf5": (save_a_training, "x.h5"),
}


def flips(content: bytes) -> Iterator[bytes]:
    """Yield the content with each bit of each version field flipped: its name, its number, and what is between."""
    start, found = 0, 0
    while (at := content.find(b"version", start)) >= 0:
        end = at + len(b"version")
        while not content[end : end + 1].isdigit() and end < at + 16:
            end += 1
        start = at + 1
        if not content[end : end + 1].isdigit():
            continue
        found += 1
        for place in range(at, end + 1):
            for bit in range(8):
                yield content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :]
    assert found


@pytest.mark.parametrize("kind", WRITERS)
def test_a_flipped_bit_in_a_version_is_damage(tmp_path: Path, kind: str):
    write, name = WRITERS[kind]
    write(tmp_path / f"x.{'h5' if name.endswith('h5') else 'safetensors'}")
    path = tmp_path / name
    content, good = path.read_bytes(), load_file(path)
    for damaged in flips(content):
        path.write_bytes(damaged)
        for read in (load_file, inspect, verify, open_checkpoint):
            with pytest.raises(CheckpointError) as caught:
                read(path)
            assert not isinstance(caught.value, VersionError), damaged
            assert "upgrade" not in str(caught.value).lower()
    path.write_bytes(content)
    assert not any(compare_states(good, load_file(path)))


@pytest.mark.parametrize("format", ["safetensors", "hdf5"])
def test_a_history_passes_over_a_checkpoint_with_a_flipped_version(tmp_path: Path, format: str):
    history = History(tmp_path, keep_last=3, format=format)
    for step in (1, 2):
        history.save(step, {"w": np.ones(4)})
    last = history.latest()
    assert last is not None
    content = Path(last.path).read_bytes()
    for damaged in flips(content):
        Path(last.path).write_bytes(damaged)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = History(tmp_path, format=format).latest()
        assert found is not None
        assert found.step == 1


def test_a_flipped_bit_in_the_version_of_an_entry_is_damage(tmp_path: Path, republished: Path):
    path = republished / "manifest.json"
    content = path.read_bytes()
    start = content.index(b'"manifest_version": ')
    for place in range(start, content.index(b",", start) + 1):
        for bit in range(8):
            path.write_bytes(content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :])
            with pytest.raises(zoo.ZooError) as caught:
                zoo.load(f"file:{republished}")
            assert "upgrade" not in str(caught.value)
            assert "Publish or download the entry again." in str(caught.value)


@pytest.fixture
def republished(tmp_path: Path) -> Path:
    """A copy of an entry whose manifest has a checksum, as every manifest that is written now."""
    folder = Path(shutil.copytree(find("linear-regression"), tmp_path / "linear-regression"))
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    (folder / "manifest.json").write_text(manifest_text(manifest), encoding="utf-8")
    return folder
