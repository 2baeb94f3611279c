"""States, the names of their shards, and helpers for the tests of shard sets."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from statezoo.checkpoints import load_file, save_file
from statezoo.checkpoints.testing import compare_states

OLD = {name: np.full(5, number, "f4") for number, name in enumerate("abc")}
NEW = {name: array + 10 for name, array in OLD.items()}
USUAL = [f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)]
MARKED = [f"model-00000001-0000{number}-of-00003.safetensors" for number in (1, 2, 3)]
INDEX = "model.safetensors.index.json"


def save_plain(state: dict[str, Any], path: Path, durable: bool = False) -> None:
    save_file(state, path, durable=durable)


def save_shards(state: dict[str, Any], path: Path, durable: bool = False) -> None:
    save_file(state, path, durable=durable, max_shard_size=20)


BEFORE = pytest.mark.parametrize("before", [save_plain, save_shards])
AFTER = pytest.mark.parametrize("after", [save_plain, save_shards])


def names(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.parent.iterdir())


def holds(path: Path, state: dict[str, Any]) -> bool:
    return all(list(compare_states(state, load_file(file))) == [] for file in (path, path.parent))
