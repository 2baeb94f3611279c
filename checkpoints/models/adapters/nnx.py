"""The modules of flax.nnx. Their arrays do not change, but their variables get new ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ....core.commit.commit import Commit
from ....core.nn.module.loading import Targets
from ...errors import UnsupportedTypeError
from ..trees.kinds import is_pytree
from ..trees.leaves import arrays_of, new_leaves, shapes_of
from ..trees.places import place_of, step_to_replace
from ..trees.structure import Leaf, leaves_of
from .adapter import Adapter


class _Nnx(Adapter):
    """The names are those of `nnx.state`, with every name of a variable that has several."""

    has_optimizers = True

    def state(self, model: Any) -> Mapping[str, Any]:
        return arrays_of(_leaves_of(model), place_of)

    def targets(self, model: Any) -> Targets:
        return Targets(type(model).__name__, shapes_of(_leaves_of(model), place_of), in_place=False)

    def load(self, model: Any, values: Mapping[str, Any], commit: Commit) -> None:
        leaves = _leaves_of(model)
        new = new_leaves(type(model).__name__, leaves, values)
        commit.add([step_to_replace(name, leaves[name], value) for name, value in new.items()])


ADAPTER = _Nnx()


def _leaves_of(model: Any) -> dict[str, Leaf]:
    if not is_pytree(model):
        raise UnsupportedTypeError(
            f"{type(model).__name__} is not a pytree in this version of flax. Install flax 0.11."
        )
    return leaves_of(model)
