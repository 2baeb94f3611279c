"""Training: a recipe becomes a run, a folder with the weights after its last epoch and the history of all."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..checkpoints import durable, inspect, load_model, save_model
from ..core import Module, init, manual_seed, no_grad
from ..core.optim import CosineAnnealingLR, Optimizer
from ..core.random import undisturbed_generator
from .data import Split
from .determinism import one_thread
from .environment import environment
from .errors import RunError, UnknownNameError, ZooError
from .recipe import Recipe, batches, get_recipe
from .registry import build
from .trajectories import keep_weights

RUN = "run.json"
CHECKPOINT = "checkpoint.safetensors"

Row = dict[str, float]


class Step(NamedTuple):
    """A step of the optimizer: its number, counted from 1 through all epochs, of how many, and its batch's loss."""

    number: int
    total: int
    loss: float


@dataclass
class Made:
    """How the weights of a run came about: in which environment, in how many steps of the optimizer, in what time."""

    environment: dict[str, str]
    steps: int = 0
    wall_time_s: float = 0.0


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
) -> Run:
    """Run a recipe to its end and keep it in the folder `out`.

    After every epoch the folder holds the weights and a history row: epoch, loss (the epoch's mean) and the recipe's
    metrics; report gets the row as well, and on_step each step. A model's initial values, its dropout and the order of
    its data all follow from recipe.seed; the default generator is left as it was. Raises RunError if `out` already
    holds a run, or if the loss or a metric is not finite; the epoch before is then still kept.
    """
    data = recipe.data()
    out = Path(out)
    _claim(out, recipe)
    history: list[Row] = []
    began = time.monotonic()
    # A run that diverges is stopped by its loss, which says more than NumPy's warnings on the way.
    with one_thread(), undisturbed_generator(), np.errstate(over="ignore", invalid="ignore"):
        made = Made(environment())
        manual_seed(recipe.seed)
        model = build(recipe.architecture, dict(recipe.config))
        if recipe.keeps_trajectory:
            keep_weights(out, model, 0)
        optimizer = recipe.optimizer(model)
        schedule = CosineAnnealingLR(optimizer, T_max=recipe.epochs)
        # A stream of its own, so that a layer that draws more numbers does not change the order of the data.
        order = np.random.default_rng([recipe.seed, 1])
        total = recipe.epochs * -(-len(data.train_x) // recipe.batch_size)

        def count(loss: float) -> None:
            made.steps += 1
            if on_step:
                on_step(Step(made.steps, total, loss))

        for epoch in range(1, recipe.epochs + 1):
            loss = train_epoch(recipe, model, optimizer, data, order, count)
            schedule.step()
            row = {"epoch": epoch, "loss": loss, **evaluate(recipe, model, data)}
            _refuse_divergence(row, out)
            history.append(row)
            if recipe.keeps_trajectory:
                keep_weights(out, model, epoch)
            made.wall_time_s = round(time.monotonic() - began, 3)
            _keep(out, recipe, model, history, made)
            if report:
                report(row)
    return Run(out, recipe, model.eval(), history, made)


def train_epoch(
    recipe: Recipe,
    model: Module,
    optimizer: Optimizer,
    data: Split,
    order: np.random.Generator,
    on_step: Callable[[float], None],
) -> float:
    """One pass over the training data; the mean loss of its examples. on_step gets the loss of each batch."""
    model.train()
    total = 0.0
    for batch in batches(len(data.train_x), recipe.batch_size, order):
        optimizer.zero_grad()
        loss = recipe.loss(model, data.train_x[batch], data.train_y[batch])
        loss.backward()
        optimizer.step()
        total += loss.item() * len(batch)
        on_step(loss.item())
    return total / len(data.train_x)


def evaluate(recipe: Recipe, model: Module, data: Split) -> dict[str, float]:
    """The recipe's metrics of a model, in eval mode and without a graph."""
    model.eval()
    with no_grad():
        return {name: float(value) for name, value in recipe.evaluate(model, data).items()}


def open_run(folder: str | Path) -> Run:
    """A finished run as `train` left it in a folder. Raises RunError if there is none, or it has not finished."""
    path = Path(folder) / RUN
    try:
        record: dict[str, Any] = json.loads(path.read_bytes())
        recipe = get_recipe(record["recipe"]).with_settings(**record["settings"])
        history = [{name: float(value) for name, value in row.items()} for row in record["history"]]
        fingerprint = record["fingerprint"]
        made: dict[str, Any] = record["made"] or {"environment": {}}  # nothing, before the first epoch ended
    except (FileNotFoundError, NotADirectoryError):
        raise RunError(f"{folder} holds no run ({RUN} is missing); make one with scripts/train.py NAME") from None
    except UnknownNameError:
        raise
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError, ZooError) as error:
        raise RunError(f"{path} is not the record of a run: {error}") from error
    if len(history) != recipe.epochs:
        raise RunError(
            f"{folder} was stopped after epoch {len(history)} of {recipe.epochs}; train anew into another folder"
        )
    checkpoint = path.with_name(CHECKPOINT)
    if inspect(checkpoint).fingerprint != fingerprint:
        raise RunError(f"{checkpoint} does not hold the weights that {path} describes; train anew into another folder")
    with undisturbed_generator(), init.skip_init():
        model = build(recipe.architecture, dict(recipe.config))
    load_model(model, checkpoint)
    return Run(path.parent, recipe, model.eval(), history, Made(**made))


def _claim(out: Path, recipe: Recipe) -> None:
    """Make the folder this run's own, also against another process that does the same now."""
    out.mkdir(parents=True, exist_ok=True)
    try:
        with (out / RUN).open("x", encoding="utf-8") as file:
            file.write(_record(recipe, [], None, None))
    except FileExistsError:
        raise RunError(f"{out} already holds a run; name another folder with --out, or remove it") from None


def _keep(out: Path, recipe: Recipe, model: Module, history: list[Row], made: Made) -> None:
    save_model(model, out / CHECKPOINT)
    record = _record(recipe, history, inspect(out / CHECKPOINT).fingerprint, made)
    with durable.replace(str(out / RUN)) as descriptor:
        durable.write_all(descriptor, record.encode(), 0)


def _record(recipe: Recipe, history: list[Row], fingerprint: str | None, made: Made | None) -> str:
    record = {
        "recipe": recipe.name,
        "settings": recipe.settings,
        "fingerprint": fingerprint,
        "made": made and asdict(made),
        "history": history,
    }
    return json.dumps(record, indent=1) + "\n"


def _refuse_divergence(row: Row, out: Path) -> None:
    for name, value in row.items():
        if not np.isfinite(value):
            kept = f"{out} keeps the epoch before" if row["epoch"] > 1 else "no epoch was kept"
            raise RunError(f"{name} is {value} after epoch {row['epoch']:.0f}; {kept}. Lower lr.")
