"""Broken ties between parameters: broken by an assignment, by a copy, or by new memory.

A module remembers the parameters that an assignment replaced, see Registry._replaced.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np

from ...nn.layers.embedding import Embedding
from ...nn.layers.linear import Linear
from ...nn.module.module import Module
from ...nn.module.parameter import Parameter
from ..examination.arguments import CheckArguments
from ..examination.report import Finding, in_code


def check(given: CheckArguments) -> Iterator[Finding]:
    """Yield broken ties and views, and copies that were meant to be ties."""
    yield from _replaced(given)
    yield from _views(given)
    yield from _copies(given)


def _replaced(given: CheckArguments) -> Iterator[Finding]:
    for path, module in given.model.named_modules():
        for name, former in _replaced_in(module):
            now, full = module._parameters.get(name), f"{path}.{name}" if path else name
            other = given.names.get(id(former))
            if now is not None and other is not None and not np.may_share_memory(now._data, former._data):
                yield Finding(
                    "tie",
                    full,
                    f"it was tied to {other} until an assignment replaced it with another parameter {now.shape}: the "
                    "two are trained separately",
                    f"{in_code(full)} = {_tie(other, former, now)}; or, to untie them on purpose, del {in_code(full)} "
                    "before the assignment",
                )


def _replaced_in(module: Module) -> Iterator[tuple[str, Parameter]]:
    """Yield the parameters that assignments to this module replaced, and that still exist, with their names."""
    for name, references in module._replaced.items():
        for reference in references:
            if (former := reference()) is not None:
                yield name, former


def _views(given: CheckArguments) -> Iterator[Finding]:
    for name, parameter in given.parameters.items():
        base = parameter.base
        if base is None:
            continue
        if parameter._data.size and not np.may_share_memory(base._data, parameter._data):
            yield Finding(
                "tie",
                name,
                f"it was a view of {given.names.get(id(base), 'another parameter')}, until .data of one of them was "
                "replaced: they no longer share memory",
                f"{in_code(name)}.data[...] = values, which writes in place; then tie them again",
            )
        elif id(base) not in given.names and id(base) in given.replaced:
            successor = _successor(given, base)
            yield Finding(
                "tie",
                name,
                f"it is a view of a parameter {base.shape} that is no longer in the model: an assignment replaced "
                "that parameter, and the two are separate",
                f"{in_code(name)} = {_tie(successor, base, parameter)}",
            )


def _successor(given: CheckArguments, base: Parameter) -> str:
    fitting = [name for name, p in given.parameters.items() if p.shape == base.shape and p.base is None]
    return fitting[0] if fitting else "..."


def _tie(other: str, former: Parameter, now: Parameter) -> str:
    """Return the expression that ties `now` to the parameter named `other`, or to its transpose."""
    if former.shape == now.shape:
        return in_code(other)
    transposed = now.shape == former.shape[::-1]
    return f"Parameter({in_code(other)}{'.T' if transposed else '[...]'})"


def _copies(given: CheckArguments) -> Iterator[Finding]:
    """Yield pairs of weights that are bitwise equal but not shared, across layer types or transposed shapes."""
    weights = [
        (name, module.weight, type(module))
        for name, module in given.model.named_modules()
        if isinstance(module, Linear | Embedding) and module.weight is not None and module.weight.requires_grad
    ]
    for (name, one, kind), (other, two, other_kind) in combinations(weights, 2):
        if one._data.size != two._data.size or np.shares_memory(one._data, two._data):
            continue
        if not one._data.size or (one._data == one._data.flat[0]).all():
            continue  # constant weights are equal without being copies
        same = kind is not other_kind and np.array_equal(one._data, two._data)
        if same or (one.shape == two.shape[::-1] and np.array_equal(one._data, two._data.T)):
            here = f"{other}.weight" if other else "weight"
            first = f"{name}.weight" if name else "weight"
            yield Finding(
                "tie",
                here,
                f"it has exactly the values of {first}{'' if same else ', transposed'}, but its own memory: it is a "
                "copy, and the two are trained separately",
                f"{in_code(here)} = {in_code(first) if same else f'Parameter({in_code(first)}.T)'}",
            )
