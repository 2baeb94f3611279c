"""What a load finds in a Module, and how it puts values there: see loading.py for what comes between.

An interrupt comes before all changes or after all of them: see commit/steps.py.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ...commit.commit import Commit
from ...errors import StateDictError
from .loading import Targets

if TYPE_CHECKING:
    from .module import Module

_EXTRA = "Check set_extra_state() of that module."


def targets_of(model: Module) -> Targets:
    """Return the arrays of a model, its modules with extra state, by name, and the names that may be absent."""
    known, optional = {}, set()
    for path, module in model._tree(distinct=False):
        dot = f"{path}." if path else ""
        known.update((dot + name, tensor.data) for name, tensor in module._own_state())
        if module._has_extra_state():
            known[f"{dot}_extra_state"] = module
        optional.update(dot + name for name in module._may_be_absent)
    return Targets(type(model).__name__, known, optional)


def put_values(model: Module, targets: Targets, values: Mapping[str, Any], commit: Commit) -> None:
    """Add to a commit the changes that put values into a model: copies into its arrays, and extra state.

    values: as in LoadPlan. The commit raises StateDictError if a set_extra_state refuses its value.
    """
    extra = {name: module for name, module in targets.known.items() if not isinstance(module, np.ndarray)}
    extra = {name: module for name, module in extra.items() if name in values}
    if extra:
        # A set_extra_state changes its own module, so the undo needs no copy of the others.
        own = set(map(id, extra.values()))
        commit.leave_out(module for _, module in model._tree() if id(module) not in own)
    for name, module in extra.items():
        before = copy.deepcopy(module.get_extra_state())
        commit.call(
            functools.partial(_set_extra_state, targets.kind, name, module, values[name]),
            keep=[module],
            revert=functools.partial(module.set_extra_state, before),
        )
    for name, value in values.items():
        if name not in extra:
            commit.write(targets.known[name], value)


def _set_extra_state(kind: str, name: str, module: Module, value: Any) -> None:
    try:
        module.set_extra_state(value)
    except Exception as error:
        what = f"was refused by {type(module).__name__}.set_extra_state(): {type(error).__name__}: {error}"
        raise StateDictError(kind, [f"{name}  {what}"], _EXTRA) from error
