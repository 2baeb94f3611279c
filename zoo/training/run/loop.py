"""The training loop. Its whole state can be saved between any two steps and resumed from there."""

import copy
import math
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import NamedTuple, NoReturn

import numpy as np

from ....checkpoints import fingerprint, load_training, save_training
from ....core import Module, manual_seed, no_grad
from ....core.optim import CosineAnnealingLR, keep_freed_memory
from ...data import Split
from ...errors import RunError, StoppedError
from ...registry import build
from ..recipe import Recipe, batches
from .environment import environment, merged
from .progress import Progress
from .run_folder import Made, Row, RunFolder
from .trajectories import keep_weights


class TrainingStep(NamedTuple):
    """One step of the optimizer: its number (from 1, through all epochs), the total, and the batch's loss."""

    number: int
    total: int
    loss: float


class Hooks(NamedTuple):
    """The callbacks of a training run, and how often it saves; see `train`."""

    report: Callable[[Row], None] | None = None
    on_step: Callable[[TrainingStep], None] | None = None
    should_stop: Callable[[], object] | None = None
    save_every: int | None = None


class Loop:
    """The model, optimizer, schedule and generators of a recipe, and the steps that train them."""

    def __init__(self, recipe: Recipe, data: Split, folder: RunFolder, hooks: Hooks) -> None:
        self.recipe, self.data, self.folder, self.hooks = recipe, data, folder, hooks
        manual_seed(recipe.seed)
        self.model: Module = build(recipe.architecture, dict(recipe.config))
        keep_freed_memory()
        self.optimizer = recipe.optimizer(self.model)
        self.schedule = CosineAnnealingLR(self.optimizer, T_max=recipe.epochs)
        # The order of the data has its own generator, so that a layer that draws more numbers does not change it. The
        # generator is kept as it was when the current epoch began: a resumed epoch draws its order again.
        self.order = np.random.default_rng([recipe.seed, 1])
        self.at = Progress(data.sha256, environment())
        self.batches = -(-len(data.train_x) // recipe.batch_size)
        self.total = recipe.epochs * self.batches
        self._began, self._saved_step = time.monotonic(), 0

    def run(self) -> None:
        """Train to the end, from the state in the folder or from the beginning."""
        if self.folder.state.exists():
            self._resume()
        elif self.recipe.keeps_trajectory:
            keep_weights(self.folder.path, self.model, 0)
        while self.at.epoch <= self.recipe.epochs:
            self._train_epoch()
            self._end_epoch()

    def made(self) -> Made:
        """Return how the current weights were made."""
        return Made(self.at.environment, self.at.step, self.at.wall_time_s, self.at.first_epoch)

    def _train_epoch(self) -> None:
        """Train on the remaining batches of the current epoch."""
        self.model.train()
        upcoming = copy.deepcopy(self.order)
        for batch in batches(len(self.data.train_x), self.recipe.batch_size, upcoming)[self.at.position :]:
            loss = self._step(batch)
            if self.hooks.on_step:
                self.hooks.on_step(TrainingStep(self.at.step, self.total, loss))
            if self.at.position < self.batches:  # after the last one, the epoch ends first
                self._save_if_wanted()
        self.order = upcoming

    def _step(self, batch: np.ndarray) -> float:
        """Take one step. Return the batch's mean loss before the step."""
        self.optimizer.zero_grad()
        loss = self.recipe.loss(self.model, self.data.train_x[batch], self.data.train_y[batch])
        loss.backward()
        value = loss.item()
        if not math.isfinite(value):
            self._refuse(f"the loss is {value} in step {self.at.step + 1}")
        self.optimizer.step()
        self.at.loss_sum += value * len(batch)
        self.at.position += 1
        self.at.step += 1
        return value

    def _save_if_wanted(self) -> None:
        """Save every `save_every` steps, and when training must stop."""
        stop = self._is_to_stop()
        if stop or (self.hooks.save_every and self.at.step % self.hooks.save_every == 0):
            self._save()
        if stop:
            self._stop()

    def _is_to_stop(self) -> bool:
        return bool(self.hooks.should_stop and self.hooks.should_stop())

    def _stop(self) -> NoReturn:
        raise StoppedError(
            f"{self.recipe.name} was stopped after step {self.at.step} of {self.total}, and its state was saved.",
            self.recipe.name,
            self.folder.path,
        )

    def _end_epoch(self) -> None:
        self.schedule.step()
        loss = self.at.loss_sum / len(self.data.train_x)
        row = {"epoch": self.at.epoch, "loss": loss, **evaluate(self.recipe, self.model, self.data)}
        for name, value in row.items():
            if not math.isfinite(value):
                self._refuse(f"{name} is {value} after epoch {self.at.epoch}")
        self.at.history.append(row)
        if self.at.epoch == 1:
            self.at.first_epoch = fingerprint(self.model.state_dict())
        self.at.epoch, self.at.position, self.at.loss_sum = self.at.epoch + 1, 0, 0.0
        self._save()
        self._keep_epoch()
        if self.hooks.report:
            self.hooks.report(row)
        if self.at.epoch <= self.recipe.epochs and self._is_to_stop():
            self._stop()

    def _keep_epoch(self) -> None:
        """Keep the weights and the history of the last finished epoch."""
        if self.recipe.keeps_trajectory:
            keep_weights(self.folder.path, self.model, self.at.epoch - 1)
        self.folder.keep(self.recipe, self.model, self.at.history, self.made())

    def _save(self) -> None:
        """Save the full state. This comes first: after a crash, everything else can be rebuilt from it."""
        if any(not np.isfinite(parameter.data).all() for parameter in self.model.parameters()):
            self._refuse(f"a parameter is not finite after step {self.at.step}")
        self.at.wall_time_s = round(time.monotonic() - self._began, 3)
        save_training(
            self.model,
            self.optimizer,
            self.folder.state,
            schedule=self.schedule,
            generators={"order": self.order},
            progress=asdict(self.at),
        )
        self._saved_step = self.at.step

    def _resume(self) -> None:
        progress = load_training(
            self.model,
            self.optimizer,
            self.folder.state,
            schedule=self.schedule,
            generators={"order": self.order},
        )
        here = self.at.environment
        try:
            self.at = Progress.of(progress, self.recipe.epochs, self.batches)
        except ValueError as error:
            raise RunError(
                f"{self.folder.state} is not the state of this run: {error}. Remove it to start the run over."
            ) from error
        if self.at.data != self.data.sha256:
            raise RunError(
                f"{self.folder.path} was trained on different data: SHA-256 {self.at.data}, here it is "
                f"{self.data.sha256}. Resume the run with the versions and files it was started with."
            )
        self.at.environment = merged(self.at.environment, here)
        self._began, self._saved_step = time.monotonic() - self.at.wall_time_s, self.at.step
        if self.at.position == 0:
            self._keep_epoch()  # the process may have died before it kept them

    def _refuse(self, what: str) -> None:
        """Raise RunError saying what is not finite, and naming the first such parameter."""
        kept = (
            f"{self.folder.path} holds the state after step {self._saved_step}"
            if self._saved_step
            else "nothing was saved"
        )
        raise RunError(
            f"{what}; {_first_not_finite(self.model)}; {kept}. Lower lr, or check the loss and the data, and train "
            "into another folder."
        )


def evaluate(recipe: Recipe, model: Module, data: Split) -> dict[str, float]:
    """Return the recipe's metrics of a model, in eval mode and without a graph."""
    model.eval()
    with no_grad():
        return {name: float(value) for name, value in recipe.evaluate(model, data).items()}


def _first_not_finite(model: Module) -> str:
    """Name the first parameter that is not finite, or the first whose gradient is not. One such value soon spreads."""
    for name, parameter in model.named_parameters():
        if not np.isfinite(parameter.data).all():
            return f"{name} is the first parameter that is not finite"
    for name, parameter in model.named_parameters():
        if parameter.grad is not None and not np.isfinite(parameter.grad).all():
            return f"{name} is the first parameter whose gradient is not finite"
    return "all parameters and gradients are finite"
