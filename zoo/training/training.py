"""Training: a recipe becomes a run, which can be stopped at any moment and goes on in the same bits.

docs/training.md says what holds, and what does not.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...checkpoints import inspect, load_model
from ...core import Module, init
from ...core.random import undisturbed_generator
from ..errors import RunError
from ..registry import build
from .recipe import Recipe
from .run.determinism import one_thread
from .run.loop import Hooks, Loop, Step, evaluate
from .run.run_folder import RUN, Made, Row, RunFolder, claimed, read_record, resume_command

__all__ = ["Made", "Run", "Step", "evaluate", "open_run", "train"]


@dataclass(frozen=True)
class Run:
    """A finished run: the recipe with the settings it ran with, the trained model in eval mode, a row an epoch."""

    folder: Path
    recipe: Recipe
    model: Module
    history: list[Row]
    made: Made


def train(
    recipe: Recipe,
    out: str | Path,
    report: Callable[[Row], None] | None = None,
    on_step: Callable[[Step], None] | None = None,
    *,
    resume: bool = False,
    save_every: int | None = None,
    format: str = "safetensors",
    should_stop: Callable[[], object] | None = None,
) -> Run:
    """Run a recipe to its end and keep it in the folder `out`.

    After every epoch the folder holds the weights and a history row: epoch, loss (the epoch's mean) and the recipe's
    metrics; report gets the row as well, and on_step each step. A model's initial values, its dropout and the order of
    its data all follow from recipe.seed; the default generator is left as it was.

    The state of the run is saved after every epoch and every save_every steps, and once more when should_stop(), asked
    after each step, is true; then StoppedError is raised, unless that step was the last one of all. resume: go on from
    there, wherever and however the run was stopped, to the same bytes as if it had not been; with no run in `out`,
    begin one; return one that has finished. format: of the checkpoints, "safetensors" or "hdf5"; a run that goes on
    keeps its own.

    Raises RunError if `out` holds a run and resume is False, or another run; and if the loss, a metric or a parameter
    is not finite, naming the first parameter that is not. WriteError, if the disk is full. The last state saved stays.
    """
    if save_every is not None and save_every < 1:
        raise RunError(f"save_every is a number of steps of at least 1, not {save_every}")
    data, out = recipe.data(), Path(out)
    with claimed(out, recipe, resume, format) as record:
        folder = RunFolder(out, record.format)
        if record.finished:
            folder.state.unlink(missing_ok=True)
            return open_run(out)
        # A run that diverges is stopped by its loss, which says more than NumPy's warnings on the way.
        with one_thread(), undisturbed_generator(), np.errstate(over="ignore", invalid="ignore"):
            loop = Loop(recipe, data, folder, Hooks(report, on_step, should_stop, save_every))
            loop.run()
        folder.state.unlink(missing_ok=True)
    return Run(out, recipe, loop.model.eval(), loop.at.history, loop.made())


def open_run(folder: str | Path) -> Run:
    """A finished run as `train` left it in a folder. Raises RunError if there is none, or it has not finished."""
    record, path = read_record(Path(folder)), Path(folder)
    if not record.finished or record.made is None:
        raise RunError(
            f"{folder} was stopped after epoch {len(record.history)} of {record.recipe.epochs}; "
            f"go on with: {resume_command(record.recipe, path)}"
        )
    checkpoint = RunFolder(path, record.format).checkpoint
    if inspect(checkpoint).fingerprint != record.fingerprint:
        raise RunError(
            f"{checkpoint} does not hold the weights that {path / RUN} describes; train anew into another folder"
        )
    with undisturbed_generator(), init.skip_init():
        model = build(record.recipe.architecture, dict(record.recipe.config))
    load_model(model, checkpoint)
    return Run(path, record.recipe, model.eval(), record.history, record.made)
