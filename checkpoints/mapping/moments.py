"""The state of an optimizer under the names that rules give its parameters.

What has the shape of its parameter, such as a running mean of gradients, goes through the rules as the parameter does.
A number, such as a count of steps, is copied to every part of a parameter that is split, and has to be the same in all
parts that are put together.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import MappingError
from .application import Applied, applied
from .rules import Rule, State, is_tensor

Kept = Mapping[str, Mapping[str, Any]]


def mapped_optimizer(
    kept: Kept, groups: Sequence[Sequence[str]], rules: Sequence[Rule], entries: State, source: str
) -> tuple[dict[str, dict[str, Any]], list[list[str]]]:
    """Return the state of an optimizer by parameter and key, and the parameters in each group, after rules.

    kept, groups: the same before. entries: the tensors of the model in the file. source: its name, for messages.
    Raises MappingError if the state cannot follow the parameters.
    """
    result = applied(rules, entries, source)
    new: dict[str, dict[str, Any]] = {name: dict(kept[name]) for name in kept if name not in entries}
    for key in dict.fromkeys(key for values in kept.values() for key in values):
        values = {name: values[key] for name, values in kept.items() if key in values and name in entries}
        alike = {name: value for name, value in values.items() if _shape(value) == tuple(entries[name].shape)}
        others = {name: value for name, value in values.items() if name not in alike}
        for name, value in (*_followed(key, alike, rules, entries, result), *_copied(key, others, entries, result)):
            new.setdefault(name, {})[key] = value
    return new, _mapped_groups(groups, entries, result)


def _followed(
    key: str, values: Mapping[str, Any], rules: Sequence[Rule], entries: State, result: Applied
) -> Iterator[tuple[str, Any]]:
    """Yield the arrays of one key with the shapes of their parameters, changed as these are."""
    # The other tensors stand in for what has no state, so that the rules find the same names.
    state = applied(rules, {**entries, **values}, key, must_match=False).state
    for name in _complete(key, values, result):
        yield name, np.asarray(state[name]) if is_tensor(state[name]) else state[name]


def _copied(key: str, values: Mapping[str, Any], entries: State, result: Applied) -> Iterator[tuple[str, Any]]:
    """Yield the other values of one key under the new names of their parameters."""
    for name in _complete(key, values, result):
        first, *rest = [values[origin] for origin in result.origins[name].names]
        is_renamed = not rest and result.state[name] is entries[result.origins[name].names[0]]
        if (isinstance(first, list) or _shape(first)) and not is_renamed:
            shape = f"has the shape {_shape(first)}, not that of the parameter"
            what = "is a list of arrays" if isinstance(first, list) else shape
            raise MappingError(
                f"the optimizer's {key} for {name!r} {what}, so "
                "the rules that change the parameter cannot change it. Load only the model, with load_model."
            )
        if any(np.asarray(value).tobytes() != np.asarray(first).tobytes() for value in rest):
            raise MappingError(
                f"the optimizer's {key} differs between the parts that become {name!r}, which can have only one. Load "
                "only the model, with load_model."
            )
        yield name, copy.copy(first)  # PyTorch's optimizers count in the array that they are given


def _shape(value: Any) -> tuple[int, ...]:
    return getattr(value, "shape", ())


def _complete(key: str, values: Mapping[str, Any], result: Applied) -> Iterator[str]:
    """Yield the new names whose parts all have a value. Raises MappingError if only some have one."""
    for name, origin in result.origins.items():
        found = [before in values for before in origin.names]
        if any(found) and not all(found):
            lacking = origin.names[found.index(False)]
            raise MappingError(f"the optimizer has {key} for some parts of {name!r}, but not for {lacking!r}.")
        if any(found):
            yield name


def _mapped_groups(groups: Sequence[Sequence[str]], entries: State, result: Applied) -> list[list[str]]:
    made: dict[str, list[str]] = {name: [] for name in entries}
    for name, origin in result.origins.items():
        for before in origin.names:
            made[before].append(name)
    new = [list(dict.fromkeys(name for before in group for name in made.get(before, [before]))) for group in groups]
    owner: dict[str, int] = {}
    for number, group in enumerate(new):
        for name in group:
            if owner.setdefault(name, number) != number:
                raise MappingError(
                    f"the parts that become {name!r} are in groups {owner[name]} and {number} of the optimizer. Load "
                    "only the model, with load_model."
                )
    return new
