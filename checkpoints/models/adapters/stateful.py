"""Any object with state_dict() and load_state_dict()."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ....core.errors import StateDictError
from ..trees.leaves import arrays_of, new_leaves
from ..trees.structure import leaves_of, rebuilt
from .adapter import Adapter

if TYPE_CHECKING:
    from ....core.commit.commit import Commit


class _Stateful(Adapter):
    """A state_dict may be a tree: load_state_dict gets one of the same structure."""

    def state(self, model: Any) -> Mapping[str, Any]:
        return arrays_of(leaves_of(model.state_dict()))

    def load(self, model: Any, values: Mapping[str, Any], commit: Commit) -> None:
        """Add a call of load_state_dict, which is undone by another call with the state of now."""
        kind, tree = type(model).__name__, model.state_dict()
        leaves = leaves_of(tree)
        now = {n: np.array(value) if isinstance(value, np.ndarray) else value for n, value in arrays_of(leaves).items()}
        before = rebuilt(tree, new_leaves(kind, leaves, now))
        after = rebuilt(tree, new_leaves(kind, leaves, values))
        change = partial(load_by_itself, kind, partial(model.load_state_dict, after))
        commit.call(change, keep=[model], revert=partial(model.load_state_dict, before))


ADAPTER = _Stateful()


def load_by_itself(kind: str, load: Callable[[], object]) -> None:
    """Call the load_state_dict of a model of class `kind`. Raises StateDictError whatever it raises."""
    try:
        load()
    except StateDictError:
        raise
    except Exception as error:
        what = f"load_state_dict() refused the state: {type(error).__name__}: {error}"
        raise StateDictError(kind, [what], f"Check load_state_dict() of {kind}.") from error
