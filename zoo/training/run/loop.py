"""The loop of a training, whose whole state between any two steps can be saved, and gone on from."""

import copy
import math
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import NamedTuple, NoReturn

import numpy as np

from ....checkpoints import load_training, save_training
from ....core import Module, manual_seed, no_grad
from ....core.optim import CosineAnnealingLR
from ...data import Split
from ...errors import RunError, StoppedError
from ...registry import build
from ..recipe import Recipe, batches
from .environment import environment, merged
from .progress import Standing
from .run_folder import Made, Row, RunFolder, resume_command
from .trajectories import keep_weights


class Step(NamedTuple):
    """A step of the optimizer: its number, counted from 1 through all epochs, of how many, and its batch's loss."""

    number: int
    total: int
    loss: float


class Hooks(NamedTuple):
    """What a caller wants to be told of a training, and to say to it; see `train`."""

    report: Callable[[Row], None] | None = None
    on_step: Callable[[Step], None] | None = None
    should_stop: Callable[[], object] | None = None
    save_every: int | None = None


class Loop:
    """A recipe's model, optimizer, schedule and generators, at work."""

    def __init__(self, recipe: Recipe, data: Split, folder: RunFolder, hooks: Hooks) -> None:
        self.recipe, self.data, self.folder, self.hooks = recipe, data, folder, hooks
        manual_seed(recipe.seed)
        self.model: Module = build(recipe.architecture, dict(recipe.config))
        self.optimizer = recipe.optimizer(self.model)
        self.schedule = CosineAnnealingLR(self.optimizer, T_max=recipe.epochs)
        # A stream of its own, so that a layer that draws more numbers does not change the order of the data. It stands
        # where the epoch under way began: from there a resumed epoch draws its order again.
        self.order = np.random.default_rng([recipe.seed, 1])
        self.at = Standing(data.sha256, environment())
        self.batches = -(-len(data.train_x) // recipe.batch_size)
        self.total = recipe.epochs * self.batches
        self._began, self._saved_step = time.monotonic(), 0

    def run(self) -> None:
        """Train from where the folder's state stands, or from the beginning, to the end."""
        if self.folder.state.exists():
            self._resume()
        elif self.recipe.keeps_trajectory:
            keep_weights(self.folder.path, self.model, 0)
        while self.at.epoch <= self.recipe.epochs:
            self._train_epoch()
            self._end_epoch()

    def made(self) -> Made:
        """How the weights came about, up to now."""
        return Made(self.at.environment, self.at.step, self.at.wall_time_s)

    def _train_epoch(self) -> None:
        """Train on the batches of the epoch under way that are still to come."""
        self.model.train()
        upcoming = copy.deepcopy(self.order)
        for batch in batches(len(self.data.train_x), self.recipe.batch_size, upcoming)[self.at.position :]:
            loss = self._step(batch)
            if self.hooks.on_step:
                self.hooks.on_step(Step(self.at.step, self.total, loss))
            if self.at.position < self.batches:  # after the last one, the epoch ends first
                self._save_if_wanted()
        self.order = upcoming

    def _step(self, batch: np.ndarray) -> float:
        """Take a step. Returns the loss before it, the mean of the batch's examples."""
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
        """Save every so many steps, and when the training is to stop."""
        stop = self._is_to_stop()
        if stop or (self.hooks.save_every and self.at.step % self.hooks.save_every == 0):
            self._save()
        if stop:
            self._stop()

    def _is_to_stop(self) -> bool:
        return bool(self.hooks.should_stop and self.hooks.should_stop())

    def _stop(self) -> NoReturn:
        raise StoppedError(
            f"{self.recipe.name} was stopped after step {self.at.step} of {self.total} "
            f"and saved; go on with: {resume_command(self.recipe, self.folder.path)}"
        )

    def _end_epoch(self) -> None:
        self.schedule.step()
        loss = self.at.loss_sum / len(self.data.train_x)
        row = {"epoch": self.at.epoch, "loss": loss, **evaluate(self.recipe, self.model, self.data)}
        for name, value in row.items():
            if not math.isfinite(value):
                self._refuse(f"{name} is {value} after epoch {self.at.epoch}")
        self.at.history.append(row)
        self.at.epoch, self.at.position, self.at.loss_sum = self.at.epoch + 1, 0, 0.0
        self._save()
        self._keep_epoch()
        if self.hooks.report:
            self.hooks.report(row)
        if self.at.epoch <= self.recipe.epochs and self._is_to_stop():
            self._stop()

    def _keep_epoch(self) -> None:
        """Keep the weights and the history after the epoch before the one under way."""
        if self.recipe.keeps_trajectory:
            keep_weights(self.folder.path, self.model, self.at.epoch - 1)
        self.folder.keep(self.recipe, self.model, self.at.history, self.made())

    def _save(self) -> None:
        """Save the whole state. First of all that is kept of an epoch: what a crash leaves out is made from it."""
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
            self.at = Standing.of(progress, self.recipe.epochs, self.batches)
        except ValueError as error:
            raise RunError(
                f"{self.folder.state} is not the state of this run: {error}. Remove it, and --resume begins anew"
            ) from error
        if self.at.data != self.data.sha256:
            raise RunError(
                f"{self.folder.path} was trained on other data: SHA-256 {self.at.data}, here {self.data.sha256}. "
                "Resume it with the versions and the files it began with"
            )
        self.at.environment = merged(self.at.environment, here)
        self._began, self._saved_step = time.monotonic() - self.at.wall_time_s, self.at.step
        if self.at.position == 0:
            self._keep_epoch()  # the crash may have come before it

    def _refuse(self, what: str) -> None:
        """Raise RunError saying what is not finite, and where it began."""
        kept = f"{self.folder.path} keeps step {self._saved_step}" if self._saved_step else "nothing was kept"
        raise RunError(
            f"{what}; {_first_not_finite(self.model)}; {kept}. Lower lr, or look at the loss and the data, and train "
            "into another folder"
        )


def evaluate(recipe: Recipe, model: Module, data: Split) -> dict[str, float]:
    """The recipe's metrics of a model, in eval mode and without a graph."""
    model.eval()
    with no_grad():
        return {name: float(value) for name, value in recipe.evaluate(model, data).items()}


def _first_not_finite(model: Module) -> str:
    """Say which parameter is the first that is not finite; if all are, whose gradient: one value spoils them all."""
    for name, parameter in model.named_parameters():
        if not np.isfinite(parameter.data).all():
            return f"{name} is the first parameter that is not finite"
    for name, parameter in model.named_parameters():
        if parameter.grad is not None and not np.isfinite(parameter.grad).all():
            return f"{name} is the first parameter whose gradient is not finite"
    return "all parameters and gradients are finite"
