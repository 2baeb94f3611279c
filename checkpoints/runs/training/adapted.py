"""Trainings whose optimizer has an adapter, as a model has: those of Keras and of flax.nnx.

The arrays of the optimizer are `optimizer.state.<name>`, with the names that its adapter gives them. Learning rates and
schedules are among them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from typing import Any

from ...errors import ArgumentError, MismatchError
from ...models import ModelLoad, find_adapter, plan_model, state_of
from ...models.values import to_json
from ...reading.lazy import Checkpoint
from ...state.validation import EXTRA
from .generators import add_generator, generator_problems
from .parts import SavedTraining

_STATE = "optimizer.state."
_ADVICE = (
    "Build model, optimizer and generators as they were when the training was saved, or name the hyperparameters that "
    'may differ, for example allow={"weight_decay"}.'
)
# The name counts optimizers, and a learning rate that is a number is in the state.
_NO_HYPERPARAMETERS = {"name", "learning_rate"}


def is_adapted(optimizer: Any) -> bool:
    """Return True for an optimizer that has an adapter."""
    adapter = find_adapter(optimizer)
    return adapter is not None and adapter.has_optimizers


def refuse(optimizer: Any, **given: Any) -> None:
    """Raise ArgumentError for an argument that such a training does not take."""
    for name, value in given.items():
        if value is not None:
            kind = type(optimizer).__name__
            raise ArgumentError(f"a training with the optimizer {kind} takes no {name}. Leave it out.")


def state_of_both(model: Any, optimizer: Any) -> dict[str, Any]:
    """Return the state of a model and of its optimizer."""
    parts = {"class": type(optimizer).__name__, "param_groups": [], "hyperparameters": _hyperparameters(optimizer)}
    state = {f"model.{name}": value for name, value in state_of(model).items()}
    state |= {f"{_STATE}{name}": value for name, value in state_of(optimizer).items()}
    return state | {f"optimizer.{EXTRA}": to_json(parts, "optimizer")}


def load(
    model: Any, optimizer: Any, checkpoint: Checkpoint, generators: Mapping[str, Any], allow: Collection[str]
) -> dict[str, Any]:
    """Load a training into model, optimizer and generators, and return its progress. See load_training."""
    saved = SavedTraining.of(checkpoint)
    hyperparameters = _hyperparameters(optimizer)
    if isinstance(allow, str) or not set(allow) <= hyperparameters.keys():
        known = ", ".join(sorted(hyperparameters)) or "none"
        raise ArgumentError(f"allow must be a set of hyperparameters ({known}), not {allow!r:.200}.")
    problems = _problems(optimizer, hyperparameters, saved, allow)
    loads: list[ModelLoad] = []
    for part, prefix in ((model, "model."), (optimizer, _STATE)):
        try:
            loads.append(plan_model(part, checkpoint, prefix=prefix))
        except MismatchError as error:
            problems += [f"{prefix}{problem}" for problem in error.problems]
    problems += generator_problems(generators, saved.generators)
    if problems:
        raise MismatchError(os.path.basename(checkpoint.name), "this training", problems, _ADVICE)
    first, second = loads
    first.commit.merge(second.commit)
    for name, generator in generators.items():
        add_generator(first.commit, generator, saved.generators[name])
    first.apply()
    return saved.progress


def _hyperparameters(optimizer: Any) -> dict[str, Any]:
    """Return the configuration of an optimizer of Keras, as far as JSON holds it."""
    config = optimizer.get_config() if hasattr(optimizer, "get_config") else {}
    return {
        name: json.loads(json.dumps(value))
        for name, value in config.items()
        if name not in _NO_HYPERPARAMETERS and isinstance(value, bool | int | float | str | None)
    }


def _problems(
    optimizer: Any, hyperparameters: Mapping[str, Any], saved: SavedTraining, allow: Collection[str]
) -> list[str]:
    kind, was = type(optimizer).__name__, saved.optimizer["class"]
    if kind != was:
        return [f"optimizer is {was} in the file, {kind} here"]
    before = saved.optimizer.get("hyperparameters", {})
    return [
        f"optimizer.{name} is {before[name]!r} in the file, {value!r} here"
        for name, value in hyperparameters.items()
        if name in before and before[name] != value and name not in allow
    ]
