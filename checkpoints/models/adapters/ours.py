"""The modules of statezoo.core."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np

from ....core.autograd.base import set_data
from ....core.commit.commit import Commit
from ....core.commit.steps import Step
from ....core.nn.module.changes import Changes
from ....core.nn.module.loading import Targets
from ....core.nn.module.module import Module
from ....core.nn.module.parameter import Parameter
from ....core.nn.module.targets import put_values, runs_user_code, targets_of
from ...state import sharing
from .adapter import Adapter, Pair
from .stateful import load_by_itself
from .tying import alike, steps_to_tie, tensors_of


class _Ours(Adapter):
    def state(self, model: Module) -> Mapping[str, Any]:
        return model.state_dict()

    def targets(self, model: Module) -> Targets:
        if _takes_part(model):
            return Targets(type(model).__name__, model.state_dict(), in_place=False)
        return targets_of(model)

    def load(self, model: Module, values: Mapping[str, Any], commit: Commit) -> None:
        if not _takes_part(model):
            put_values(model, targets_of(model), values, commit)
            return
        load = partial(model.load_state_dict, values, strict=model.state_dict().keys() <= values.keys())
        commit.call(partial(load_by_itself, type(model).__name__, load), keep=[model])

    def tie(
        self, model: Module, targets: Targets, state: Mapping[str, Any], pairs: Iterable[Pair]
    ) -> tuple[list[Step], list[Pair]]:
        changes = Changes()
        steps, lacking = steps_to_tie(lambda pair: _remake(model, pair, state, changes), pairs)
        return steps + changes.steps(), lacking


ADAPTER = _Ours()


def _takes_part(model: Module) -> bool:
    """Return True if hooks or methods of the user decide what the state of a model is, or how it is loaded."""
    return (
        model._defines("load_state_dict")
        or runs_user_code(model)
        or any(
            module._state_dict_hooks
            or module._state_dict_pre_hooks
            or module._defines("state_dict", "_save_to_state_dict")
            for module in model.modules()
        )
    )


def _remake(model: Module, pair: Pair, state: Mapping[str, Any], changes: Changes) -> list[Step] | None:
    """Make a pair share memory in the model as in `state`, by `changes` and by the steps returned.

    Return None if the arrays do not fit.
    """
    tensors = dict(tensors_of(model))
    if pair.partner not in tensors or pair.name not in tensors:
        return None  # an array that is extra state
    base, tensor = tensors[pair.partner], tensors[pair.name]
    whole, part = state[pair.partner], state[pair.name]
    alias = sharing.pack({pair.partner: whole, pair.name: part}, {}, pair).aliases.get(pair.name)
    fits = alike(base.data, whole) and base.data.strides == whole.strides
    # If the kept tensor is the other one, or a storage, there is no array in the model to make a view of.
    if alias is None or alias.kept != pair.partner or not fits or not alike(tensor.data, part):
        return None
    places = [name for name, other in tensors.items() if other is tensor]
    others = [other for name, other in tensors.items() if name not in places]
    # New memory for this tensor would untie the tensors that share its memory now.
    if any(sharing.shares(tensor.data, other.data) for other in others) or not part.flags.writeable:
        return None
    if alias.view is None and type(base) is type(tensor):
        made = base
    elif isinstance(base, Parameter) and isinstance(tensor, Parameter) and base.dtype == tensor.dtype:
        made = Parameter.view_of(base, _placed(base.data, whole, part), tensor.requires_grad)
    else:
        return [(set_data, tensor, _placed(base.data, whole, part))]
    for name in places:
        path, _, leaf = name.rpartition(".")
        owner = model.get_submodule(path)
        if isinstance(made, Parameter):
            changes.put(owner, "_parameters", leaf, made)
        else:
            changes.put(owner, "_buffers", leaf, made)
            changes.persist(owner, leaf, made.persistent)
    return []


def _placed(base: np.ndarray, whole: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Return the view of `base` that corresponds to `part` as a view of `whole`. Both have the same strides."""
    order = sorted(range(whole.ndim), key=lambda axis: -whole.strides[axis])
    memory = base.transpose(order).reshape(-1).view(np.uint8)
    offset = part.__array_interface__["data"][0] - whole.__array_interface__["data"][0]
    return np.ndarray(part.shape, part.dtype, memory.data, offset, part.strides)
