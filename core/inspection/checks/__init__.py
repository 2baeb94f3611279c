"""The doctor's checks, one file per family, in the order they run; see doctor.py.

A check is a function that takes CheckArguments and yields Findings. Read examination/report.py and
examination/step.py first: they define what a check yields and what it examines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ...errors import ModuleError
from ...nn.module.module import Module
from ...optim.optimizer import Optimizer
from ..examination.arguments import CheckArguments
from ..examination.report import Finding, Report
from ..examination.step import Observer
from . import (
    activations,
    axes,
    descent,
    gradients,
    initial,
    losses,
    modes,
    optimizers,
    shapes,
    stopped,
    ties,
    unregistered,
    values,
)

CHECKS: tuple[Callable[[CheckArguments], Iterator[Finding]], ...] = (
    unregistered.check,
    ties.check,
    values.check,
    optimizers.check,
    modes.check,
    initial.check,
    shapes.check,
    axes.check,
    losses.check,
    descent.check,
    stopped.check,
    gradients.check,
    activations.check,
)


def examine(
    model: Module, optimizer: Optimizer | Sequence[Optimizer] | None, batch: Any, loss: Callable[..., Any] | None
) -> Report:
    """Return the Report of `doctor`."""
    name = type(model).__name__
    try:
        list(model.modules())
    except ModuleError:
        # No other check can run on a model that cannot be traversed.
        return Report(name, tuple(unregistered.in_containers(model)), ("the tree",))
    optimizers = (optimizer,) if isinstance(optimizer, Optimizer) else tuple(optimizer or ())
    step = None if batch is None and loss is None else Observer(model, optimizers, batch, loss).step()
    given = CheckArguments(model, optimizers, step)
    findings = [finding for check in CHECKS for finding in check(given)]
    return Report(name, tuple(dict.fromkeys(findings)), tuple(_looked_at(given, loss)))


def _looked_at(given: CheckArguments, loss: Any) -> Iterator[str]:
    yield "the tree"
    if given.optimizers:
        yield "the optimizer" if len(given.optimizers) == 1 else "the optimizers"
    if given.step is not None:
        yield "a step" if loss is not None else "a forward pass"
