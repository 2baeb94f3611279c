"""The optimizer, schedule and generators in a training file, and how they differ from the ones to load into."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ...errors import FormatError, StateError
from ...models.values import from_json, to_json
from ...reading.lazy import Checkpoint
from ...state.validation import EXTRA
from .generators import generator_states
from .optimizers import advancing, as_in, as_kept, has_steps, is_of_torch, joined, loader, parts_of

if TYPE_CHECKING:
    import numpy as np

    from ....core.optim.lr_scheduler import LRScheduler
    from ....core.optim.optimizer import Optimizer
    from ...mapping import Mapping as NameMapping


@dataclass(frozen=True)
class SavedTraining:
    """The content of a training file, except for the model.

    optimizer: {"class", "param_groups"}, with parameters by name. kept: the optimizer's state, parameter -> key ->
    value. schedule: {"class", "state"}, or empty. generators: states by name, in NumPy's form.
    """

    optimizer: dict[str, Any]
    kept: dict[str, dict[str, Any]]
    schedule: dict[str, Any]
    generators: dict[str, dict[str, Any]]
    progress: dict[str, Any]

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> SavedTraining:
        """Read an open checkpoint. Raises FormatError if it holds no training."""
        for name in (f"optimizer.{EXTRA}", f"progress.{EXTRA}"):
            if name not in checkpoint:
                raise FormatError(
                    f"{checkpoint.name} holds no training: {name} is missing. To load a model, use load_model."
                )
        try:
            optimizer = from_json(checkpoint[f"optimizer.{EXTRA}"])
            saved = cls(
                optimizer=optimizer,
                kept=_kept(checkpoint, optimizer.get("values", {})),
                schedule=from_json(checkpoint.get(f"schedule.{EXTRA}", {})),
                generators=dict(generator_states(checkpoint)),
                progress=from_json(checkpoint[f"progress.{EXTRA}"]),
            )
            saved._check()
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            if isinstance(error, FormatError):
                raise
            raise FormatError(
                f"{checkpoint.name} holds a training that is invalid: {error}. Use another copy of the file."
            ) from error
        return saved

    def _check(self) -> None:
        groups = self.optimizer["param_groups"]
        texts = [self.optimizer["class"], *(name for group in groups for name in group["params"])]
        if self.schedule:
            texts += [self.schedule["class"], *self.schedule["state"].keys()]
        if not all(isinstance(text, str) for text in texts) or not isinstance(self.progress, dict):
            raise TypeError("a name is not a string, or progress is not a dict")

    def mapped(self, mapping: NameMapping, checkpoint: Checkpoint) -> SavedTraining:
        """Return the same with the optimizer's state under the names that a mapping gives the parameters."""
        from ...mapping import rules_of
        from ...mapping.moments import mapped_optimizer
        from ...mapping.states import entries_of

        groups = self.optimizer["param_groups"]
        kept, members = mapped_optimizer(
            self.kept,
            [group["params"] for group in groups],
            rules_of(mapping),
            entries_of(checkpoint, "model."),
            checkpoint.name,
        )
        groups = [{**group, "params": params} for group, params in zip(groups, members, strict=True)]
        return replace(self, kept=kept, optimizer={**self.optimizer, "param_groups": groups})

    def matches(self, optimizer: Optimizer, names: list[str], allow: Collection[str]) -> list[int | None]:
        """Return the number that each parameter group of the optimizer has in the file, or None for a new group."""
        groups = self.optimizer["param_groups"]
        if "param_groups" not in allow:
            return list(range(len(groups)))
        numbers = {frozenset(group["params"]): number for number, group in enumerate(groups)}
        return [numbers.get(frozenset(members)) for members in _members(optimizer, names)]

    def optimizer_state(self, optimizer: Optimizer, names: list[str], allow: Collection[str]) -> dict[str, Any]:
        """Return the state for `optimizer.load_state_dict`. names: the names of its parameters, in its order."""
        position = {name: i for i, name in enumerate(names)}
        groups = []
        matches, members = self.matches(optimizer, names, allow), _members(optimizer, names)
        for own, number, params in zip(optimizer.param_groups, matches, members, strict=True):
            values = dict(_options(own))
            if number is not None:
                group = _completed(optimizer, self.optimizer["param_groups"][number])
                loaded = {key: as_in(own.get(key), value) for key, value in _options(group)}
                values = loaded | _only(values, _staying(optimizer, allow))
            groups.append({**values, "params": [position[name] for name in params]})
        kept = {
            position[name]: {key: as_kept(optimizer, value) for key, value in values.items()}
            for name, values in self.kept.items()
        }
        return {"state": dict(sorted(kept.items())), "param_groups": groups}

    def schedule_state(
        self, schedule: LRScheduler, optimizer: Optimizer, names: list[str], allow: Collection[str]
    ) -> dict[str, Any]:
        """Return the state for `schedule.load_state_dict`."""
        own, state = schedule.state_dict(), self.schedule["state"]
        loaded = {key: as_in(own.get(key), value) for key, value in state.items()}
        merged = loaded | _only(own, allow)
        if "base_lrs" in own and "lr" in allow:
            merged["base_lrs"] = own["base_lrs"]
        elif "base_lrs" in own and "param_groups" in allow:
            rates = zip(optimizer.param_groups, self.matches(optimizer, names, allow), strict=True)
            merged["base_lrs"] = [g["lr"] if number is None else state["base_lrs"][number] for g, number in rates]
        if merged != loaded and has_steps(schedule):
            merged.pop("_last_lr", None)  # so that the rates follow from the schedule
        return merged


def optimizer_problems(
    optimizer: Optimizer, names: list[str], saved: SavedTraining, allow: Collection[str], changing: tuple[str, ...]
) -> list[str]:
    """Return a line for each difference between the optimizer and the saved one.

    names: those of its parameters. changing: the hyperparameters that training changes.
    """
    kind, was = type(optimizer).__name__, saved.optimizer["class"]
    if kind != was:
        return [f"optimizer is {was} in the file, {kind} here"]
    own, groups = optimizer.param_groups, saved.optimizer["param_groups"]
    if len(own) != len(groups) and "param_groups" not in allow:
        return [f"optimizer has {_counted(len(groups))} in the file, {len(own)} here"]
    problems: list[str] = []
    matches = saved.matches(optimizer, names, allow)
    for i, (here, number, members) in enumerate(zip(own, matches, _members(optimizer, names), strict=True)):
        if number is not None:
            group, where = _completed(optimizer, groups[number]), f"optimizer.param_groups[{i}]"
            options = dict(_options(group)) | _only(dict(_options(here)), _staying(optimizer, allow))
            problems += _differences(where, options, dict(_options(here)), changing)
            problems += _membership(where, group["params"], members)
    for number in sorted(set(range(len(groups))) - set(matches)):
        members = ", ".join(groups[number]["params"])
        problems.append(f"optimizer has no group here that trains what group {number} in the file does: {members:.200}")
    foreign = saved.kept.keys() - set(names)
    problems += [f"optimizer has state of {name} in the file, but does not train it here" for name in foreign]
    if problems:
        return sorted(problems)
    try:
        _try(optimizer, saved.optimizer_state(optimizer, names, allow), [optimizer])
    except Exception as error:  # a user's own optimizer may raise anything
        return [f"optimizer: {line.strip()}" for line in str(error).splitlines()[1:] or [str(error)]]
    return []


def schedule_problems(
    schedule: LRScheduler | None, optimizer: Optimizer, names: list[str], saved: SavedTraining, allow: Collection[str]
) -> list[str]:
    """Return a line for each difference between the schedule and the saved one."""
    kind = "none" if schedule is None else type(schedule).__name__
    was = saved.schedule["class"] if saved.schedule else "none"
    if kind != was or schedule is None:
        return [] if kind == was else [f"schedule is {was} in the file, {kind} here"]
    try:
        state = saved.schedule_state(schedule, optimizer, names, allow)
        problems = _schedule_differences("schedule", state, schedule)
        if not problems:
            _try(schedule, state, [*parts_of(schedule), optimizer])
    except Exception as error:  # a user's own schedule may raise anything
        return [f"schedule: {error}"]
    return problems


def _schedule_differences(where: str, state: Mapping[str, Any], schedule: Any) -> list[str]:
    """Return a line for each difference between a schedule and a state, also in the schedules that it combines."""
    own = schedule.state_dict()
    if has_steps(schedule):  # what a file of an older version lacks, and what is left out for the rates to follow
        state = {**{key: own[key] for key in own if key.startswith("_") and key not in schedule.fixed}, **state}
    lines = _differences(where, state, own, advancing(schedule))
    for i, inner in enumerate(getattr(schedule, "_schedulers", ())[: len(state.get("_schedulers", ()))]):
        lines += _schedule_differences(f"{where}._schedulers[{i}]", state["_schedulers"][i], inner)
    return lines


def _try(thing: Any, state: dict[str, Any], keep: list[Any]) -> None:
    """Raise what the load of an optimizer or schedule would raise. Nothing is changed."""
    from ....core.commit.commit import rehearse

    if has_steps(thing):
        thing._steps_to_load(state)
    else:
        rehearse(loader(thing, state), keep)


def _counted(groups: int) -> str:
    return f"{groups} parameter group{'s' if groups != 1 else ''}"


def _members(optimizer: Optimizer, names: list[str]) -> list[list[str]]:
    """Return the names of the parameters in each group of the optimizer."""
    rest = iter(names)
    return [[next(rest) for _ in group["params"]] for group in optimizer.param_groups]


def _only(values: Mapping[str, Any], keys: Collection[str]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key in keys}


def _completed(optimizer: Any, group: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a group of a file with the options of core that did not exist when it was saved."""
    complete = getattr(optimizer, "_completed", None)
    return group if complete is None else complete(group)


def _staying(optimizer: Any, allow: Collection[str]) -> Collection[str]:
    """Return the options that keep their value. In core, base_lrs of the schedule already tells initial rates apart."""
    return allow if is_of_torch(optimizer) else {*allow, "initial_lr"}


def _options(group: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    return ((key, value) for key, value in group.items() if key not in ("params", "param_names"))


def _differences(where: str, saved: Mapping[str, Any], own: Mapping[str, Any], changing: Collection[str]) -> list[str]:
    """Return a line for each key that is only on one side, or whose values differ, unless training changes them."""
    lines = [f"{where} has {key} only in the file" for key in saved.keys() - own.keys()]
    lines += [f"{where} has no {key} in the file" for key in own.keys() - saved.keys()]
    for key in saved.keys() & own.keys() - set(changing):
        here = list(own[key]) if isinstance(own[key], tuple) else own[key]
        if saved[key] != here and not _is_same_json(saved[key], here):
            lines.append(f"{where} has {key} {saved[key]!r:.60} in the file, {here!r:.60} here")
    return sorted(lines)


def _is_same_json(saved: Any, own: Any) -> bool:
    """Return True if two values have the same JSON: then they are equal, even if they contain a NaN."""
    try:
        return to_json(saved, "") == to_json(own, "")
    except StateError:
        return False


def _membership(where: str, saved: list[str], own: list[str]) -> list[str]:
    lines = [f"{where} trains {name} in the file, not here" for name in saved if name not in own]
    return lines + [f"{where} trains {name} here, not in the file" for name in own if name not in saved]


def _kept(checkpoint: Checkpoint, others: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the optimizer's state: parameter -> key -> array, or another value.

    others: the values that are not arrays. Keys have no dots; names of parameters may have them.
    """
    arrays: dict[str, dict[str, np.ndarray]] = {}
    for name in checkpoint:
        part, _, rest = name.partition(".")
        key, _, parameter = rest.partition(".")
        if part == "optimizer" and key != EXTRA:
            arrays.setdefault(parameter, {})[key] = checkpoint[name][...]
    return {name: joined(arrays.get(name, {}), others.get(name, {})) for name in arrays | dict(others)}
