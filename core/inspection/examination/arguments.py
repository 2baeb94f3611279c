"""The arguments passed to every check."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ...nn.module.module import Module
from ...nn.module.parameter import Parameter
from ...optim.optimizer import Optimizer
from .step import ObservedRun, ObservedStep


@dataclass
class CheckArguments:
    """A model, its optimizers, and the observed step if one was taken."""

    model: Module
    optimizers: tuple[Optimizer, ...]
    step: ObservedStep | None

    @property
    def run(self) -> ObservedRun | None:
        """The first run of the step, or None if it did not finish."""
        return None if self.step is None else self.step.run

    def in_code(self, optimizer: Optimizer) -> str:
        """Return the expression for the optimizer in the user's code."""
        return "optimizer" if len(self.optimizers) == 1 else f"optimizers[{self.optimizers.index(optimizer)}]"

    @cached_property
    def parameters(self) -> dict[str, Parameter]:
        """The parameters by full name; tied ones under their first name."""
        return dict(self.model.named_parameters())

    @cached_property
    def replaced(self) -> set[int]:
        """The ids of the parameters that assignments or deletions removed from the model, and that still exist."""
        notes = (reference for m in self.model.modules() for noted in m._replaced.values() for reference in noted)
        return {id(parameter) for parameter in (reference() for reference in notes) if parameter is not None}

    @cached_property
    def names(self) -> dict[int, str]:
        """The full name of each parameter and buffer, by id."""
        tensors: list[tuple[str, Any]] = [*self.model.named_parameters(), *self.model.named_buffers()]
        return {id(tensor): name for name, tensor in tensors}
