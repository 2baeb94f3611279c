"""The modules of MLX: dicts of arrays, which get new arrays."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any

from ..trees.leaves import arrays_of
from ..trees.structure import Leaf, Node, leaves_of
from .replacing import ReplacingAdapter


class _Mlx(ReplacingAdapter):
    """The names are those of `tree_flatten(model.parameters())`, which include buffers but not names with a `_`.

    An optimizer of MLX replaces each array by its own, so a tie says that a value is stored once, and no more.
    """

    binds_ties = False

    def state(self, model: Any) -> Mapping[str, Any]:
        return arrays_of(self.leaves(model))

    def leaves(self, model: Any) -> dict[str, Leaf]:
        return leaves_of(model, _node_of)


ADAPTER = _Mlx()


def _node_of(value: Any) -> Node | None:
    """Return a dict or list with what is state in it, as `Module.valid_parameter_filter` has it."""
    if not isinstance(value, dict | list):
        return None
    is_module = isinstance(value, sys.modules["mlx.nn"].Module)
    items: Iterable[tuple[Any, Any]] = value.items() if isinstance(value, dict) else enumerate(value)
    kinds = dict, list, sys.modules["mlx.core"].array
    kept = [(k, v) for k, v in items if isinstance(v, kinds) and not (is_module and str(k).startswith("_"))]
    return Node(kept, type(value))
