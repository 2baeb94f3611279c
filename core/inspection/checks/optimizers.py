"""The parameters of the optimizers, compared with those of the model."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import NamedTuple

import numpy as np

from ...autograd.tensor import Tensor
from ...optim.optimizer import Optimizer
from ...optim.param_groups import named_parameters
from ..examination.arguments import CheckArguments
from ..examination.report import Finding, in_code


class _Held(NamedTuple):
    name: str
    parameter: Tensor
    by: Optimizer


def check(given: CheckArguments) -> Iterator[Finding]:
    """Yield parameters that no optimizer holds, that are held twice, or that are no longer in the model."""
    if not given.optimizers:
        return
    held = [
        _Held(given.names.get(id(parameter), name), parameter, optimizer)
        for optimizer in given.optimizers
        for name, parameter in named_parameters(optimizer.param_groups)
    ]
    yield from _not_held(given, {id(each.parameter) for each in held})
    yield from _twice(given, held)
    yield from _lost(given, held)
    yield from _without_eps(given)


def _again(given: CheckArguments, optimizer: Optimizer, with_: str = "") -> str:
    """Return the code that creates the optimizer again."""
    parameters = "model.parameters()" if len(given.optimizers) == 1 else f"[...{with_}]"
    return f"{given.in_code(optimizer)} = {type(optimizer).__name__}({parameters}, ...)"


def _not_held(given: CheckArguments, held: set[int]) -> Iterator[Finding]:
    one = len(given.optimizers) == 1
    for name, parameter in given.parameters.items():
        stepped = parameter if parameter.base is None else parameter.base
        if parameter.requires_grad and id(stepped) not in held:
            holder = "the optimizer does not hold it" if one else "no optimizer holds it"
            again = _again(given, given.optimizers[0], f", {in_code(name)}")
            yield Finding(
                "optimizer",
                name,
                f"it requires a gradient, but {holder}: no step changes it",
                f"{again}, after the last change to the model; or, to freeze it, {in_code(name)}.requires_grad = False",
            )


def _twice(given: CheckArguments, held: list[_Held]) -> Iterator[Finding]:
    for one, two in combinations(held, 2):
        if one.parameter is two.parameter or np.shares_memory(one.parameter._data, two.parameter._data):
            same = "it" if one.parameter is two.parameter else f"the memory that it shares with {two.name}"
            if one.by is two.by:
                seen, without = f"the optimizer holds {same} twice: each step changes it twice", ""
            else:
                seen, without = f"two optimizers hold {same}: each of them changes it", ", without it"
            yield Finding("optimizer", one.name, seen, _again(given, two.by) + without)


def _lost(given: CheckArguments, held: list[_Held]) -> Iterator[Finding]:
    for name, parameter, optimizer in held:
        if id(parameter) not in given.names and id(parameter) in given.replaced:
            yield Finding(
                "optimizer",
                name,
                "the optimizer holds it, but it is no longer in the model: stepping it trains nothing",
                f"{_again(given, optimizer)}, after the last change to the model",
            )


def _without_eps(given: CheckArguments) -> Iterator[Finding]:
    """Yield for each optimizer the first parameter whose dtype rounds Adam's eps to 0."""
    for optimizer in given.optimizers:
        for group in optimizer.param_groups:
            eps = group.get("eps", 0)
            rounded = (p for p in group["params"] if eps and not np.array(eps, p.dtype))
            if (parameter := next(rounded, None)) is not None:
                yield Finding(
                    "optimizer",
                    given.names.get(id(parameter), f"a parameter {parameter.shape}"),
                    f"eps={eps} rounds to 0 in {parameter.dtype}: a gradient near 0 gives NaN or infinity",
                    f"{_again(given, optimizer)} with eps=1e-4, or train in float32: model.float()",
                )
                break
