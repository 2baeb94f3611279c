"""Names that share memory in a file, compared with those of a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from ..state import sharing
from .adapters import Pair


class Loaded(NamedTuple):
    """A state from a file. aliases: the names that share memory. is_exact: whether the file says how they share it."""

    state: dict[str, Any]
    aliases: Mapping[str, sharing.Alias]
    is_exact: bool


def lacking(loaded: Loaded, live: Mapping[str, np.ndarray]) -> Iterator[Pair]:
    """Yield the pairs that share memory in the file but not in the model. Both names are loaded."""
    families: dict[str, list[str]] = {}
    for name, alias in loaded.aliases.items():
        families.setdefault(alias.kept, [alias.kept]).append(name)
    for family in families.values():
        known = [name for name in family if _is_loaded(name, live, loaded.state)]
        for position, name in enumerate(known):
            for partner in known[:position]:
                if sharing.shares(loaded.state[partner], loaded.state[name]):
                    if not sharing.shares(live[partner], live[name]):
                        yield Pair(name, partner)
                    break


def _is_loaded(name: str, live: Mapping[str, np.ndarray], state: Mapping[str, Any]) -> bool:
    """Return True if a name is on both sides with one shape. Different shapes are skipped or reported elsewhere."""
    return name in live and name in state and live[name].shape == np.shape(state[name])


def with_shapes_of(live: Mapping[str, np.ndarray], loaded: Loaded) -> Loaded:
    """Return `loaded`, with ties of a foreign file that the model also has in the shape that they have in the model.

    The safetensors library writes a transposed or sliced view as a tie: only the model knows what kind of view it is.
    """
    if loaded.is_exact:
        return loaded
    state = dict(loaded.state)
    for name, alias in loaded.aliases.items():
        kept = alias.kept
        if alias.view is None and name in live and kept in live and sharing.shares(live[name], live[kept]):
            values = loaded.state[kept]
            if live[kept].shape == values.shape and live[kept].dtype == values.dtype:
                copy = sharing.copied({kept: live[kept], name: live[name]})
                copy[kept][...] = values
                state[name] = copy[name]
    return loaded._replace(state=state)
