"""What a training checkpoint says of optimizer, schedule and generators, and how it differs from those at hand."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import FormatError
from ...reading.lazy import Checkpoint
from ...state.validation import EXTRA

if TYPE_CHECKING:
    from ....core.optim.lr_scheduler import Schedule
    from ....core.optim.optimizer import Optimizer


@dataclass(frozen=True)
class Saved:
    """All of a training checkpoint but the model.

    optimizer: {"class", "param_groups"}, the parameters by name. arrays: parameter -> what is kept of it. schedule:
    {"class", "state"}, empty if there is none. generators: states by name, as NumPy has them.
    """

    optimizer: dict[str, Any]
    arrays: dict[str, dict[str, np.ndarray]]
    schedule: dict[str, Any]
    generators: dict[str, dict[str, Any]]
    progress: dict[str, Any]

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> Saved:
        """Read an open checkpoint. Raises FormatError if it holds no training."""
        for name in (f"optimizer.{EXTRA}", f"progress.{EXTRA}"):
            if name not in checkpoint:
                raise FormatError(f"{checkpoint.name} holds no training: {name} is missing. For a model: load_model.")
        try:
            generators = dict(_generator_states(checkpoint))
            saved = cls(
                optimizer=checkpoint[f"optimizer.{EXTRA}"],
                arrays=_arrays(checkpoint),
                schedule=checkpoint.get(f"schedule.{EXTRA}", {}),
                generators=generators,
                progress=checkpoint[f"progress.{EXTRA}"],
            )
            saved._check()
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            if isinstance(error, FormatError):
                raise
            raise FormatError(f"{checkpoint.name} holds no training that makes sense: {error}") from error
        return saved

    def _check(self) -> None:
        groups = self.optimizer["param_groups"]
        texts = [self.optimizer["class"], *(name for group in groups for name in group["params"])]
        if self.schedule:
            texts += [self.schedule["class"], *self.schedule["state"].keys()]
        if not all(isinstance(text, str) for text in texts) or not isinstance(self.progress, dict):
            raise TypeError("a name that is no text, or a progress that is no dict")

    def optimizer_state(self, optimizer: Optimizer, names: list[str]) -> dict[str, Any]:
        """Return what optimizer.load_state_dict takes, given the names of its parameters in its order."""
        position = {name: i for i, name in enumerate(names)}
        groups = []
        for own, group in zip(optimizer.param_groups, self.optimizer["param_groups"], strict=True):
            values = {key: tuple(value) if isinstance(own[key], tuple) else value for key, value in _options(group)}
            groups.append({**values, "params": [position[name] for name in group["params"]]})
        arrays = sorted((position[name], arrays) for name, arrays in self.arrays.items())
        return {"state": dict(arrays), "param_groups": groups}


def optimizer_problems(optimizer: Optimizer, names: list[str], saved: Saved) -> list[str]:
    """Return a line for each difference between the optimizer and the saved one; names: of its parameters."""
    kind, was = type(optimizer).__name__, saved.optimizer["class"]
    if kind != was:
        return [f"optimizer is {was} in the file, {kind} here"]
    own, groups = optimizer.param_groups, saved.optimizer["param_groups"]
    if len(own) != len(groups):
        return [f"optimizer has {len(groups)} parameter groups in the file, {len(own)} here"]
    problems: list[str] = []
    rest = iter(names)
    for i, (here, group) in enumerate(zip(own, groups, strict=True)):
        where = f"optimizer.param_groups[{i}]"
        problems += _differences(where, dict(_options(group)), dict(_options(here)), changing=("lr",))
        problems += _membership(where, group["params"], [next(rest) for _ in here["params"]])
    foreign = saved.arrays.keys() - set(names)
    problems += [f"optimizer keeps state of {name} in the file, which it does not train here" for name in foreign]
    if problems:
        return sorted(problems)
    trial = copy.copy(optimizer)
    trial.param_groups = [dict(group) for group in own]
    try:
        trial.load_state_dict(saved.optimizer_state(optimizer, names))
    except Exception as error:  # of an optimizer of the user's, anything
        return [f"optimizer: {line.strip()}" for line in str(error).splitlines()[1:] or [str(error)]]
    return []


def schedule_problems(schedule: Schedule | None, saved: Saved) -> list[str]:
    """Return a line for each difference between the schedule and the saved one."""
    kind = "none" if schedule is None else type(schedule).__name__
    was = saved.schedule["class"] if saved.schedule else "none"
    if kind != was or schedule is None:
        return [] if kind == was else [f"schedule is {was} in the file, {kind} here"]
    own, state = schedule.state_dict(), saved.schedule["state"]
    problems = _differences("schedule", state, own, changing=schedule.advances)
    if problems:
        return problems
    trial = copy.copy(schedule)
    trial.optimizer = copy.copy(schedule.optimizer)
    trial.optimizer.param_groups = [dict(group) for group in schedule.optimizer.param_groups]
    try:
        trial.load_state_dict(state)
    except Exception as error:
        return [f"schedule: {error}"]
    return []


def generator_problems(own: Mapping[str, np.random.Generator], saved: Saved) -> list[str]:
    """Return a line for each generator that only one side has, or that is of another kind."""
    from ....core.random import get_rng_state, set_rng_state

    problems = [f"generators.{name} is in the file, but was not given" for name in saved.generators if name not in own]
    for name, generator in own.items():
        state = saved.generators.get(name)
        if state is None:
            problems.append(f"generators.{name} is missing from the file")
            continue
        kind, was = get_rng_state(generator)["bit_generator"], state.get("bit_generator")
        if kind != was:
            problems.append(f"generators.{name} is {was} in the file, {kind} here")
            continue
        try:
            set_rng_state(state, copy.deepcopy(generator))
        except ValueError as error:
            problems.append(f"generators.{name}: {error}")
    return problems


def _options(group: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    return ((key, value) for key, value in group.items() if key not in ("params", "param_names"))


def _differences(where: str, saved: Mapping[str, Any], own: Mapping[str, Any], changing: tuple[str, ...]) -> list[str]:
    """Return a line for each key that one side lacks, or whose values differ though training does not change them."""
    lines = [f"{where} has {key} only in the file" for key in saved.keys() - own.keys()]
    lines += [f"{where} has no {key} in the file" for key in own.keys() - saved.keys()]
    for key in saved.keys() & own.keys() - set(changing):
        here = list(own[key]) if isinstance(own[key], tuple) else own[key]
        if saved[key] != here:
            lines.append(f"{where} has {key} {saved[key]!r:.60} in the file, {here!r:.60} here")
    return sorted(lines)


def _membership(where: str, saved: list[str], own: list[str]) -> list[str]:
    lines = [f"{where} trains {name} in the file, not here" for name in saved if name not in own]
    return lines + [f"{where} trains {name} here, not in the file" for name in own if name not in saved]


def _arrays(checkpoint: Checkpoint) -> dict[str, dict[str, np.ndarray]]:
    """Return what the optimizer keeps: parameter -> key -> array. A key has no dot in it, a parameter's name may."""
    arrays: dict[str, dict[str, np.ndarray]] = {}
    for name in checkpoint:
        part, _, rest = name.partition(".")
        key, _, parameter = rest.partition(".")
        if part == "optimizer" and key != EXTRA:
            arrays.setdefault(parameter, {})[key] = checkpoint[name][...]
    return arrays


def _generator_states(checkpoint: Checkpoint) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give the name and the state of each generator, with its arrays where None stands for them."""

    def with_arrays(part: dict[str, Any], path: str) -> dict[str, Any]:
        whole = {}
        for key, value in part.items():
            if isinstance(value, dict):
                value = with_arrays(value, f"{path}.{key}")
            whole[key] = checkpoint[f"{path}.{key}"][...] if value is None else value
        return whole

    for name in checkpoint:
        stem = name.removesuffix(f".{EXTRA}")
        if stem != name and stem.startswith("generators."):
            yield stem.removeprefix("generators."), with_arrays(checkpoint[name], stem)
