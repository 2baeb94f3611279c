"""The modules of flax.nnx. Their arrays do not change, but their variables get new ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import UnsupportedTypeError
from ..trees.kinds import is_pytree
from ..trees.leaves import arrays_of
from ..trees.places import place_of
from ..trees.structure import Leaf, leaves_of
from .replacing import ReplacingAdapter


class _Nnx(ReplacingAdapter):
    """The names are those of `nnx.state`, with every name of a variable that has several."""

    has_optimizers = True

    def state(self, model: Any) -> Mapping[str, Any]:
        return arrays_of(self.leaves(model), place_of)

    def leaves(self, model: Any) -> dict[str, Leaf]:
        if not is_pytree(model):
            raise UnsupportedTypeError(
                f"{type(model).__name__} is not a pytree in this version of flax. Install flax 0.11."
            )
        return leaves_of(model)


ADAPTER = _Nnx()
