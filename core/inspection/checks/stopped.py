"""The error that stopped the step, with a fix if the target names classes that the model does not have."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...autograd.tensor import Tensor
from ...nn.layers.linear import Linear
from ..examination.arguments import CheckArguments
from ..examination.report import Finding, in_code

_IGNORED = -100  # the class that cross_entropy ignores by default


def check(given: CheckArguments) -> Iterator[Finding]:
    """Yield the ModuleError that stopped the step."""
    if given.step is not None and given.step.error is not None:
        seen, _, fix = str(given.step.error).partition(". ")
        line = _for_classes(given) if seen.startswith("cross_entropy: class") else None
        yield Finding("step", type(given.model).__name__, seen, line or fix or "follow the error message")


def _for_classes(given: CheckArguments) -> str | None:
    assert given.step is not None
    output, target = given.run and given.run.output, np.asarray(given.step.target)
    if not isinstance(output, Tensor) or target.dtype.kind not in "iu":
        return None
    classes = output.shape[-1 if target.shape == output.shape[:-1] else 1]
    lowest, highest = int(target.min()), int(target.max())
    if lowest < 0 and lowest != _IGNORED:
        return f"loss = F.cross_entropy(output, target, ignore_index={lowest})"
    if lowest == 1 and highest == classes:
        return "target = target - 1"
    return _wider(given, classes, highest + 1)


def _wider(given: CheckArguments, classes: int, wanted: int) -> str | None:
    """Return the assignment of a last layer with the wanted number of classes, if a Linear computes the outputs."""
    for path, module in reversed(list(given.model.named_modules())):
        if isinstance(module, Linear) and module.out_features == classes:
            bias = "" if module.bias is not None else ", bias=False"
            return f"{in_code(path)} = Linear({module.in_features}, {wanted}{bias}), before the optimizer is created"
    return None
