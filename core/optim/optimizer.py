"""What every optimizer shares: its parameters and the checks on them, its state, the rhythm of a step.

The checks are for the mistakes that otherwise train nothing, or the wrong thing, without a word.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, NoReturn

import numpy as np

from ..autograd.memory import byte_bounds
from ..autograd.tensor import Tensor
from ..errors import OptimizerError

NamedOrNot = Tensor | tuple[str, Tensor]
Params = Iterable[NamedOrNot] | Iterable[dict[str, Any]]


class Optimizer:
    """Parameters in groups, each with its hyperparameters, and what the algorithm remembers of each parameter.

    param_groups: dicts of "params", hyperparameters and, if names were given, "param_names".
    state: for each parameter that has been stepped, a dict of arrays.
    Raises OptimizerError for parameters that could not be trained as given.
    """

    # What the algorithm keeps for a parameter: name -> whether it has the parameter's shape (else it is one number).
    _remembers: ClassVar[dict[str, bool]] = {}

    def __init__(self, params: Params, defaults: dict[str, Any]) -> None:
        self.defaults = defaults
        self.param_groups: list[dict[str, Any]] = []
        self.state: dict[Tensor, dict[str, np.ndarray]] = {}
        self._add(_groups(params, defaults))
        _keep_freed_memory()

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters to train from now on, such as layers that were frozen before.

        param_group: {"params": ...} and any hyperparameters; the others are those the optimizer was made with.
        Raises OptimizerError for parameters that could not be trained as given. Nothing is changed in that case.
        """
        self._add(_groups([param_group], self.defaults))

    def _add(self, added: list[dict[str, Any]]) -> None:
        groups = [*self.param_groups, *added]
        _require_in_one_group(groups)
        _drop_views(groups)
        _require_apart(list(named_parameters(groups)))
        for group in added:
            self._check(group)
        self.param_groups = groups

    def step(self) -> None:
        """Change every parameter that has a gradient, in place. The arrays stay the same objects.

        Raises OptimizerError if no parameter has a gradient.
        """
        work = []
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            for parameter in parameters:
                array = parameter.data
                # What would fail halfway through the step, or broadcast.
                if parameter.grad.shape != array.shape or not array.flags.writeable:
                    self._refuse(parameter)
            if parameters:
                work.append((parameters, group))
        if not work:
            raise OptimizerError("step() found no gradient in any parameter: call loss.backward() first.")
        for parameters, group in work:
            self._step(parameters, group)

    def zero_grad(self) -> None:
        """Set the gradient of every parameter to None."""
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    def state_dict(self) -> dict[str, Any]:
        """Return {"state": {position: arrays}, "param_groups": [...]}, with positions for parameters, as torch does.

        The arrays are the live ones.
        """
        positions = {parameter: i for i, (_, parameter) in enumerate(named_parameters(self.param_groups))}
        return {
            "state": {positions[parameter]: dict(arrays) for parameter, arrays in self.state.items() if arrays},
            "param_groups": [
                {**group, "params": [positions[parameter] for parameter in group["params"]]}
                for group in self.param_groups
            ],
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over hyperparameters and copies of the arrays from what `state_dict`, here or in torch, returned.

        Raises OptimizerError that lists all that does not fit; then nothing was changed.
        """
        if not {"state", "param_groups"} <= state_dict.keys():
            raise OptimizerError(f"an optimizer's state has 'state' and 'param_groups'; this one has {[*state_dict]}.")
        groups, saved = state_dict["param_groups"], state_dict["state"]
        parameters = list(named_parameters(self.param_groups))
        problems = self._group_problems(groups) or self._state_problems(saved, parameters)
        if problems:
            lines = "\n".join(f"  {problem}" for problem in problems)
            raise OptimizerError(f"the state does not fit this {type(self).__name__}; nothing was changed.\n{lines}")
        for group in groups:
            self._check(group)
        self.state = {
            parameters[position][1]: {name: np.asarray(array).copy() for name, array in arrays.items()}
            for position, arrays in saved.items()
        }
        for group, loaded in zip(self.param_groups, groups, strict=True):
            group.update({name: loaded[name] for name in group if name not in ("params", "param_names")})

    def _step(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        """Change the arrays of parameters of one group, all of which have a gradient, in place by one step.

        The gradients must stay as they are.
        """
        raise NotImplementedError

    def _check(self, group: dict[str, Any]) -> None:
        """Raise OptimizerError if a hyperparameter of the group makes no sense."""
        for name in ("lr", "weight_decay"):
            if not group[name] >= 0:
                raise OptimizerError(f"{type(self).__name__}: {name} is at least 0, not {group[name]}.")

    def _refuse(self, parameter: Tensor) -> NoReturn:
        """Raise OptimizerError for a parameter whose gradient has another shape, or that cannot be written to."""
        name = next(name for name, one in named_parameters(self.param_groups) if one is parameter)
        if parameter.grad is not None and parameter.grad.shape != parameter.shape:
            raise OptimizerError(f"{name} has a gradient of shape {parameter.grad.shape}, not {parameter.shape}.")
        raise OptimizerError(f"{name} is read-only memory, perhaps of a file. Train copy.deepcopy(model) instead.")

    def _group_problems(self, groups: list[dict[str, Any]]) -> list[str]:
        if len(groups) != len(self.param_groups):
            return [f"it has {len(groups)} parameter groups, the optimizer {len(self.param_groups)}."]
        problems = []
        for i, (own, loaded) in enumerate(zip(self.param_groups, groups, strict=True)):
            if len(loaded["params"]) != len(own["params"]):
                problems.append(
                    f"group {i} has {len(loaded['params'])} parameters, the optimizer's {len(own['params'])}."
                )
            missing = own.keys() - loaded.keys() - {"param_names"}
            if missing:
                problems.append(f"group {i} lacks {', '.join(sorted(missing))}: is it of another optimizer?")
        return problems

    def _state_problems(self, saved: Mapping[Any, Any], parameters: list[tuple[str, Tensor]]) -> list[str]:
        problems = []
        for position, arrays in saved.items():
            if position not in range(len(parameters)):
                problems.append(f"there is no parameter {position!r}.")
                continue
            name, parameter = parameters[position]
            if arrays.keys() != self._remembers.keys():
                problems.append(f"{name} has {sorted(arrays)}, the optimizer keeps {sorted(self._remembers)}.")
                continue
            for key, has_shape in self._remembers.items():
                shape = parameter.shape if has_shape else ()
                found = np.asarray(arrays[key])
                if found.shape != shape or (has_shape and found.dtype != parameter.dtype):
                    wanted = f"{parameter.dtype} {shape}" if has_shape else "one number"
                    problems.append(f"{name}: {key} is {found.dtype} {found.shape}, not {wanted}.")
        return problems


def _keep_freed_memory() -> None:
    """Have the C library keep up to 16 MB that were freed, as every training step takes the same memory again.

    glibc gives memory back to the system beyond twice the largest array that was ever freed, and to get it anew, page
    by page, took a sixth of a small transformer's step. So one array is freed here, which was never written to.
    Elsewhere, and where MALLOC_TRIM_THRESHOLD_ or its like is set, this does nothing.
    """
    np.empty(8 << 20, np.uint8)


def named_parameters(groups: list[dict[str, Any]]) -> Iterator[tuple[str, Tensor]]:
    """Yield every parameter of the groups with what to call it in a message."""
    position = 0
    for group in groups:
        names = group.get("param_names") or [None] * len(group["params"])
        for name, parameter in zip(names, group["params"], strict=True):
            yield name or f"parameter {position} with shape {parameter.shape}", parameter
            position += 1


def _groups(params: Params, defaults: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the groups in full: parameters as a list without repeats, hyperparameters filled in from the defaults."""
    if isinstance(params, Tensor | Mapping):
        raise OptimizerError(
            f"the optimizer takes an iterable of parameters or of dicts, not one {type(params).__name__}."
        )
    entries: list[Any] = list(params)
    given = entries if entries and all(isinstance(entry, dict) for entry in entries) else [{"params": entries}]
    groups = []
    for group in given:
        unknown = group.keys() - defaults.keys() - {"params"}
        if unknown or "params" not in group:
            raise OptimizerError(f"a parameter group has 'params' and any of {[*defaults]}; this one has {[*group]}.")
        own = group["params"]
        groups.append({**_parameters([own] if isinstance(own, Tensor) else list(own)), **defaults, **_without(group)})
    if not any(group["params"] for group in groups):
        raise OptimizerError(
            "the optimizer was given no parameters. Either the model registers none (modules in a plain list or dict "
            "are not seen: use ModuleList or ModuleDict), or model.parameters() was used up before (call it again)."
        )
    return groups


def _without(group: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in group.items() if name != "params"}


def _parameters(entries: list[Any]) -> dict[str, Any]:
    """Return "params", and "param_names" if the entries are (name, parameter)."""
    named = {isinstance(entry, tuple) for entry in entries}
    if len(named) > 1:
        raise OptimizerError("give names to all parameters of a group or to none.")
    pairs = [entry if isinstance(entry, tuple) else (None, entry) for entry in entries]
    for position, (name, parameter) in enumerate(pairs):
        if not isinstance(parameter, Tensor):
            raise OptimizerError(f"the optimizer takes parameters; number {position} is a {type(parameter).__name__}.")
        if parameter._parents and not parameter._keep_graph:
            label = name or f"number {position} with shape {parameter.shape}"
            raise OptimizerError(
                f"{label} is the result of an operation, not a parameter: give what it was computed from."
            )
    first = {parameter: name for name, parameter in reversed(pairs)}  # a tied parameter once, under its first name
    unique = list(dict.fromkeys(parameter for _, parameter in pairs))
    names = {"param_names": [first[parameter] for parameter in unique]} if named == {True} else {}
    return {"params": unique, **names}


def _require_in_one_group(groups: list[dict[str, Any]]) -> None:
    seen: set[Tensor] = set()
    for name, parameter in named_parameters(groups):
        if parameter in seen:
            raise OptimizerError(f"{name} is in two parameter groups. Each parameter goes into one.")
        seen.add(parameter)


def _drop_views(groups: list[dict[str, Any]]) -> None:
    """Leave out parameters that are views of another's memory: whoever steps that one steps them."""
    known = {parameter for _, parameter in named_parameters(groups)}
    for name, parameter in named_parameters(groups):
        base = parameter
        while base._keep_graph and base._parents:
            (base,) = base._parents
        if base not in known:
            raise OptimizerError(
                f"{name} is a view of another parameter of shape {base.shape}, which the optimizer was not given, so "
                "that neither would be trained. Give it that one, too."
            )
        if parameter.requires_grad and not base.requires_grad:
            raise OptimizerError(
                f"{name} is a view of a frozen parameter of shape {base.shape}, where its gradient would be lost. Set "
                "requires_grad of both alike."
            )
    for group in groups:
        stays = [not (parameter._keep_graph and parameter._parents) for parameter in group["params"]]
        for key in ("params", "param_names"):
            if key in group:
                group[key] = [entry for entry, keep in zip(group[key], stays, strict=True) if keep]


def _require_apart(named: list[tuple[str, Tensor]]) -> None:
    """Raise OptimizerError if two parameters share memory: both would be stepped, each with half of the gradient."""
    spans = sorted(((*byte_bounds(parameter.data), i) for i, (_, parameter) in enumerate(named)))
    for at, (_, end, i) in enumerate(spans):
        for start, _, j in spans[at + 1 :]:
            if start >= end:
                break
            (name, parameter), (other_name, other) = named[min(i, j)], named[max(i, j)]
            if np.shares_memory(parameter.data, other.data):
                raise OptimizerError(
                    f"{name} and {other_name} share memory but are two parameters, so that each step would change it "
                    "twice. Make one a view of the other, as in Parameter(other.weight.T) outside no_grad() and "
                    "while that one is not frozen, or assign the same one."
                )
