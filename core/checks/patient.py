"""What every check is given."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ..module import Module
from ..optimizer import Optimizer
from ..parameter import Parameter
from .step import Run, Step


@dataclass
class Patient:
    """A model, its optimizer if it has one, and what a step of it showed if one was taken."""

    model: Module
    optimizer: Optimizer | None
    step: Step | None

    @property
    def run(self) -> Run | None:
        """The first run of the step, if it came to its end."""
        return None if self.step is None else self.step.run

    @cached_property
    def parameters(self) -> dict[str, Parameter]:
        """The parameters by their full names, tied ones under the first."""
        return dict(self.model.named_parameters())

    @cached_property
    def names(self) -> dict[int, str]:
        """The full name of each parameter and buffer, by id."""
        tensors: list[tuple[str, Any]] = [*self.model.named_parameters(), *self.model.named_buffers()]
        return {id(tensor): name for name, tensor in tensors}
