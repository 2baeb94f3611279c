"""Loading the full training state, all or nothing.

    progress = load_training(model, optimizer, "run.safetensors", schedule=schedule, generators={"order": order})

For the weights alone: `load_model(model, "run.safetensors", prefix="model.")`.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from ...errors import ArgumentError, MismatchError, enough_memory
from ...files import open_checkpoint
from ...models import plan_model
from . import adapted
from .generators import Generators, add_generator, all_generators, generator_problems
from .optimizers import has_steps, loader, parts_of, scheduled
from .parts import SavedTraining, optimizer_problems, schedule_problems
from .saving import parameter_names, require_scheduled

if TYPE_CHECKING:
    from ....core.commit.commit import Commit
    from ....core.nn.module.module import Module
    from ....core.optim.lr_scheduler import LRScheduler
    from ....core.optim.optimizer import Optimizer
    from ...mapping import Mapping

_ADVICE = (
    "Build model, optimizer, schedule and generators as they were when the training was saved, or name the "
    'hyperparameters that may differ, for example allow={"T_max"}.'
)


@enough_memory("the training was not loaded, and nothing is changed", "Free some memory.")
def load_training(
    model: Module,
    optimizer: Optimizer,
    file: Any,
    *,
    schedule: LRScheduler | None = None,
    generators: Generators | None = None,
    allow: Collection[str] = (),
    verify: bool = True,
    mapping: Mapping | None = None,
) -> dict[str, Any]:
    """Load a training into model, optimizer, schedule and generators. Return the progress it was saved with.

    All of them must be built as they were when the training was saved: the same class of optimizer, with the same
    parameters in the same groups, the same hyperparameters, and so on. The learning rate is state: it comes from the
    file. generators: by the same names. file, verify: as in `load_file`.
    mapping: rules that change the names and layouts of the model in the file, without "model." in front. What the
    optimizer keeps of a parameter follows it. See docs/mapping.md.
    allow: names of hyperparameters that may differ, such as {"lr", "weight_decay", "T_max"}. They keep the values they
    have here; with a schedule, the learning rates then follow from the schedule. "param_groups" allows groups that are
    not in the file: their parameters start without optimizer state.
    Raises MismatchError listing every difference, FormatError if the file holds no training, ArgumentError for an
    unknown name in `allow`, or what `load_file` raises. Nothing is changed in these cases, and an interrupt such as
    Ctrl-C leaves everything as it was or everything as in the file.
    """
    if adapted.is_adapted(optimizer):
        adapted.refuse(optimizer, schedule=schedule, mapping=mapping)
        with open_checkpoint(file, verify=verify) as checkpoint:
            return adapted.load(model, optimizer, checkpoint, all_generators(model, generators or {}), allow)
    names = parameter_names(model, optimizer)
    require_scheduled(optimizer, schedule)
    _check_allowed(allow, optimizer, schedule)
    own = all_generators(model, generators or {})
    with open_checkpoint(file, verify=verify) as checkpoint:
        saved = SavedTraining.of(checkpoint)
        if mapping is not None:
            saved = saved.mapped(mapping, checkpoint)
        problems, load = [], None
        try:
            load = plan_model(model, checkpoint, prefix="model.", mapping=mapping)
        except MismatchError as error:
            problems += [f"model.{problem}" for problem in error.problems]
        problems += optimizer_problems(optimizer, names, saved, allow, scheduled(schedule))
        problems += schedule_problems(schedule, optimizer, names, saved, allow)
        problems += generator_problems(own, saved.generators)
        if load is None or problems:
            raise MismatchError(os.path.basename(checkpoint.name), "this training", problems, _ADVICE)
        _add_optimizer(load.commit, optimizer, schedule, names, saved, allow)
        for name, generator in own.items():
            add_generator(load.commit, generator, saved.generators[name])
        load.apply()
    return saved.progress


def _add_optimizer(
    commit: Commit,
    optimizer: Optimizer,
    schedule: LRScheduler | None,
    names: list[str],
    saved: SavedTraining,
    allow: Collection[str],
) -> None:
    """Add the changes of the optimizer and of its schedule to a commit."""
    loads: list[tuple[Any, dict[str, Any]]] = [(optimizer, saved.optimizer_state(optimizer, names, allow))]
    if schedule is not None:
        state = saved.schedule_state(schedule, optimizer, names, allow)
        # The optimizer after its schedule: the rates as they were, even if set by hand. And then the schedule again, if
        # its rates are not those in the file.
        loads = [
            (schedule, state),
            *loads,
            *([(schedule, state)] if "lr" in allow or state != saved.schedule["state"] else []),
        ]
    is_prepared = all(has_steps(thing) for thing, _ in loads)
    for thing, state in loads:
        if is_prepared:
            commit.add(thing._steps_to_load(state))
        else:
            commit.call(loader(thing, state), keep=[optimizer, *parts_of(schedule)])


def _check_allowed(allow: Collection[str], optimizer: Optimizer, schedule: LRScheduler | None) -> None:
    known = {key for group in optimizer.param_groups for key in group} - {"params", "param_names"}
    known |= {"param_groups"} if schedule is None else {"param_groups", *schedule.state_dict()}
    known = {name for name in known if not name.startswith("_")}
    if isinstance(allow, str) or not isinstance(allow, Collection) or not set(allow) <= known:
        raise ArgumentError(
            f"allow must be a set of names from {', '.join(sorted(known))}, not {allow!r:.200}. Other differences "
            "cannot be allowed."
        )
