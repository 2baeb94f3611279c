"""The modules of MLX: dicts of arrays, which get new arrays."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any

from ....core.commit.commit import Commit
from ....core.nn.module.loading import Targets
from ..trees.leaves import arrays_of, new_leaves, shapes_of
from ..trees.places import place_of, step_to_replace
from ..trees.structure import Leaf, Node, leaves_of
from .adapter import Adapter


class _Mlx(Adapter):
    """The names are those of `tree_flatten(model.parameters())`, which include buffers but not names with a `_`.

    An optimizer of MLX replaces each array by its own, so a tie says that a value is stored once, and no more.
    """

    binds_ties = False

    def state(self, model: Any) -> Mapping[str, Any]:
        return arrays_of(_leaves_of(model))

    def targets(self, model: Any) -> Targets:
        return Targets(type(model).__name__, shapes_of(_leaves_of(model), place_of), in_place=False)

    def load(self, model: Any, values: Mapping[str, Any], commit: Commit) -> None:
        leaves = _leaves_of(model)
        new = new_leaves(type(model).__name__, leaves, values)
        commit.add([step_to_replace(name, leaves[name], value) for name, value in new.items()])


ADAPTER = _Mlx()


def _leaves_of(model: Any) -> dict[str, Leaf]:
    return leaves_of(model, _node_of)


def _node_of(value: Any) -> Node | None:
    """Return a dict or list with what is state in it, as `Module.valid_parameter_filter` has it."""
    if not isinstance(value, dict | list):
        return None
    is_module = isinstance(value, sys.modules["mlx.nn"].Module)
    items: Iterable[tuple[Any, Any]] = value.items() if isinstance(value, dict) else enumerate(value)
    kinds = dict, list, sys.modules["mlx.core"].array
    kept = [(k, v) for k, v in items if isinstance(v, kinds) and not (is_module and str(k).startswith("_"))]
    return Node(kept, type(value))
