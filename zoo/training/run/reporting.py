"""Reports of a training run: a bar on a terminal, a line per epoch elsewhere, and events for TensorBoard.

Each has the methods `step` and `epoch`, to pass to `train` as on_step and report.
"""

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ...extras import require

if TYPE_CHECKING:
    from .loop import TrainingStep

Row = Mapping[str, float]


class ProgressBar:
    """A bar on stderr with loss, metrics, rate and remaining time.

    If stderr is not a terminal, it is a line per epoch on stdout. epochs: those of the whole run.
    """

    def __init__(self, name: str, epochs: int):
        self._tqdm = require("tqdm", "tqdm").tqdm
        self._name, self._epochs, self._began = name, epochs, 0.0
        self._terminal = sys.stderr is not None and sys.stderr.isatty()
        self._bar: Any = None
        self._first = self._last = 0
        self._metrics: dict[str, str] = {}

    def step(self, step: "TrainingStep") -> None:
        """Move the bar."""
        if not self._first:
            # The clock starts here: neither loading data nor the steps of an earlier process count.
            self._first, self._began = step.number, time.monotonic()
        self._last = step.number
        if not self._terminal:
            return
        if self._bar is None:
            self._bar = self._tqdm(
                desc=self._name, total=step.total, initial=step.number - 1, unit="step", dynamic_ncols=True
            )
        self._bar.set_postfix({**self._metrics, "loss": f"{step.loss:.4g}"}, refresh=False)
        self._bar.update()

    def epoch(self, row: Row) -> None:
        """Show an epoch's metrics, in the bar or in a line."""
        shown = {name: f"{value:.4g}" for name, value in row.items()}
        self._metrics = {"epoch": f"{shown.pop('epoch')}/{self._epochs}", **shown}
        if self._bar is not None:
            self._bar.set_postfix(self._metrics, refresh=False)
        if not self._terminal:
            text = "  ".join(f"{name} {value}" for name, value in self._metrics.items())
            print(f"{text}  {self._pace(row['epoch'])}".rstrip(), flush=True)

    def _pace(self, epoch: float) -> str:
        """Return the rate and the remaining time, measured from the end of the first step; "" before that."""
        steps = self._last - self._first
        if not steps:
            return ""
        elapsed_s = time.monotonic() - self._began
        left_s = elapsed_s / steps * (self._last / epoch * self._epochs - self._last)
        return f"{steps / elapsed_s:.1f} steps/s  {self._tqdm.format_interval(left_s)} left"

    def __enter__(self) -> "ProgressBar":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.close()


class EventLog:
    """Events for TensorBoard in a folder: the loss of each step, and the loss and metrics of each epoch.

    Show them with `tensorboard --logdir FOLDER`. A run that resumes from an earlier step replaces the events after that
    step. Raises MissingExtraError if tensorboardX is not installed.
    """

    def __init__(self, folder: str | Path):
        self._tensorboard = require("tensorboardX", "tensorboardX", extra="tensorboard")
        self._folder, self._step = str(folder), 0
        self._writer: Any = None

    def step(self, step: "TrainingStep") -> None:
        """Log a step's loss as `step/loss`."""
        if self._writer is None:
            # The first step in the file's name keeps two files that are created in the same second in order.
            self._writer = self._tensorboard.SummaryWriter(
                self._folder, purge_step=step.number, filename_suffix=f".{step.number:010}"
            )
        self._step = step.number
        self._writer.add_scalar("step/loss", step.loss, step.number)

    def epoch(self, row: Row) -> None:
        """Log an epoch's loss and metrics, such as `epoch/accuracy`, at its last step."""
        for name, value in row.items():
            if name != "epoch":
                self._writer.add_scalar(f"epoch/{name}", value, self._step)
        self._writer.flush()

    def __enter__(self) -> "EventLog":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._writer is not None:
            self._writer.close()
