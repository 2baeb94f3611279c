"""The ways to save that are tested with faults, and the states they save."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from statezoo import core as nn
from statezoo.checkpoints import edit, save_file, save_model
from statezoo.checkpoints.formats import written_formats

SUFFIXES = tuple(form.suffix for form in written_formats())
# The tensors that an edit replaces.
_EDITED = ("layers.2.bias", "layers.1.weight", "view")


def state_of(seed: int) -> dict[str, np.ndarray]:
    """Return a state with small tensors, tensors of several chunks, a tie and a view."""
    rng = np.random.default_rng(seed)
    state: dict[str, np.ndarray] = {f"layers.{n}.bias": rng.random(5 + n, np.float32) for n in range(4)}
    state["layers.0.weight"] = rng.random((300, 500), np.float32)
    state["layers.1.weight"] = rng.random((90, 400), np.float64)
    return {**state, "tied": state["layers.0.weight"], "view": state["layers.1.weight"].T}


def large_state_of(seed: int) -> dict[str, np.ndarray]:
    """Return a state of tensors so large that their digests are computed on a separate thread."""
    return {f"weight.{n}": np.full((5 << 18,), seed + n, np.float32) for n in range(3)}


def model_of(seed: int) -> nn.Module:
    """Return a model with a tied weight and buffers."""
    nn.manual_seed(seed)
    model = nn.Sequential(nn.Embedding(300, 200), nn.Linear(200, 300, bias=False), nn.BatchNorm1d(300))
    model[1].weight = model[0].weight
    return model


def edited_state_of(seed: int) -> dict[str, np.ndarray]:
    """Return a state of which two tensors, one of them with a view, depend on the seed."""
    state, other = state_of(0), state_of(seed)
    return {name: (other if name in _EDITED else state)[name] for name in state}


def edit_to(state: dict[str, np.ndarray], path: Path, durable: bool) -> None:
    """Make the state at a path the one of another seed by an edit."""
    edit(path, replace={name: state[name] for name in _EDITED}, metadata={"edited": "yes"}, durable=durable)


class Api(NamedTuple):
    """A way to save.

    make: returns a state for a seed. arrays: its arrays. before, save: save the old, the new one. reads: whether `save`
    reads the old one.
    """

    make: Callable[[int], Any]
    arrays: Callable[[Any], dict[str, np.ndarray]]
    before: Callable[..., None]
    save: Callable[..., None]
    durable: bool = True
    suffixes: tuple[str, ...] = SUFFIXES
    reads: bool = False


_SHARDED = (".safetensors",)
save_in_shards = partial(save_file, max_shard_size="400KB")
APIS = {
    "save_file": Api(state_of, dict, save_file, save_file),
    "save_model": Api(model_of, nn.Module.state_dict, save_model, save_model),
    "durable=False": Api(state_of, dict, save_file, save_file, False),
    "large": Api(large_state_of, dict, save_file, save_file, False),
    "shards": Api(state_of, dict, save_in_shards, save_in_shards, suffixes=_SHARDED),
    "file to shards": Api(state_of, dict, save_file, save_in_shards, suffixes=_SHARDED),
    "edit": Api(edited_state_of, dict, save_file, edit_to, reads=True),
    "edit of shards": Api(edited_state_of, dict, save_in_shards, edit_to, suffixes=_SHARDED, reads=True),
    "shards to file": Api(state_of, dict, save_in_shards, save_file, suffixes=_SHARDED),
}
