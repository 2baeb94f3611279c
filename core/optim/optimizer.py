"""Optimizer: the parameter groups, the state, the hooks and the order of a step, which all optimizers share."""

from __future__ import annotations

import copy
import functools
import warnings
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NoReturn

import numpy as np

from ..arrays.versions import mark_written
from ..autograd.arrays import shown
from ..autograd.base import set_grad
from ..autograd.tape import enable_grad
from ..autograd.tensor import Tensor
from ..commit.steps import Step, run
from ..errors import OptimizerError
from ..nn.module.hooks import HookHandle
from .param_groups import MISSING, OF_SCHEDULES, Params, complete_groups, named_parameters, require_trainable

Closure = Callable[[], Any]


def _with_hooks(step: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method `step` that calls the hooks of the optimizer before and after."""

    @functools.wraps(step)
    def hooked(self: Optimizer, *args: Any, **kwargs: Any) -> Any:
        if not self._hooks:
            return step(self, *args, **kwargs)
        args, kwargs = self._run_hooks("step_pre", args, kwargs)
        result = step(self, *args, **kwargs)
        self._run_hooks("step_post", args, kwargs)
        return result

    return hooked


def _registering(kind: str, call: str) -> Callable[..., HookHandle]:
    def register(self: Optimizer, hook: Callable[..., Any], prepend: bool = False) -> HookHandle:
        hooks = self._hooks.setdefault(kind, {})
        key = max(hooks, default=0) + 1
        items = [*hooks.items()]
        items.insert(0 if prepend else len(items), (key, hook))
        hooks.clear()
        hooks.update(items)
        return HookHandle(hooks, key)

    register.__doc__ = f"Call {call}. Return a handle whose `remove()` removes the hook."
    return register


class Optimizer:
    """Parameters in groups, each with its hyperparameters, and the state of each parameter.

    param_groups: dicts of "params", hyperparameters and, if names were given, "param_names".
    state: a dict for each parameter that has been stepped; a missing one is created empty when it is first asked for.
    A subclass of your own overrides `step`: it loops over `param_groups`, uses `state` and changes `p.data` in place.
    Its groups may have any other keys. Raises OptimizerError if a parameter could not be trained as given.
    """

    # Hyperparameters that always have one value, whatever a loaded state says.
    _always: ClassVar[dict[str, Any]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "step" in vars(cls):
            cls.step = _with_hooks(cls.step)

    def __init__(self, params: Params, defaults: dict[str, Any]) -> None:
        self.defaults = defaults
        self.param_groups: list[dict[str, Any]] = []
        self.state: dict[Any, dict[str, Any]] = defaultdict(dict)
        self._hooks: dict[str, dict[int, Callable[..., Any]]] = {}
        self._has_stepped = False
        self._add(complete_groups(params, defaults, self._is_own()))

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters to train from now on, such as layers that were frozen before.

        param_group: {"params": ...} and any hyperparameters; the others are those of the constructor.
        Raises OptimizerError if a parameter could not be trained as given; nothing is changed in that case.
        """
        self._add(complete_groups([param_group], self.defaults, self._is_own()))

    def _add(self, added: list[dict[str, Any]]) -> None:
        groups = [*self.param_groups, *added]
        require_trainable(groups)
        for group in added:
            self._check(group)
        self.param_groups = groups

    def step(self, closure: Closure | None = None) -> Any:
        """Update every parameter that has a gradient, in place. The arrays stay the same objects.

        closure: a function that computes the loss, calls backward() and returns the loss. It is called first, and its
        result is returned. Without any gradient nothing changes, as in torch; if that is so in the first step, a
        warning says it, because a forgotten backward() or parameters of another model look like this.
        """
        loss = None if closure is None else enable_grad()(closure)()
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
        if not work and not self._has_stepped:
            warnings.warn(f"{NO_GRADIENT}. Call loss.backward() first.", stacklevel=3)
        for parameters, group in work:
            self._has_stepped = True
            self._step(parameters, group)
            for parameter in parameters:
                mark_written(parameter._data)  # a graph from before the step must not be used again
        return loss

    step = _with_hooks(step)

    register_step_pre_hook = _registering("step_pre", "hook(optimizer, args, kwargs) before each step")
    register_step_post_hook = _registering("step_post", "hook(optimizer, args, kwargs) after each step")
    register_state_dict_pre_hook = _registering("state_dict_pre", "hook(optimizer) before state_dict")
    register_state_dict_post_hook = _registering("state_dict_post", "hook(optimizer, state), which may return another")
    register_load_state_dict_pre_hook = _registering("load_pre", "hook(optimizer, state), which may return another")
    register_load_state_dict_post_hook = _registering("load_post", "hook(optimizer) after load_state_dict")

    def _run_hooks(self, kind: str, *values: Any) -> tuple[Any, ...]:
        """Call the hooks of a kind. Return the values, or what a hook returned in their place."""
        for hook in [*self._hooks.get(kind, {}).values()]:
            changed = hook(self, *values)
            if changed is not None and kind != "step_post":
                values = changed if isinstance(changed, tuple) else (changed,)
        return values

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Set the gradient of every parameter to None, or to zeros in place."""
        parameters = [parameter for _, parameter in named_parameters(self.param_groups)]
        if set_to_none:
            run([(set_grad, parameter, None) for parameter in parameters])
        else:
            run([(parameter._grad.fill, 0) for parameter in parameters if parameter._grad is not None])

    def state_dict(self) -> dict[str, Any]:
        """Return {"state": {position: arrays}, "param_groups": [...]}, the format of torch.

        Parameters are identified by position. The arrays are the live ones, not copies.
        """
        self._run_hooks("state_dict_pre")
        positions: dict[Any, Any] = {p: i for i, (_, p) in enumerate(named_parameters(self.param_groups))}
        state = {
            "state": {positions.get(key, key): dict(kept) for key, kept in self.state.items() if kept},
            "param_groups": [
                {**group, "params": [positions[parameter] for parameter in group["params"]]}
                for group in self.param_groups
            ],
        }
        return self._run_hooks("state_dict_post", state)[0]

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load hyperparameters and a copy of the state from a `state_dict` (ours or PyTorch's).

        Hyperparameters that the state lacks, because an older version saved it, get the value that changes nothing.
        Raises OptimizerError listing every mismatch, also a hyperparameter that this optimizer lacks and that would
        change its steps, as torch does not; nothing is changed in that case.
        """
        (state_dict,) = self._run_hooks("load_pre", state_dict)
        run(self._steps_to_load(state_dict))
        self._run_hooks("load_post")

    def _steps_to_load(self, state_dict: Mapping[str, Any]) -> list[Step]:
        """Return the steps of `load_state_dict`: see commit/steps.py."""
        if not {"state", "param_groups"} <= state_dict.keys():
            raise OptimizerError(
                f"the state of an optimizer has the keys 'state' and 'param_groups'; this one has {[*state_dict]}."
            )
        groups, saved = [self._completed(group) for group in state_dict["param_groups"]], state_dict["state"]
        parameters = list(named_parameters(self.param_groups))
        problems = self._group_problems(groups) or self._state_problems(saved, parameters, groups)
        if problems:
            lines = "\n".join(f"  {problem}" for problem in problems)
            raise OptimizerError(f"the state does not fit this {type(self).__name__}; nothing was changed.\n{lines}")
        for group in groups:
            self._check(group)
        state = defaultdict(dict)
        for key, kept in saved.items():
            owner = parameters[key][1] if key in range(len(parameters)) else key
            state[owner] = {name: _copied(value) for name, value in kept.items() if value is not None}
        steps: list[Step] = [(object.__setattr__, self, "state", state)]
        for group, loaded in zip(self.param_groups, groups, strict=True):
            known = group.keys() | OF_SCHEDULES
            taken = {name: loaded[name] for name in loaded if name in known and name not in ("params", "param_names")}
            steps.append((group.update, taken))
        return steps

    def _completed(self, group: Mapping[str, Any]) -> dict[str, Any]:
        """Return a group of a state with the hyperparameters that older versions and other optimizers do not have."""
        missing = {name: self.defaults[name] if value is None else value for name, value in MISSING.items()
                   if name in self.defaults}  # fmt: skip
        return {**missing, **group, **self._always}

    def _step(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        """Update the parameters of one group in place. Each has a gradient, which must not be changed."""
        raise NotImplementedError(f"{type(self).__name__} has no step.")

    def _keeps(self, group: Mapping[str, Any]) -> Mapping[str, float] | None:
        """Return what is kept for each parameter, with the value it starts from, or None if that can be anything.

        "step" and "mu_product" are single numbers; everything else has the shape of the parameter.
        """
        return None

    def _is_own(self) -> bool:
        """Return True for an optimizer of this package, whose hyperparameters are known."""
        return type(self)._keeps is not Optimizer._keeps

    def _check(self, group: dict[str, Any]) -> None:
        """Raise OptimizerError if a hyperparameter of the group is out of range."""
        if not self._is_own():
            return
        for name in _NOT_NEGATIVE & group.keys():
            if not group[name] >= 0:
                raise OptimizerError(f"{type(self).__name__}: {name} must be at least 0, not {group[name]}.")
        if not all(0 <= beta < 1 for beta in group.get("betas", ())):
            raise OptimizerError(f"{type(self).__name__}: betas must be at least 0 and below 1, not {group['betas']}.")
        if group.get("differentiable"):
            raise OptimizerError(f"{type(self).__name__}: a step cannot be differentiated. Leave out differentiable.")

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
            missing = own.keys() - loaded.keys() - {"param_names"} - OF_SCHEDULES
            if missing:
                problems.append(f"group {i} has no {', '.join(sorted(missing))}: was it saved by another optimizer?")
            for name in sorted(loaded.keys() - own.keys() - {"param_names", "capturable"} - OF_SCHEDULES):
                if loaded[name] and name not in ("foreach", "fused"):  # these two only change the speed
                    problems.append(
                        f"group {i} has {name}={loaded[name]!r}, which this optimizer lacks: its steps would differ."
                    )
        return problems

    def _state_problems(
        self, saved: Mapping[Any, Any], parameters: list[tuple[str, Tensor]], groups: list[dict[str, Any]]
    ) -> list[str]:
        problems = []
        group_of = [group for own, group in zip(self.param_groups, groups, strict=True) for _ in own["params"]]
        for position, kept in saved.items():
            if position not in range(len(parameters)):
                if self._is_own():
                    problems.append(f"there is no parameter {position!r}.")
                continue
            name, parameter = parameters[position]
            keeps = self._keeps(group_of[position])
            arrays = {key: value for key, value in kept.items() if value is not None}
            if keeps is None or not arrays:
                continue
            if arrays.keys() != keeps.keys():
                problems.append(f"{name} has {sorted(arrays)}, the optimizer keeps {sorted(keeps)}.")
                continue
            for key in keeps:
                shape = () if key in NUMBERS else parameter.shape
                found = np.asarray(arrays[key])
                if found.shape != shape or (key not in NUMBERS and found.dtype != parameter.dtype):
                    wanted = "one number" if key in NUMBERS else f"{parameter.dtype} {shape}"
                    problems.append(f"{name}: {key} is {found.dtype} {found.shape}, not {wanted}.")
        return problems

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for i, group in enumerate(self.param_groups):
            options = [f"    {name}: {group[name]}" for name in sorted(group.keys() - {"params"})]
            lines += [f"Parameter Group {i}", *options]
        return "\n".join([*lines, ")"])

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_hooks": {}}  # as in torch, a copy has none


NUMBERS = {"step", "mu_product"}
NO_GRADIENT = "step() found no gradient in any parameter"
_NOT_NEGATIVE = {
    "alpha", "eps", "initial_accumulator_value", "lr", "lr_decay", "momentum", "momentum_decay", "rho", "weight_decay",
}  # fmt: skip


def _copied(value: Any) -> Any:
    """Return a copy of a value in a state, with arrays that also have the methods of tensors."""
    if isinstance(value, list):
        return [_copied(item) for item in value]
    return shown(np.asarray(value).copy()) if hasattr(value, "__array__") else copy.deepcopy(value)


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
