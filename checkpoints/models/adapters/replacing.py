"""Modules whose arrays do not change: a load puts a new array into each place."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

from ....core.commit.commit import Commit
from ....core.nn.module.loading import Targets
from ..trees.leaves import new_leaves, shapes_of
from ..trees.places import place_of, step_to_replace
from ..trees.structure import Leaf
from .adapter import Adapter


class ReplacingAdapter(Adapter):
    """What the adapters of nnx and MLX have in common. A subclass defines `state` and `leaves`."""

    @abstractmethod
    def leaves(self, model: Any) -> dict[str, Leaf]:
        """Return the leaves of a model by name."""

    def targets(self, model: Any) -> Targets:
        return Targets(type(model).__name__, shapes_of(self.leaves(model), place_of), in_place=False)

    def load(self, model: Any, values: Mapping[str, Any], commit: Commit) -> None:
        leaves = self.leaves(model)
        new = new_leaves(type(model).__name__, leaves, values)
        commit.add([step_to_replace(name, leaves[name], value) for name, value in new.items()])
