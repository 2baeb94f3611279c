"""What the optimizer holds, against what the model has."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np

from .. import ownership
from ..optimizer import Optimizer, named_parameters
from ..tensor import Tensor
from .patient import Patient
from .report import Finding, in_code


def check(patient: Patient) -> Iterator[Finding]:
    """Yield parameters that the optimizer lacks, holds twice, or holds although the model lost them."""
    if patient.optimizer is None:
        return
    held = list(named_parameters(patient.optimizer.param_groups))
    named = [(patient.names.get(id(parameter), name), parameter) for name, parameter in held]
    again = f"optimizer = {type(patient.optimizer).__name__}(model.parameters(), ...)"
    yield from _lacking(patient, {id(parameter) for _, parameter in held}, again)
    yield from _twice(named, again)
    yield from _lost(patient.optimizer, patient, named, again)


def _lacking(patient: Patient, held: set[int], again: str) -> Iterator[Finding]:
    for name, parameter in patient.parameters.items():
        steered = parameter if parameter.base is None else parameter.base
        if parameter.requires_grad and id(steered) not in held:
            yield Finding(
                "optimizer",
                name,
                "it requires a gradient, but the optimizer does not hold it: no step changes it",
                f"{again}, after the last change to the model; or, if it is to stay, "
                f"{in_code(name)}.requires_grad = False",
            )


def _twice(named: list[tuple[str, Tensor]], again: str) -> Iterator[Finding]:
    for (name, one), (other, two) in combinations(named, 2):
        if one is two or np.shares_memory(one.data, two.data):
            same = "it" if one is two else f"the memory that it shares with {other}"
            yield Finding("optimizer", name, f"the optimizer holds {same} twice: each step changes it twice", again)


def _lost(optimizer: Optimizer, patient: Patient, named: list[tuple[str, Tensor]], again: str) -> Iterator[Finding]:
    for name, parameter in named:
        if id(parameter) not in patient.names and not ownership.still_owned(parameter, optimizer._roots[parameter]):
            yield Finding(
                "optimizer",
                name,
                "the optimizer holds it, but the model does so no longer: stepping it trains nothing",
                f"{again}, after the last change to the model",
            )
