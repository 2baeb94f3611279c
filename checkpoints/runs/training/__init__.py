"""A training's whole state in one checkpoint: to go on from it is to never have stopped.

    save_training(model, optimizer, "run.safetensors", schedule=schedule, generators={"order": order},
                  progress={"epoch": 3, "step": 1200, "position": 40, "best": 0.97, "history": rows})

    progress = load_training(model, optimizer, "run.safetensors", schedule=schedule, generators={"order": order})

Arrays are tensors: `model.<name>`, `optimizer.<what>.<name of the parameter>` such as `optimizer.exp_avg.fc.weight`,
and `generators.<name>.<what>`. All else is JSON, in the extra state of `optimizer`, `schedule`, `generators.<name>`
and `progress`. Nothing is pickled. The weights alone: `load_model(model, "run.safetensors", prefix="model.")`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from ... import files
from ...errors import ArgumentError, MismatchError, StateError
from ...files import open_checkpoint
from ...models import checked_model, plan_model
from ...state.validation import EXTRA
from .parts import Saved, generator_problems, optimizer_problems, schedule_problems

if TYPE_CHECKING:
    from ....core.nn.module.module import Module
    from ....core.optim.lr_scheduler import Schedule
    from ....core.optim.optimizer import Optimizer

Generators = Mapping[str, np.random.Generator]

_ADVICE = "Build model, optimizer, schedule and generators as they were when the training was saved."


def save_training(
    model: Module,
    optimizer: Optimizer,
    file: str | os.PathLike[str] | BinaryIO,
    *,
    schedule: Schedule | None = None,
    generators: Generators | None = None,
    progress: Mapping[str, Any] | None = None,
    metadata: Mapping[str, str] | None = None,
    durable: bool = True,
    format: str | None = None,
) -> None:
    """Write all that a training needs to go on in the same bits. Save between two steps: gradients are not kept.

    generators, progress: as for training_state. The other arguments, and the errors: as for save_file.
    """
    state = training_state(model, optimizer, schedule=schedule, generators=generators, progress=progress)
    files.save_file(state, file, metadata, durable=durable, format=format)


def training_state(
    model: Module,
    optimizer: Optimizer,
    *,
    schedule: Schedule | None = None,
    generators: Generators | None = None,
    progress: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return what save_training saves, by name, for save_file or a History. The arrays are the live ones.

    generators: those the training draws from, by name, such as that of the order of the data. The default generator and
    those that modules hold as attributes are kept in any case.
    progress: where the training stands, such as epoch, step, position within the epoch, best metric and history: None,
    bool, int, finite float, str, and lists and dicts of these.
    Raises StateError for what cannot be kept, and for a parameter of the optimizer that is not in the model;
    ArgumentError for a schedule of another optimizer, and for what is no numpy.random.Generator.
    """
    names = parameter_names(model, optimizer)
    _require_scheduled(optimizer, schedule)
    state = {f"model.{name}": value for name, value in model.state_dict().items()}
    kept = optimizer.state_dict()
    for position in sorted(kept["state"]):
        state |= _optimizer_state(names[position], kept["state"][position])
    groups = [_named_group(group, names) for group in kept["param_groups"]]
    optimizer_parts = {"class": type(optimizer).__name__, "param_groups": groups}
    state[f"optimizer.{EXTRA}"] = plain(optimizer_parts, "optimizer")
    if schedule is not None:
        parts = {"class": type(schedule).__name__, "state": schedule.state_dict()}
        state[f"schedule.{EXTRA}"] = plain(parts, "schedule")
    for name, generator in all_generators(model, generators or {}).items():
        state |= _generator_state(f"generators.{name}", generator)
    state[f"progress.{EXTRA}"] = _plain_progress(progress or {})
    return state


def load_training(
    model: Module,
    optimizer: Optimizer,
    file: Any,
    *,
    schedule: Schedule | None = None,
    generators: Generators | None = None,
    verify: bool = True,
) -> dict[str, Any]:
    """Return the progress in a file, after putting model, optimizer, schedule and generators into the state it holds.

    All must be as they were built for the training that was saved: the optimizer of the same class, with the same
    parameters in the same groups and the same hyperparameters (but lr, which is state), and so on. file, verify: as for
    load_file. generators: by the same names.
    Raises MismatchError with every difference, FormatError if the file holds no training, or what load_file raises;
    nothing has changed then.
    """
    from ....core.random import set_rng_state

    names = parameter_names(model, optimizer)
    _require_scheduled(optimizer, schedule)
    own = all_generators(model, generators or {})
    with open_checkpoint(file, verify=verify) as checkpoint:
        saved = Saved.of(checkpoint)
        problems, load_into_model = [], None
        try:
            load_into_model = plan_model(model, checkpoint, prefix="model.")
        except MismatchError as error:
            problems += [f"model.{problem}" for problem in error.problems]
    problems += optimizer_problems(optimizer, names, saved)
    problems += schedule_problems(schedule, saved)
    problems += generator_problems(own, saved)
    if load_into_model is None or problems:
        raise MismatchError(os.path.basename(checkpoint.name), "this training", problems, _ADVICE)
    load_into_model()  # first what may fail: code of the user's, in set_extra_state
    if schedule is not None:
        schedule.load_state_dict(saved.schedule["state"])
    optimizer.load_state_dict(saved.optimizer_state(optimizer, names))  # after it: the rates as they were
    for name, generator in own.items():
        set_rng_state(saved.generators[name], generator)
    return saved.progress


def parameter_names(model: Module, optimizer: Optimizer) -> list[str]:
    """Return the names in the model of the optimizer's parameters, in its order. Raises StateError if one has none."""
    known = {id(parameter): name for name, parameter in checked_model(model).named_parameters()}
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for position, parameter in enumerate(parameters):
        if id(parameter) not in known:
            raise StateError(
                f"parameter {position} of the optimizer, of shape {parameter.shape}, is not in the model. Give the "
                "model that the optimizer trains; if there are several, put them into one ModuleDict."
            )
    return [known[id(parameter)] for parameter in parameters]


def all_generators(model: Module, given: Generators) -> dict[str, np.random.Generator]:
    """Return every generator of a training once: the default one, those given, and those that modules hold."""
    from ....core.random import default_generator

    found = {"default": default_generator(), **given}
    if "default" in given:
        raise ArgumentError('the name "default" is that of the default generator, which is kept in any case.')
    for name, value in given.items():
        if not isinstance(name, str) or not isinstance(value, np.random.Generator):
            raise ArgumentError(
                f"generators are numpy.random.Generator by name, and {name!r} is a {type(value).__name__}. Draw from "
                "numpy.random.default_rng(seed)."
            )
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            if isinstance(value, np.random.Generator):
                found[".".join(filter(None, ("model", path, name)))] = value
    return {name: generator for name, generator in found.items() if not _earlier(name, generator, found)}


def _earlier(name: str, generator: np.random.Generator, found: Generators) -> bool:
    """Whether the same object stands under an earlier name."""
    return next(other for other, value in found.items() if value is generator) != name


def _require_scheduled(optimizer: Optimizer, schedule: Schedule | None) -> None:
    """Raise ArgumentError if a schedule changes the rates of another optimizer, or of none."""
    if schedule is not None and getattr(schedule, "optimizer", None) is not optimizer:
        raise ArgumentError(
            f"the {type(schedule).__name__} given is no schedule of this optimizer. Build it from the one that trains."
        )


def _optimizer_state(parameter: str, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is kept of a parameter by its names in the file, where the first dot ends what it is."""
    for key in arrays:
        if "." in key or key == EXTRA:
            raise StateError(f"the optimizer keeps {key!r} of {parameter}, a name that a file needs. Choose another.")
    return {f"optimizer.{key}.{parameter}": array for key, array in arrays.items()}


def _named_group(group: Mapping[str, Any], names: list[str]) -> dict[str, Any]:
    params = [names[position] for position in group["params"]]
    return {"params": params, **{key: value for key, value in group.items() if key not in ("params", "param_names")}}


def _generator_state(prefix: str, generator: np.random.Generator) -> dict[str, Any]:
    """Return the arrays in a generator's state as tensors, and the rest, with None in their places, as extra state."""
    from ....core.random import get_rng_state

    tensors: dict[str, Any] = {}

    def without_arrays(part: Mapping[str, Any], path: str) -> dict[str, Any]:
        rest = {}
        for key, value in part.items():
            if isinstance(value, np.ndarray):
                tensors[f"{path}.{key}"], value = value, None
            rest[key] = without_arrays(value, f"{path}.{key}") if isinstance(value, dict) else value
        return rest

    rest = without_arrays(get_rng_state(generator), prefix)
    return {**tensors, f"{prefix}.{EXTRA}": plain(rest, prefix)}


def _plain_progress(progress: Any) -> Any:
    if not isinstance(progress, Mapping):
        raise ArgumentError(f"progress is a dict, not {type(progress).__name__}.")
    try:
        return plain(progress, "progress")
    except RecursionError:
        raise StateError("progress is nested too deeply for a file, or holds itself. Give a flat dict.") from None


def plain(value: Any, where: str) -> Any:
    """Return value with lists for tuples. Raises StateError naming what JSON would not give back as it is."""
    if isinstance(value, Mapping) and all(type(key) is str for key in value):
        return {key: plain(item, f"{where}[{key!r}]") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, f"{where}[{position}]") for position, item in enumerate(value)]
    if value is None or type(value) in (bool, int, str) or (type(value) is float and math.isfinite(value)):
        return value
    raise StateError(
        f"{where} is {value!r:.60} ({type(value).__name__}), which a file cannot hold exactly. Use None, bool, int, a "
        "finite float, str, or a list or dict (by str) of these."
    )
