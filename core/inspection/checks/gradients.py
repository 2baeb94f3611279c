"""Parameters whose gradient is missing, zero or NaN, or that the step did not change."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..examination.arguments import CheckArguments
from ..examination.report import Finding, in_code
from ..examination.step import ObservedStep, parameters_of

# A gradient this small relative to the parameter may change nothing: there is nothing left to learn.
_TINY = 1e-4


def check(given: CheckArguments) -> Iterator[Finding]:
    """Yield the parameters that a step does not train."""
    step = given.step
    if step is None or step.gradients is None:
        return
    idle = {id(p) for each in given.optimizers if each not in step.stepped for p in parameters_of(each)}
    loss_is_finite = step.run is not None and bool(np.isfinite(step.run.loss._data).all())
    for name, gradient in step.gradients.items():
        parameter = given.parameters[name]
        if parameter.base is not None or id(parameter) in idle:
            continue  # a view has its base's gradient; an optimizer that is not stepped has another loss
        if gradient is None:
            yield Finding(
                "gradient",
                name,
                "the loss does not depend on it: backward() computes no gradient for it",
                f"use it in forward(), without detach(), .data, item(), numpy() or no_grad() on the way to the loss; "
                f"or remove it: del {in_code(name.rpartition('.')[0] or name)}",
            )
        elif not np.isfinite(gradient).all():
            if loss_is_finite:
                yield _not_finite(name, gradient)
        elif gradient.size and not gradient.any():
            if _stays_zero(step, name):
                yield Finding(
                    "gradient",
                    name,
                    f"all {gradient.size} elements of its gradient are 0, even after a step: it never learns",
                    f"{_layer(name)}.reset_parameters() if all units of the layer are off or 0; otherwise look for a "
                    "relu, a clamp or a product with 0 between it and the loss",
                )
        else:
            yield from _unmoved(given, step, name, gradient)


def _layer(name: str) -> str:
    return in_code(name.rpartition(".")[0])


def _not_finite(name: str, gradient: np.ndarray) -> Finding:
    bad = int(np.count_nonzero(~np.isfinite(gradient)))
    return Finding(
        "gradient",
        name,
        f"{bad} of {gradient.size} elements of its gradient are NaN or infinite, though the loss is finite",
        "(x + 1e-12).sqrt() or x.clamp(min=1e-6) where forward() takes a root, a logarithm or a quotient at 0",
    )


def _stays_zero(step: ObservedStep, name: str) -> bool:
    """Return True if the gradient is still zero after a step: behind a weight that starts at 0, it is zero only once.

    Return False if the loss is 0, because then there is nothing to learn.
    """
    assert step.run is not None
    later = step.next_gradients.get(name)
    return step.run.loss._data.any() and (later is None or not later.any())


def _unmoved(given: CheckArguments, step: ObservedStep, name: str, gradient: np.ndarray) -> Iterator[Finding]:
    parameter = given.parameters[name]
    size = float(np.abs(gradient).max())
    if step.moved.get(name, True) or size < _TINY * max(1.0, float(np.abs(parameter._data).max())):
        return
    optimizer, at, lr = next(
        (each, at, group["lr"])
        for each in given.optimizers
        for at, group in enumerate(each.param_groups)
        if any(p is parameter for p in group["params"])
    )
    yield Finding(
        "update",
        name,
        f"its gradient reaches {size:.3g}, but the step changed no element: lr is {lr:g}",
        f'{given.in_code(optimizer)}.param_groups[{at}]["lr"] = 1e-3',
    )
