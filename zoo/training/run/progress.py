"""The progress of a training run, which its saved state holds."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from .run_folder import Row


@dataclass
class Progress:
    """The progress of a run. With model, optimizer, schedule and generators, it decides everything that follows.

    epoch: the current one, from 1. position: how many of its batches are done; never all of them in a saved state.
    loss_sum: the sum over their examples. step: the batches done in all epochs. data: the SHA-256 of the training data.
    first_epoch: the fingerprint of the weights after the first epoch.
    """

    data: str
    environment: dict[str, str]
    epoch: int = 1
    position: int = 0
    step: int = 0
    loss_sum: float = 0.0
    wall_time_s: float = 0.0
    first_epoch: str = ""
    history: list[Row] = field(default_factory=list)

    @classmethod
    def of(cls, progress: Mapping[str, Any], epochs: int, batches: int) -> "Progress":
        """Return the saved progress of a run with this many epochs of this many batches.

        Raises ValueError if the values contradict each other or the run.
        """
        if progress.keys() != {one.name for one in fields(cls)}:
            raise ValueError(f"its progress holds {', '.join(map(repr, progress))}")
        at = cls(**progress)
        for name, kind in (("epoch", int), ("position", int), ("step", int), ("loss_sum", float), ("first_epoch", str)):
            if type(getattr(at, name)) is not kind:
                raise ValueError(f"{name} is {getattr(at, name)!r:.60}")
        if type(at.wall_time_s) is not float or not isinstance(at.history, list):
            raise ValueError("its time or its history is invalid")
        if not isinstance(at.environment, dict) or not all(isinstance(text, str) for text in at.environment.values()):
            raise ValueError("its environment holds a value that is not text")
        if not (1 <= at.epoch <= epochs + 1 and 0 <= at.position < batches and at.step <= epochs * batches):
            raise ValueError(f"there is no batch {at.position} of epoch {at.epoch}")
        if at.step != (at.epoch - 1) * batches + at.position:
            raise ValueError(f"batch {at.position} of epoch {at.epoch} is not step {at.step}")
        if len(at.history) != at.epoch - 1 or not all(map(_is_row, at.history)):
            raise ValueError(f"its history does not have {at.epoch - 1} epochs")
        return at


def _is_row(row: object) -> bool:
    return isinstance(row, dict) and all(type(value) in (int, float) for value in row.values())
