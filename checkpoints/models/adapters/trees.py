"""Trees of arrays: dicts, lists and tuples, and the pytrees of JAX, such as modules of equinox and states of flax."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ....core.commit.commit import Commit
from ....core.nn.module.loading import Targets
from ..trees.leaves import arrays_of, new_leaves, optional_names, shapes_of
from ..trees.places import place_in_tree
from ..trees.structure import leaves_of, rebuilt
from .adapter import Adapter


class _Trees(Adapter):
    """A load makes a new tree, as the arrays of JAX do not change.

    A tie in a tree says that a value is stored once, and no more. So the ties of the new tree are those of the file.
    """

    binds_ties = False

    def state(self, model: Any) -> Mapping[str, Any]:
        return arrays_of(leaves_of(model))

    def targets(self, model: Any) -> Targets:
        leaves = leaves_of(model)
        shapes = shapes_of(leaves, place_in_tree)
        return Targets(type(model).__name__, shapes, optional_names(leaves), in_place=False)

    def load(self, model: Any, values: Mapping[str, Any], commit: Commit) -> Any:
        return rebuilt(model, new_leaves(type(model).__name__, leaves_of(model), values))


ADAPTER = _Trees()
