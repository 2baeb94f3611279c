"""The states and the files that the cells write and read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from statezoo.checkpoints import save_file


def tied_state() -> dict[str, np.ndarray]:
    """Return a state with a tie and a transposed view."""
    random = np.random.default_rng(0)
    embedding, encoder = (random.normal(size=(n, 4)).astype(np.float32) for n in (7, 3))
    return {
        "embedding.weight": embedding,
        "encoder.weight": encoder,
        "encoder.bias": random.normal(size=3).astype(np.float32),
        "decoder.weight": encoder.T,
        "head.weight": embedding,
    }


STATE = tied_state()
TIE, VIEW = "head.weight", "decoder.weight"
METADATA = {"made by": "statezoo"}
# The suffix and the options of each kind of file that is written.
WRITTEN: dict[str, tuple[str, dict[str, Any]]] = {
    ".safetensors": ("model.safetensors", {}),
    ".safetensors, expand": ("model.safetensors", {"expand": True}),
    "shards, expand": ("model.safetensors", {"expand": True, "max_shard_size": 100}),
    ".h5": ("model.h5", {}),
    ".h5, expand": ("model.h5", {"expand": True}),
    ".npz": ("model.npz", {}),
    ".npz, expand": ("model.npz", {"expand": True}),
}


def written(folder: Path, kind: str, state: Mapping[str, np.ndarray] = STATE) -> Path:
    """Save a state as one kind of file, and return its path: for shards, the one it was saved to."""
    name, options = WRITTEN[kind]
    save_file(state, folder / name, METADATA, **options)
    return folder / name


def compared(seen: Mapping[str, Any], state: Mapping[str, np.ndarray] = STATE) -> str:
    """Return "yes" if another reader sees every name with its values, or which names it does not see."""
    for name, array in seen.items():
        if name in state:
            assert np.asarray(array).dtype == state[name].dtype, name
            assert np.array_equal(np.asarray(array), state[name]), name
    missing = state.keys() - seen.keys()
    return {frozenset(): "yes", frozenset([VIEW]): "without views", frozenset([TIE, VIEW]): "without ties and views"}[
        frozenset(missing)
    ]
