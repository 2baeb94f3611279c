"""Loading the full training state, all or nothing.

    progress = load_training(model, optimizer, "run.safetensors", schedule=schedule, generators={"order": order})

For the weights alone: `load_model(model, "run.safetensors", prefix="model.")`.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from ...errors import ArgumentError, MismatchError
from ...files import open_checkpoint
from ...models import plan_model
from .parts import SavedTraining, generator_problems, optimizer_problems, schedule_problems
from .saving import Generators, all_generators, parameter_names, require_scheduled

if TYPE_CHECKING:
    from ....core.nn.module.module import Module
    from ....core.optim.lr_scheduler import Schedule
    from ....core.optim.optimizer import Optimizer

_ADVICE = (
    "Build model, optimizer, schedule and generators as they were when the training was saved, or name the "
    'hyperparameters that may differ, for example allow={"T_max"}.'
)


def load_training(
    model: Module,
    optimizer: Optimizer,
    file: Any,
    *,
    schedule: Schedule | None = None,
    generators: Generators | None = None,
    allow: Collection[str] = (),
    verify: bool = True,
) -> dict[str, Any]:
    """Load a training into model, optimizer, schedule and generators. Return the progress it was saved with.

    All of them must be built as they were when the training was saved: the same class of optimizer, with the same
    parameters in the same groups, the same hyperparameters, and so on. The learning rate is state: it comes from the
    file. generators: by the same names. file, verify: as in `load_file`.
    allow: names of hyperparameters that may differ, such as {"lr", "weight_decay", "T_max"}. They keep the values they
    have here; with a schedule, the learning rates then follow from the schedule. "param_groups" allows groups that are
    not in the file: their parameters start without optimizer state.
    Raises MismatchError listing every difference, FormatError if the file holds no training, ArgumentError for an
    unknown name in `allow`, or what `load_file` raises. Nothing is changed in these cases.
    """
    from ....core.random import set_rng_state

    names = parameter_names(model, optimizer)
    require_scheduled(optimizer, schedule)
    _check_allowed(allow, optimizer, schedule)
    own = all_generators(model, generators or {})
    with open_checkpoint(file, verify=verify) as checkpoint:
        saved = SavedTraining.of(checkpoint)
        problems, load_into_model = [], None
        try:
            load_into_model = plan_model(model, checkpoint, prefix="model.")
        except MismatchError as error:
            problems += [f"model.{problem}" for problem in error.problems]
    problems += optimizer_problems(optimizer, names, saved, allow)
    problems += schedule_problems(schedule, optimizer, names, saved, allow)
    problems += generator_problems(own, saved)
    if load_into_model is None or problems:
        raise MismatchError(os.path.basename(checkpoint.name), "this training", problems, _ADVICE)
    load_into_model()  # first, as it can fail: it runs the user's set_extra_state
    state = saved.optimizer_state(optimizer, names, allow)
    if schedule is None:
        optimizer.load_state_dict(state)
    else:
        schedule_state = saved.schedule_state(schedule, optimizer, names, allow)
        schedule.load_state_dict(schedule_state)
        optimizer.load_state_dict(state)  # after the schedule: the rates as they were, even if set by hand
        if "lr" in allow or schedule_state != saved.schedule["state"]:
            schedule.load_state_dict(schedule_state)  # the rates of another schedule
    for name, generator in own.items():
        set_rng_state(saved.generators[name], generator)
    return saved.progress


def _check_allowed(allow: Collection[str], optimizer: Optimizer, schedule: Schedule | None) -> None:
    known = {key for group in optimizer.param_groups for key in group} - {"params", "param_names"}
    known |= {"param_groups"} if schedule is None else {"param_groups", *schedule.state_dict()}
    if isinstance(allow, str) or not isinstance(allow, Collection) or not set(allow) <= known:
        raise ArgumentError(
            f"allow must be a set of names from {', '.join(sorted(known))}, not {allow!r:.200}. Other differences "
            "cannot be allowed."
        )
