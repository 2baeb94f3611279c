"""Where a training stands, which its state keeps as progress."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from .run_folder import Row


@dataclass
class Standing:
    """Where a training stands: with model, optimizer, schedule and generators, all that its future depends on.

    epoch: the one that is under way, from 1. position: how many of its batches are done, when saved never all.
    loss_sum: over their examples. step: the batches done in all epochs. data: the SHA-256 of what it trains on.
    """

    data: str
    environment: dict[str, str]
    epoch: int = 1
    position: int = 0
    step: int = 0
    loss_sum: float = 0.0
    wall_time_s: float = 0.0
    history: list[Row] = field(default_factory=list)

    @classmethod
    def of(cls, progress: Mapping[str, Any], epochs: int, batches: int) -> "Standing":
        """Take over what was saved of a training of so many epochs of so many batches.

        Raises ValueError that says what cannot be so.
        """
        if progress.keys() != {one.name for one in fields(cls)}:
            raise ValueError(f"it says {', '.join(map(repr, progress))} of where it stands")
        at = cls(**progress)
        for name, kind in (("epoch", int), ("position", int), ("step", int), ("loss_sum", float)):
            if type(getattr(at, name)) is not kind:
                raise ValueError(f"{name} is {getattr(at, name)!r:.60}")
        if type(at.wall_time_s) is not float or not isinstance(at.history, list):
            raise ValueError("its time or history is none")
        if not isinstance(at.environment, dict) or not all(isinstance(text, str) for text in at.environment.values()):
            raise ValueError("its environment holds what is no text")
        if not (1 <= at.epoch <= epochs + 1 and 0 <= at.position < batches and at.step <= epochs * batches):
            raise ValueError(f"there is no batch {at.position} of epoch {at.epoch}")
        if at.step != (at.epoch - 1) * batches + at.position:
            raise ValueError(f"batch {at.position} of epoch {at.epoch} is not step {at.step}")
        if len(at.history) != at.epoch - 1 or not all(map(_is_row, at.history)):
            raise ValueError(f"its history is not that of {at.epoch - 1} epochs")
        return at


def _is_row(row: object) -> bool:
    return isinstance(row, dict) and all(type(value) in (int, float) for value in row.values())
