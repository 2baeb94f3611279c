"""The parameter groups of an optimizer: how they are completed, and the checks that every parameter can be trained.

The checks catch mistakes that would silently train nothing, or the wrong thing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from ..arrays.memory import byte_bounds
from ..autograd.tensor import Tensor
from ..errors import OptimizerError

NamedOrNot = Tensor | tuple[str, Tensor]
Params = Iterable[NamedOrNot] | Iterable[dict[str, Any]]

# The keys that schedules write into a group.
OF_SCHEDULES = {"initial_lr", "max_lr", "min_lr", "max_momentum", "base_momentum"}
# What a hyperparameter was before it existed. None: the default of the optimizer.
MISSING = {
    "maximize": False, "foreach": None, "fused": None, "capturable": False, "differentiable": False, "amsgrad": False,
    "decoupled_weight_decay": None,
}  # fmt: skip


def hyperparameters(given: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a constructor, its `locals()`, as hyperparameters."""
    return {name: value for name, value in given.items() if name not in ("self", "params", "__class__")}


def named_parameters(groups: list[dict[str, Any]]) -> Iterator[tuple[str, Tensor]]:
    """Yield every parameter of the groups with its name for messages."""
    position = 0
    for group in groups:
        names = group.get("param_names") or [None] * len(group["params"])
        for name, parameter in zip(names, group["params"], strict=True):
            yield name or f"parameter {position} with shape {parameter.shape}", parameter
            position += 1


def complete_groups(params: Params, defaults: dict[str, Any], is_closed: bool = True) -> list[dict[str, Any]]:
    """Return the groups with parameters as a list without repeats, and missing hyperparameters from the defaults.

    A float may be a Tensor with one element. is_closed: True if the defaults are all the hyperparameters there are. A
    group may also have a "name" then, and what schedules write.
    Raises OptimizerError if params is not an iterable of parameters or of groups, or holds no parameter.
    """
    if isinstance(params, Tensor | Mapping):
        raise OptimizerError(
            f"the optimizer takes an iterable of parameters or of dicts, not a single {type(params).__name__}."
        )
    entries: list[Any] = list(params)
    given = entries if entries and all(isinstance(entry, dict) for entry in entries) else [{"params": entries}]
    groups = []
    for group in given:
        unknown = group.keys() - defaults.keys() - {"params", "name"} - OF_SCHEDULES
        if (unknown and is_closed) or "params" not in group:
            raise OptimizerError(f"a parameter group takes 'params' and any of {[*defaults]}; this one has {[*group]}.")
        own = group["params"]
        groups.append({**_parameters([own] if isinstance(own, Tensor) else list(own)), **_options(defaults | group)})
    if not any(group["params"] for group in groups):
        raise OptimizerError(
            "the optimizer was given no parameters. Either the model registers none (modules in a plain list or dict "
            "are not seen: use ModuleList or ModuleDict), or model.parameters() was already used up (call it again)."
        )
    return groups


def _options(group: dict[str, Any]) -> dict[str, Any]:
    return {name: v.item() if isinstance(v, Tensor) else v for name, v in group.items() if name != "params"}


def _parameters(entries: list[Any]) -> dict[str, Any]:
    """Return "params", and "param_names" if the entries are (name, parameter)."""
    named = {isinstance(entry, tuple) for entry in entries}
    if len(named) > 1:
        raise OptimizerError("either all parameters of a group have names, or none.")
    pairs = [entry if isinstance(entry, tuple) else (None, entry) for entry in entries]
    for position, (name, parameter) in enumerate(pairs):
        if not isinstance(parameter, Tensor):
            raise OptimizerError(f"the optimizer takes parameters; number {position} is a {type(parameter).__name__}.")
        if parameter._parents and not parameter._keep_graph:
            label = name or f"number {position} with shape {parameter.shape}"
            raise OptimizerError(
                f"{label} is the result of an operation, not a parameter. Pass the parameter it was computed from."
            )
    first = {
        parameter: name for name, parameter in reversed(pairs)
    }  # a tied parameter appears once, under its first name
    unique = list(dict.fromkeys(parameter for _, parameter in pairs))
    names = {"param_names": [first[parameter] for parameter in unique]} if named == {True} else {}
    return {"params": unique, **names}


def require_trainable(groups: list[dict[str, Any]]) -> None:
    """Remove views of other parameters from the groups. Raise OptimizerError if a parameter could not be trained."""
    _require_in_one_group(groups)
    _drop_views(groups)
    _require_apart(list(named_parameters(groups)))


def _require_in_one_group(groups: list[dict[str, Any]]) -> None:
    seen: set[Tensor] = set()
    for name, parameter in named_parameters(groups):
        if parameter in seen:
            raise OptimizerError(f"{name} is in two parameter groups. Put each parameter into one.")
        seen.add(parameter)


def _drop_views(groups: list[dict[str, Any]]) -> None:
    """Remove parameters that are views of another: stepping the other one updates them too."""
    known = {parameter for _, parameter in named_parameters(groups)}
    for name, parameter in named_parameters(groups):
        base = parameter
        while base._keep_graph and base._parents:
            (base,) = base._parents
        if base not in known:
            raise OptimizerError(
                f"{name} is a view of another parameter of shape {base.shape}, which the optimizer does not have, so "
                "neither would be trained. Pass that parameter as well."
            )
        if parameter.requires_grad and not base.requires_grad:
            raise OptimizerError(
                f"{name} is a view of a frozen parameter of shape {base.shape}, so its gradient would be lost. Give "
                "both the same requires_grad."
            )
    for group in groups:
        stays = [not (parameter._keep_graph and parameter._parents) for parameter in group["params"]]
        for key in ("params", "param_names"):
            if key in group and not all(stays):
                group[key] = [entry for entry, keep in zip(group[key], stays, strict=True) if keep]


def _require_apart(named: list[tuple[str, Tensor]]) -> None:
    """Raise OptimizerError if two parameters share memory: both would be stepped, each with part of the gradient."""
    spans = sorted(((*byte_bounds(parameter._data), i) for i, (_, parameter) in enumerate(named)))
    for at, (_, end, i) in enumerate(spans):
        for start, _, j in spans[at + 1 :]:
            if start >= end:
                break
            (name, parameter), (other_name, other) = named[min(i, j)], named[max(i, j)]
            if np.shares_memory(parameter._data, other._data):
                raise OptimizerError(
                    f"{name} and {other_name} share memory but are two parameters, so each step would change it twice. "
                    "Make one a view of the other, as in Parameter(other.weight.T), outside no_grad() and while the "
                    "other is not frozen; or assign the same parameter to both."
                )
