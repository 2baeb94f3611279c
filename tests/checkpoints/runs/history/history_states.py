"""States, helpers and damage for the tests of histories."""

from pathlib import Path
from typing import Any

import numpy as np

from statezoo.checkpoints import History

LOWEST: dict[str, Any] = {"metric": "loss", "mode": "min", "durable": False}


def state(value: float = 0.0) -> dict[str, Any]:
    return {"weight": np.full(1000, value)}


def steps(folder: Path) -> list[int]:
    return [saved.step for saved in History(folder)]


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:40])


def empty(path: Path) -> None:
    path.write_bytes(b"")
