"""Training: a recipe becomes a run, which can be stopped at any moment and resumed to the same bytes.

docs/training.md says what is promised, and what is not.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...checkpoints import inspect, load_model
from ...core import Module, init
from ...core.random import undisturbed_generator
from ..errors import RunError, UnfinishedRunError
from ..registry import build
from .recipe import Recipe
from .run.determinism import one_thread
from .run.loop import Hooks, Loop, TrainingStep, evaluate
from .run.run_folder import RUN, Made, Row, RunFolder, claimed, read_record

__all__ = ["Made", "Run", "TrainingStep", "evaluate", "open_run", "train"]


@dataclass(frozen=True)
class Run:
    """A finished run: the recipe with its settings, the trained model in eval mode, and a history row per epoch."""

    folder: Path
    recipe: Recipe
    model: Module
    history: list[Row]
    made: Made


def train(
    recipe: Recipe,
    out: str | Path,
    report: Callable[[Row], None] | None = None,
    on_step: Callable[[TrainingStep], None] | None = None,
    *,
    resume: bool = False,
    save_every: int | None = None,
    format: str = "safetensors",
    should_stop: Callable[[], object] | None = None,
) -> Run:
    """Run a recipe to its end and keep the run in the folder `out`.

    After every epoch the folder holds the weights and a history row: epoch, loss (the epoch's mean) and the recipe's
    metrics. `report` receives each row, and `on_step` each step. The initial values of the model, its dropout and the
    order of its data all follow from recipe.seed; the default generator is left unchanged.

    The run trains in this process, on one thread. Its record says whether the process is pinned (run/determinism.py);
    only a pinned run gives the same bits on another processor.

    The state of the run is saved after every epoch and every save_every steps. should_stop() is called after each step:
    when it returns true, the state is saved and StoppedError is raised, unless that was the last step.
    resume: continue from the last saved state, however the run was stopped, to the same bytes as an uninterrupted run.
    If `out` holds no run, start one; if it holds a finished run, return it.
    format: the format of a new run's checkpoints, "safetensors" or "hdf5"; a resumed run keeps its own.

    Raises RunError if `out` holds a run and resume is False, or if it holds another run. Raises RunError if the loss, a
    metric or a parameter is not finite, naming the first such parameter. Raises WriteError if a file cannot be written.
    The last saved state is kept in each case.
    """
    if save_every is not None and save_every < 1:
        raise RunError(f"save_every must be at least 1 step, not {save_every}.")
    data, out = recipe.data(), Path(out)
    with claimed(out, recipe, resume, format) as record:
        folder = RunFolder(out, record.format)
        if record.finished:
            folder.state.unlink(missing_ok=True)
            return open_run(out)
        # A run that diverges is stopped by its loss, whose error says more than NumPy's warnings.
        with one_thread(), undisturbed_generator(), np.errstate(over="ignore", invalid="ignore"):
            loop = Loop(recipe, data, folder, Hooks(report, on_step, should_stop, save_every))
            loop.run()
        folder.state.unlink(missing_ok=True)
    return Run(out, recipe, loop.model.eval(), loop.at.history, loop.made())


def open_run(folder: str | Path) -> Run:
    """Return the finished run in a folder. Raises RunError if there is none, or if it is not finished."""
    record, path = read_record(Path(folder)), Path(folder)
    if not record.finished or record.made is None:
        problem = f"The run in {folder} is at epoch {len(record.history)} of {record.recipe.epochs}."
        raise UnfinishedRunError(problem, record.recipe.name, folder)
    checkpoint = RunFolder(path, record.format).checkpoint
    if inspect(checkpoint).fingerprint != record.fingerprint:
        raise RunError(
            f"{checkpoint} does not hold the weights that {path / RUN} describes. Train again into another folder."
        )
    with undisturbed_generator(), init.skip_init():
        model = build(record.recipe.architecture, dict(record.recipe.config))
    load_model(model, checkpoint)
    return Run(path, record.recipe, model.eval(), record.history, record.made)
