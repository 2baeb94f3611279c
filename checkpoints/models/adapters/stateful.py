"""Any object with state_dict() and load_state_dict()."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from .adapter import Adapter

if TYPE_CHECKING:
    from ....core.commit.commit import Commit


class _Stateful(Adapter):
    def state(self, model: Any) -> Mapping[str, Any]:
        return model.state_dict()

    def load(self, model: Any, values: Mapping[str, Any], commit: Commit) -> None:
        """Add a call of load_state_dict, which is undone by another call with the state of now."""
        before = copy.deepcopy(dict(model.state_dict()))
        load = partial(model.load_state_dict, {**before, **values})
        commit.call(load, keep=[model], revert=partial(model.load_state_dict, before))


ADAPTER = _Stateful()
