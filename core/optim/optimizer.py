"""Optimizer: the parameter groups, the state and the order of a step, which all optimizers share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NoReturn

import numpy as np

from ..autograd.base import set_grad
from ..autograd.tensor import Tensor
from ..commit.steps import Step, run
from ..errors import OptimizerError
from .param_groups import Params, complete_groups, named_parameters, require_trainable


class Optimizer:
    """Parameters in groups, each with its hyperparameters, and the state of each parameter.

    param_groups: dicts of "params", hyperparameters and, if names were given, "param_names".
    state: a dict of arrays for each parameter that has been stepped.
    Raises OptimizerError if a parameter could not be trained as given.
    """

    # The state of a parameter: name -> True if it has the shape of the parameter, False if it is one number.
    _remembers: ClassVar[dict[str, bool]] = {}

    def __init__(self, params: Params, defaults: dict[str, Any]) -> None:
        self.defaults = defaults
        self.param_groups: list[dict[str, Any]] = []
        self.state: dict[Tensor, dict[str, np.ndarray]] = {}
        self._add(complete_groups(params, defaults))

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters to train from now on, such as layers that were frozen before.

        param_group: {"params": ...} and any hyperparameters; the others are those of the constructor.
        Raises OptimizerError if a parameter could not be trained as given; nothing is changed in that case.
        """
        self._add(complete_groups([param_group], self.defaults))

    def _add(self, added: list[dict[str, Any]]) -> None:
        groups = [*self.param_groups, *added]
        require_trainable(groups)
        for group in added:
            self._check(group)
        self.param_groups = groups

    def step(self) -> None:
        """Update every parameter that has a gradient, in place. The arrays stay the same objects.

        Raises OptimizerError if no parameter has a gradient.
        """
        work = []
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter._grad is not None]
            for parameter in parameters:
                array = parameter._data
                # Otherwise the step would broadcast, or fail halfway.
                if parameter._grad.shape != array.shape or not parameter.data.flags.writeable:
                    self._refuse(parameter)
            if parameters:
                work.append((parameters, group))
        if not work:
            raise OptimizerError("step() found no gradient in any parameter. Call loss.backward() first.")
        for parameters, group in work:
            self._step(parameters, group)

    def zero_grad(self) -> None:
        """Set the gradient of every parameter to None."""
        run([(set_grad, parameter, None) for group in self.param_groups for parameter in group["params"]])

    def state_dict(self) -> dict[str, Any]:
        """Return {"state": {position: arrays}, "param_groups": [...]}, the format of torch.

        Parameters are identified by position. The arrays are the live ones, not copies.
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
        """Load hyperparameters and a copy of the state from a `state_dict` (ours or PyTorch's).

        Raises OptimizerError listing every mismatch; nothing is changed in that case.
        """
        run(self._steps_to_load(state_dict))

    def _steps_to_load(self, state_dict: Mapping[str, Any]) -> list[Step]:
        """Return the steps of `load_state_dict`: see commit/steps.py."""
        if not {"state", "param_groups"} <= state_dict.keys():
            raise OptimizerError(
                f"the state of an optimizer has the keys 'state' and 'param_groups'; this one has {[*state_dict]}."
            )
        groups, saved = state_dict["param_groups"], state_dict["state"]
        parameters = list(named_parameters(self.param_groups))
        problems = self._group_problems(groups) or self._state_problems(saved, parameters)
        if problems:
            lines = "\n".join(f"  {problem}" for problem in problems)
            raise OptimizerError(f"the state does not fit this {type(self).__name__}; nothing was changed.\n{lines}")
        for group in groups:
            self._check(group)
        state = {
            parameters[position][1]: {name: np.asarray(array).copy() for name, array in arrays.items()}
            for position, arrays in saved.items()
        }
        steps: list[Step] = [(object.__setattr__, self, "state", state)]
        for group, loaded in zip(self.param_groups, groups, strict=True):
            steps.append(
                (group.update, {name: loaded[name] for name in group if name not in ("params", "param_names")})
            )
        return steps

    def _step(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        """Update the parameters of one group in place. Each has a gradient, which must not be changed."""
        raise NotImplementedError

    def _check(self, group: dict[str, Any]) -> None:
        """Raise OptimizerError if a hyperparameter of the group is out of range."""
        for name in ("lr", "weight_decay"):
            if not group[name] >= 0:
                raise OptimizerError(f"{type(self).__name__}: {name} must be at least 0, not {group[name]}.")

    def _refuse(self, parameter: Tensor) -> NoReturn:
        """Raise OptimizerError for a parameter whose gradient has another shape, or whose array is read-only."""
        name = next(name for name, one in named_parameters(self.param_groups) if one is parameter)
        if parameter._grad is not None and parameter._grad.shape != parameter.shape:
            raise OptimizerError(f"{name} has a gradient of shape {parameter._grad.shape}, not {parameter.shape}.")
        raise OptimizerError(f"{name} is read-only, perhaps mapped from a file. Train copy.deepcopy(model) instead.")

    def _group_problems(self, groups: list[dict[str, Any]]) -> list[str]:
        if len(groups) != len(self.param_groups):
            return [f"it has {len(groups)} parameter groups, the optimizer has {len(self.param_groups)}."]
        problems = []
        for i, (own, loaded) in enumerate(zip(self.param_groups, groups, strict=True)):
            if len(loaded["params"]) != len(own["params"]):
                problems.append(
                    f"group {i} has {len(loaded['params'])} parameters, in the optimizer it has {len(own['params'])}."
                )
            missing = own.keys() - loaded.keys() - {"param_names"}
            if missing:
                problems.append(f"group {i} has no {', '.join(sorted(missing))}: was it saved by another optimizer?")
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


def as_number(value: float, dtype: np.dtype[Any]) -> Any:
    """Return value as a 0-d array of dtype. NumPy multiplies small arrays by it twice as fast as by a Python number.

    For bfloat16 and similar types return value itself: NumPy then computes in float32.
    """
    return value if dtype.kind == "V" else np.array(value, dtype)


def keep_freed_memory() -> None:
    """Let the C library keep up to 16 MB of freed memory for the next training step to reuse.

    glibc returns freed memory to the system above a threshold: twice the largest block that was ever freed. Getting it
    back page by page took a fifth of the step of a small transformer. This frees one block of 8 MB, which is never
    written to. It has no effect with other C libraries, or if the variable MALLOC_TRIM_THRESHOLD_ is set.
    """
    np.empty(8 << 20, np.uint8)
