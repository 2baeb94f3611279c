"""Names of a torch.nn.Module that are made to share memory, for load_model(..., ties="restore")."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ...state import sharing
from ...state.torch_tensors import is_on_host, memory_of
from .adapter import Pair
from .tying import alike, tensors_of

if TYPE_CHECKING:
    from ....core.commit.steps import Step


def remade(model: Any, pair: Pair, state: Mapping[str, Any]) -> list[Step] | None:
    """Return steps that make a pair share memory in the model as in `state`, or None if the tensors do not fit.

    A tie becomes one object under both names. A view keeps its object, in other memory.
    """
    tensors = dict(tensors_of(model))
    base, tensor = tensors.get(pair.partner), tensors.get(pair.name)
    if base is None or tensor is None or not (is_on_host(base) and is_on_host(tensor)):
        return None
    whole, part = state[pair.partner], state[pair.name]
    alias = sharing.pack({pair.partner: whole, pair.name: part}, {}, pair).aliases.get(pair.name)
    old = memory_of(pair.partner, base), memory_of(pair.name, tensor)
    # If the kept tensor is the other one, or a storage, there is no tensor in the model to make a view of.
    if alias is None or alias.kept != pair.partner or not alike(old[0], whole) or not alike(old[1], part):
        return None
    others = [memory_of(name, other) for name, other in tensors.items() if other is not tensor]
    # New memory for this tensor would untie the tensors that share its memory now.
    if old[0].strides != whole.strides or any(sharing.shares(old[1], other) for other in others):
        return None
    if alias.view is None and type(base) is type(tensor):
        places = [name for name, other in tensors.items() if other is tensor]
        # The last step keeps what is replaced alive while the others run, since a finalizer may be Python code.
        return [*(_step_to_put(model, name, base) for name in places), (id, tensor)]
    view = _placed(base, whole, part)
    return None if view is None else [(setattr, tensor, "data", view)]


def _step_to_put(model: Any, name: str, tensor: Any) -> Step:
    path, _, leaf = name.rpartition(".")
    owner = model.get_submodule(path)
    members = owner._parameters if leaf in owner._parameters else owner._buffers
    return dict.__setitem__, members, leaf, tensor


def _placed(base: Any, whole: np.ndarray, part: np.ndarray) -> Any:
    """Return the view of `base` that corresponds to `part` as a view of `whole`, or None if torch has no such view."""
    offset = part.__array_interface__["data"][0] - whole.__array_interface__["data"][0]
    steps = offset, *part.strides
    if part.dtype != whole.dtype or any(step < 0 or step % part.itemsize for step in steps):
        return None
    offset, *strides = (step // part.itemsize for step in steps)
    return base.detach().as_strided(part.shape, strides, base.storage_offset() + offset)
