"""What a load finds in a Module, and how it puts values there: see loading.py for what comes between.

An interrupt comes before all changes or after all of them: see commit/steps.py. Where the user's code takes part, by a
hook or a method of its own, it runs module by module, as in torch, and the model is restored if anything is raised.
"""

from __future__ import annotations

import copy
import functools
import operator
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import numpy as np

from ...arrays.memory import overlapping
from ...autograd.base import set_data, set_grad, to_array
from ...commit.block import Setting
from ...commit.commit import Commit
from ...commit.steps import Step, run
from ...errors import ArgumentError, StateDictError
from .loading import LoadPlan, LoadResult, Targets, plan_load, require_mapping, separated

if TYPE_CHECKING:
    from .module import Module

_EXTRA = "Check set_extra_state() of that module."
_plan: ContextVar[LoadPlan | None] = ContextVar("statezoo_load", default=None)  # of a load that hooks take part in


def targets_of(model: Module) -> Targets:
    """Return the arrays of a model, its modules with extra state, by name, and the names that may be absent."""
    known, optional = {}, set()
    for path, module in model._tree(distinct=False):
        dot = f"{path}." if path else ""
        known.update(_own_targets(module, dot))
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
        revert = None
        if module._defines("get_extra_state"):
            revert = functools.partial(module.set_extra_state, copy.deepcopy(module.get_extra_state()))
        change = functools.partial(_set_extra_state, targets.kind, name, module, values[name])
        commit.call(change, keep=[module], revert=revert)
    arrays = {name: value for name, value in values.items() if name not in extra}
    if targets.assign:
        commit.add(_steps_to_assign(model, arrays))
        return
    for name, value in arrays.items():
        commit.write(targets.known[name], value)


def load_state(model: Module, state: Mapping[str, Any], strict: bool, cast: bool, assign: bool) -> LoadResult:
    """Load a state into a model, as `Module.load_state_dict` says."""
    commit, results = Commit(), []
    if runs_user_code(model):
        commit.call(lambda: results.append(_load_by_modules(model, state, strict, cast, assign)), keep=[model])
    else:
        targets = targets_of(model)._replace(assign=assign)
        plan = plan_load(targets, state, strict, cast)
        put_values(model, targets, plan.values, commit)
        results.append(plan.result)
    commit.apply()
    return results[0]


def runs_user_code(model: Module) -> bool:
    """Return True if a module has hooks or methods that a load has to run."""
    return any(
        module._load_state_dict_pre_hooks
        or module._load_state_dict_post_hooks
        or module._defines("_load_from_state_dict")
        for _, module in model._tree()
    )


def load_own(module: Module, state: Mapping[str, Any], prefix: str, missing: list[str], unexpected: list[str]) -> None:
    """Put the values of one module's own names into it, and note the names that only one side has."""
    plan = _plan.get()
    if plan is None:
        raise ArgumentError("_load_from_state_dict() is for load_state_dict() to call. Call load_state_dict().")
    own = dict(_own_targets(module, prefix))
    absent = plan.take(own, state)
    missing += [name for name in absent if name.removeprefix(prefix) not in module._may_be_absent]
    for name in state:
        first, dot, _ = name.removeprefix(prefix).partition(".")
        if name.startswith(prefix) and name not in own and not (dot and first in module._modules):
            unexpected.append(name)
    arrays, extra = plan.arrays(own), f"{prefix}_extra_state"
    if extra in own and extra in state:
        _set_extra_state(type(module).__name__, extra, module, state[extra])
    if plan.targets.assign:
        run(_steps_to_assign(module, {name.removeprefix(prefix): array for name, array in arrays.items()}))
    else:
        run([(operator.setitem, np.asarray(own[name]), ..., array) for name, array in arrays.items()])


# --- details


def _own_targets(module: Module, dot: str) -> Iterator[tuple[str, Any]]:
    yield from ((dot + name, tensor.data) for name, tensor in module._own_state())
    if module._defines("get_extra_state", "set_extra_state"):
        yield f"{dot}_extra_state", module


def _set_extra_state(kind: str, name: str, module: Module, value: Any) -> None:
    try:
        module.set_extra_state(value)
    except Exception as error:
        what = f"was refused by {type(module).__name__}.set_extra_state(): {type(error).__name__}: {error}"
        raise StateDictError(kind, [f"{name}  {what}"], _EXTRA) from error


def _steps_to_assign(model: Module, arrays: Mapping[str, np.ndarray]) -> list[Step]:
    """Return the steps that make arrays the memory of the tensors with these names."""
    tensors = {
        f"{path}.{name}" if path else name: tensor
        for path, module in model._tree(distinct=False)
        for name, tensor in module._own_state()
    }
    everything = model._tensors()
    if any(len(group) > 1 for group in overlapping([tensor._data for tensor in everything])):
        raise ArgumentError("assign=True cannot keep memory that several tensors of a model share. Load without it.")
    steps: list[Step] = [(set_data, tensors[name], to_array(array)) for name, array in arrays.items()]
    return steps + [(set_grad, tensors[name], None) for name in arrays]


def _load_by_modules(model: Module, state: Mapping[str, Any], strict: bool, cast: bool, assign: bool) -> LoadResult:
    """Load a state module by module, each with its hooks, and judge the result at the end."""
    require_mapping(state)
    plan = LoadPlan(Targets(type(model).__name__, {}, assign=assign), strict, cast)
    messages: list[str] = []
    mine = [tensor._data for tensor in model._tensors()]
    with Setting(_plan, lambda _: plan):
        _load_tree(model, separated(dict(state), mine), "", plan.result, messages, getattr(state, "_metadata", {}))
    plan.finish(state, messages)
    return plan.result


def _load_tree(
    module: Module, state: dict[str, Any], prefix: str, keys: LoadResult, messages: list[str], metadata: Any
) -> None:
    local = dict(metadata.get(prefix[:-1], {}))
    module._load_from_state_dict(state, prefix, local, True, keys.missing_keys, keys.unexpected_keys, messages)
    for name, child in module._modules.items():
        if child is not None:
            start = f"{prefix}{name}."
            part = {key: value for key, value in state.items() if key.startswith(start)}
            _load_tree(child, part, start, keys, messages, metadata)
    for hook in tuple(module._load_state_dict_post_hooks.values()):
        if hook(module, keys) is not None:
            raise ArgumentError("a post-hook of load_state_dict() returns None; it changes the lists of keys in place.")
