"""Saving the full training state in one checkpoint.

    save_training(model, optimizer, "run.safetensors", schedule=schedule, generators={"order": order},
                  progress={"epoch": 3, "step": 1200, "position": 40, "best": 0.97, "history": rows})

Arrays become tensors: `model.<name>`, `optimizer.<what>.<name of the parameter>` such as `optimizer.exp_avg.fc.weight`,
and `generators.<name>.<what>`. Everything else is JSON (see values.py), in the extra state of `optimizer`, `schedule`,
`generators.<name>` and `progress`. Nothing is pickled.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, BinaryIO

from ... import files
from ...errors import ArgumentError, StateError
from ...models import state_of
from ...models.values import to_json
from ...state.validation import EXTRA, reading_names
from . import adapted
from .generators import Generators, all_generators, generator_state
from .optimizers import checked_optimizer, checked_trainee, split

if TYPE_CHECKING:
    from ....core.nn.module.module import Module
    from ....core.optim.lr_scheduler import LRScheduler
    from ....core.optim.optimizer import Optimizer


def save_training(
    model: Module,
    optimizer: Optimizer,
    file: str | os.PathLike[str] | BinaryIO,
    *,
    schedule: LRScheduler | None = None,
    generators: Generators | None = None,
    progress: Mapping[str, Any] | None = None,
    metadata: Mapping[str, str] | None = None,
    durable: bool = True,
    format: str | None = None,
    snapshot: bool = False,
) -> None:
    """Save everything that a training needs to continue bit for bit.

    Call it between two steps: gradients are not saved. generators, progress: as in `training_state`. For the other
    arguments and the errors, see `save_file`.
    """
    state = training_state(model, optimizer, schedule=schedule, generators=generators, progress=progress)
    files.save_file(state, file, metadata, durable=durable, format=format, snapshot=snapshot)


@reading_names()
def training_state(
    model: Module,
    optimizer: Optimizer,
    *,
    schedule: LRScheduler | None = None,
    generators: Generators | None = None,
    progress: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the state that `save_training` saves, by name, for `save_file` or a History. The arrays are the live ones.

    generators: the generators that the training draws from, by name, such as the one that shuffles the data. The
    default generator, and generators that modules hold as attributes, are always saved.
    progress: how far the training is, such as epoch, step, position in the epoch, best metric and history. It may
    hold None, bool, int, float (including infinities and NaN), str, NumPy scalars, and lists and dicts of these.
    Raises StateError for a value that cannot be saved, or for a parameter of the optimizer that is not in the model.
    Raises ArgumentError for a schedule of another optimizer, or a generator that is not a numpy.random.Generator.
    """
    if adapted.is_adapted(optimizer):
        adapted.refuse(optimizer, schedule=schedule)
        state = adapted.state_of_both(model, optimizer)
    else:
        state = _state_of_both(model, optimizer, schedule)
    for name, generator in all_generators(model, generators or {}).items():
        state |= generator_state(f"generators.{name}", generator)
    state[f"progress.{EXTRA}"] = _progress_json(progress or {})
    return state


def _state_of_both(model: Module, optimizer: Optimizer, schedule: LRScheduler | None) -> dict[str, Any]:
    """Return the state of a model, of its optimizer and of a schedule."""
    names = parameter_names(model, optimizer)
    require_scheduled(optimizer, schedule)
    state = {f"model.{name}": value for name, value in state_of(model).items()}
    kept = optimizer.state_dict()
    values: dict[str, Any] = {}
    for position in sorted(kept["state"]):
        arrays, others = split(kept["state"][position])
        state |= _optimizer_state(names[position], arrays)
        values |= {names[position]: others} if others else {}
    groups = [_named_group(group, names) for group in kept["param_groups"]]
    optimizer_parts = {"class": type(optimizer).__name__, "param_groups": groups}
    optimizer_parts |= {"values": values} if values else {}
    state[f"optimizer.{EXTRA}"] = to_json(optimizer_parts, "optimizer")
    if schedule is not None:
        parts = {"class": type(schedule).__name__, "state": schedule.state_dict()}
        state[f"schedule.{EXTRA}"] = to_json(parts, "schedule")
    return state


def parameter_names(model: Module, optimizer: Optimizer) -> list[str]:
    """Return the names in the model of the optimizer's parameters, in the optimizer's order.

    Raises StateError if a parameter is not in the model.
    """
    known = {id(parameter): name for name, parameter in checked_trainee(model).named_parameters()}
    parameters = [parameter for group in checked_optimizer(optimizer).param_groups for parameter in group["params"]]
    for position, parameter in enumerate(parameters):
        if id(parameter) not in known:
            raise StateError(
                f"parameter {position} of the optimizer, with shape {tuple(parameter.shape)}, is not in the model. "
                "Pass the model that the optimizer trains. If there are several, put them into one ModuleDict."
            )
    return [known[id(parameter)] for parameter in parameters]


def require_scheduled(optimizer: Optimizer, schedule: LRScheduler | None) -> None:
    """Raise ArgumentError if the schedule does not set the learning rates of this optimizer."""
    if schedule is not None and getattr(schedule, "optimizer", None) is not optimizer:
        raise ArgumentError(
            f"the {type(schedule).__name__} given does not belong to this optimizer. Build it from the one that trains."
        )


def _optimizer_state(parameter: str, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Return the optimizer's arrays for a parameter by name in the file, where the first dot ends the array's name."""
    for key in arrays:
        if "." in key or key == EXTRA:
            raise StateError(
                f"the optimizer's state of {parameter} has the name {key!r}, which a training file reserves. Use "
                "another name."
            )
    return {f"optimizer.{key}.{parameter}": array for key, array in arrays.items()}


def _named_group(group: Mapping[str, Any], names: list[str]) -> dict[str, Any]:
    params = [names[position] for position in group["params"]]
    return {"params": params, **{key: value for key, value in group.items() if key not in ("params", "param_names")}}


def _progress_json(progress: Any) -> Any:
    if not isinstance(progress, Mapping):
        raise ArgumentError(f"progress must be a dict, not {type(progress).__name__}.")
    try:
        return to_json(progress, "progress")
    except RecursionError:
        raise StateError("progress is nested too deeply, or contains itself. Use a flatter dict.") from None
