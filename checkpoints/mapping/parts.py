"""The rules that split tensors into several, and put several together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from ..errors import ArgumentError, MappingError
from ..state.deferred import Deferred
from .layouts import axis_of, check_ints, computed, unfit
from .patterns import expanded, families, matches, swapped
from .rules import Move, Rule, State, check_patterns, check_text, freeze_lists, is_tensor


@dataclass(frozen=True)
class Split(Rule):
    r"""Split tensors along an axis: Split(r"(.*)\.qkv", (r"\1.q", r"\1.k", r"\1.v")).

    to: the template of the name of each part. sizes: their lengths; None: all have the same.
    """

    pattern: str
    to: Sequence[str]
    axis: int = 0
    sizes: Sequence[int] | None = None

    def __post_init__(self) -> None:
        freeze_lists(self)
        check_patterns((self.pattern,), self.to)
        _check_sizes(self.sizes, len(self.to), self.axis)

    def moves(self, state: State) -> Iterator[Move]:
        """Yield a move for each tensor whose name matches."""
        for match in matches(self.pattern, state):
            if is_tensor(value := state[match.string]):
                axis = axis_of(self, match.string, value, self.axis)
                bounds = self._bounds(match.string, value, value.shape[axis])
                parts = tuple(expanded(match, template) for template in self.to)

                def change(values: Sequence[Any], axis: int = axis, bounds: list[slice] = bounds) -> list[Any]:
                    return [_part(values[0], axis, part) for part in bounds]

                yield Move((match.string,), parts, change)

    def _bounds(self, name: str, value: Any, length: int) -> list[slice]:
        sizes = self.sizes or (length // len(self.to),) * len(self.to)
        if sum(sizes) != length:
            into = "equal parts" if self.sizes is None else f"parts of {', '.join(map(str, sizes))}"
            raise unfit(self, name, value, f"has an axis of {length}, which does not split into {len(sizes)} {into}")
        ends = [sum(sizes[:number]) for number in range(len(sizes) + 1)]
        return [slice(start, end) for start, end in pairwise(ends)]

    def reversed(self) -> Concatenate:
        """Return the rule that puts the parts together. Raises MappingError if the names cannot be swapped."""
        swaps = [swapped(self.pattern, template) for template in self.to]
        wholes = {whole for _, whole in swaps}
        if len(wholes) > 1:
            raise MappingError(
                f"{self.pattern!r} cannot be reversed: the names of the parts order its groups differently."
            )
        return Concatenate(tuple(part for part, _ in swaps), wholes.pop(), self.axis, self.sizes)


@dataclass(frozen=True)
class Concatenate(Rule):
    r"""Concatenate tensors along an axis: Concatenate((r"(.*)\.q", r"(.*)\.k", r"(.*)\.v"), r"\1.qkv").

    patterns: those of the parts; parts whose groups are equal belong together. The result takes the place of the first.
    sizes: the lengths of the parts, needed to save if they are not all the same.
    """

    patterns: Sequence[str]
    to: str
    axis: int = 0
    sizes: Sequence[int] | None = None

    def __post_init__(self) -> None:
        freeze_lists(self)
        check_patterns(self.patterns, (self.to,))
        check_text(self.to, "a name")
        _check_sizes(self.sizes, len(self.patterns), self.axis)

    def moves(self, state: State) -> Iterator[Move]:
        """Yield a move for each family of tensors. Raises MappingError if one is incomplete or does not fit."""
        tensors = [name for name, value in state.items() if is_tensor(value)]
        for family in families(self.patterns, tensors).values():
            there = next(iter(family.values()))
            missing = [pattern for number, pattern in enumerate(self.patterns) if number not in family]
            if missing:
                raise MappingError(f"{self.summary}: {there.string!r} has no part that matches {missing[0]!r}.")
            names = tuple(family[number].string for number in range(len(self.patterns)))
            axis = self._checked_axis(names, [state[name] for name in names])

            def change(values: Sequence[Any], axis: int = axis) -> list[Any]:
                return [_joined(values, axis)]

            yield Move(names, (expanded(there, self.to),), change)

    def _checked_axis(self, names: tuple[str, ...], values: list[Any]) -> int:
        axis = axis_of(self, names[0], values[0], self.axis)
        kinds = {(value.dtype, len(value.shape), (*value.shape[:axis], *value.shape[axis + 1 :])) for value in values}
        if len(kinds) > 1:
            kinds_text = ", ".join(f"{name} {v.dtype} {v.shape}" for name, v in zip(names, values, strict=True))
            raise MappingError(f"{self.summary}: these do not fit together along axis {self.axis}: {kinds_text}.")
        sizes = tuple(value.shape[axis] for value in values)
        if self.sizes is not None and sizes != self.sizes:
            raise unfit(self, names[0], values[0], f"is part of a family of lengths {sizes}, not {self.sizes}")
        return axis

    def reversed(self) -> Split:
        """Return the rule that splits again. Raises MappingError if the names cannot be swapped."""
        swaps = [swapped(pattern, self.to) for pattern in self.patterns]
        wholes = {whole for whole, _ in swaps}
        if len(wholes) > 1:
            raise MappingError(f"{self.to!r} cannot be reversed: the patterns of the parts have different groups.")
        return Split(wholes.pop(), tuple(part for _, part in swaps), self.axis, self.sizes)


def _part(value: Any, axis: int, part: slice) -> Any:
    key = (slice(None),) * axis + (part,)
    if isinstance(value, np.ndarray):
        return value[key]
    shape = (*value.shape[:axis], part.stop - part.start, *value.shape[axis + 1 :])
    # A tensor of an open checkpoint reads only the part.
    return Deferred(shape, value.dtype, lambda: (value if hasattr(value, "__getitem__") else np.asarray(value))[key])


def _joined(values: Sequence[Any], axis: int) -> Deferred:
    first = values[0].shape
    shape = (*first[:axis], sum(value.shape[axis] for value in values), *first[axis + 1 :])
    return computed(lambda *arrays: np.concatenate(arrays, axis), values, shape, values[0].dtype)


def _check_sizes(sizes: Any, count: int, axis: Any) -> None:
    check_ints((axis,))
    if sizes is not None:
        check_ints(sizes)
        if len(sizes) != count or min(sizes) < 0:
            raise ArgumentError(f"sizes has a length for each of the {count} parts, not {sizes}.")
