"""Rules: what a mapping is made of, and the rules that change names.

A rule looks at a state (values by name: arrays, deferred arrays, and values of other types) and returns moves. It reads
no tensor. Every rule has a reversed rule, or raises MappingError that says why it has none.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np

from ..errors import ArgumentError, MappingError
from ..state.deferred import Deferred
from .patterns import check_template, compiled, expanded, families, matches, swapped

State = Mapping[str, Any]


class Move(NamedTuple):
    """Names that a rule takes from a state, and the names that replace them, at the place of the first one taken.

    change: returns the values of the new names, given those of the names taken. None: they are the same values.
    """

    taken: tuple[str, ...]
    given: tuple[str, ...]
    change: Callable[[Sequence[Any]], Sequence[Any]] | None = None


class Rule(ABC):
    """One step of a mapping from the names of a file to those of a model."""

    @abstractmethod
    def moves(self, state: State) -> Iterator[Move]:
        """Yield what the rule does to a state. Nothing is yielded for names that the rule does not match."""

    @abstractmethod
    def reversed(self) -> Rule:
        """Return the rule that undoes this one. Raises MappingError if there is none."""

    @property
    def summary(self) -> str:
        """What the rule does, in one or two words, for tables."""
        return type(self).__name__.lower()


def is_tensor(value: Any) -> bool:
    """Return True for an array or a deferred array."""
    return isinstance(value, np.ndarray | Deferred)


def freeze_lists(rule: Rule) -> None:
    """Replace the lists among the fields of a rule by tuples, as it cannot change and may be compared."""
    for entry in fields(rule):  # type: ignore[arg-type]
        if isinstance(value := getattr(rule, entry.name), list):
            object.__setattr__(rule, entry.name, tuple(value))


def check_text(value: Any, what: str) -> None:
    """Raise ArgumentError if a value is not text."""
    if not isinstance(value, str):
        raise ArgumentError(f"{what} is text, not {type(value).__name__} ({value!r:.60}).")


def check_patterns(patterns: Any, templates: Any) -> None:
    """Raise ArgumentError unless these are tuples of patterns and of templates for each of them."""
    for texts in (patterns, templates):
        if not isinstance(texts, tuple) or not texts:
            raise ArgumentError(f"several patterns or names are a list of text, not {texts!r:.60}.")
    for pattern in patterns:
        for template in templates:
            check_text(template, "a name")
            check_template(template, pattern)


@dataclass(frozen=True)
class Rename(Rule):
    """Rename exactly one name."""

    name: str
    to: str

    def __post_init__(self) -> None:
        check_text(self.name, "the name to rename")
        check_text(self.to, "the new name")

    def moves(self, state: State) -> Iterator[Move]:
        """Yield the new name, if the old one is there."""
        if self.name in state:
            yield Move((self.name,), (self.to,))

    def reversed(self) -> Rename:
        """Return the rule for the opposite direction."""
        return Rename(self.to, self.name)


@dataclass(frozen=True)
class Rewrite(Rule):
    r"""Rename all names that match a regular expression as a whole: Rewrite(r"(.*)\.gamma", r"\1.weight").

    pattern, to: see patterns.py. Both may also be tuples of the same length: then names are renamed only if there is a
    name for each pattern with the same groups.
    """

    pattern: str | Sequence[str]
    to: str | Sequence[str]

    def __post_init__(self) -> None:
        freeze_lists(self)
        patterns, templates = self._pairs()
        if len(patterns) != len(templates):
            raise ArgumentError(f"{len(patterns)} patterns need as many names, not {len(templates)}.")
        for pattern, template in zip(patterns, templates, strict=True):
            check_patterns((pattern,), (template,))

    def moves(self, state: State) -> Iterator[Move]:
        """Yield a move for each name that matches."""
        patterns, templates = self._pairs()
        if len(patterns) == 1:
            for match in matches(patterns[0], state):
                yield Move((match.string,), (expanded(match, templates[0]),))
            return
        for family in families(patterns, list(state)).values():
            if len(family) == len(patterns):
                for number, template in enumerate(templates):
                    yield Move((family[number].string,), (expanded(family[number], template),))

    def reversed(self) -> Rewrite:
        """Return the rule for the opposite direction. Raises MappingError if there is none."""
        patterns, templates = zip(*map(swapped, *self._pairs()), strict=True)
        return Rewrite(patterns, templates) if isinstance(self.pattern, tuple) else Rewrite(patterns[0], templates[0])

    @property
    def summary(self) -> str:
        """What the rule does."""
        return "rename"

    def _pairs(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        both = (self.pattern, self.to)
        return tuple(value if isinstance(value, tuple) else (value,) for value in both)  # type: ignore[return-value]


@dataclass(frozen=True)
class StripPrefix(Rule):
    """Remove a prefix from all names that start with it. Other names stay."""

    prefix: str

    def __post_init__(self) -> None:
        check_text(self.prefix, "a prefix")

    def moves(self, state: State) -> Iterator[Move]:
        """Yield a move for each name with the prefix."""
        return (Move((name,), (name.removeprefix(self.prefix),)) for name in state if name.startswith(self.prefix))

    def reversed(self) -> AddPrefix:
        """Return the rule for the opposite direction, which is exact if all names have the prefix."""
        return AddPrefix(self.prefix)

    @property
    def summary(self) -> str:
        """What the rule does."""
        return f"strip {self.prefix}"


@dataclass(frozen=True)
class AddPrefix(Rule):
    """Put a prefix in front of every name."""

    prefix: str

    def __post_init__(self) -> None:
        check_text(self.prefix, "a prefix")

    def moves(self, state: State) -> Iterator[Move]:
        """Yield a move for each name."""
        return (Move((name,), (self.prefix + name,)) for name in state)

    def reversed(self) -> StripPrefix:
        """Return the rule for the opposite direction."""
        return StripPrefix(self.prefix)

    @property
    def summary(self) -> str:
        """What the rule does."""
        return f"add {self.prefix}"


@dataclass(frozen=True)
class Ignore(Rule):
    """Leave out all names that match a regular expression as a whole. reason: why, for the table of a dry run."""

    pattern: str
    reason: str

    def __post_init__(self) -> None:
        compiled(self.pattern)
        check_text(self.reason, "the reason to ignore names")

    def moves(self, state: State) -> Iterator[Move]:
        """Yield a move to nowhere for each name that matches."""
        return (Move((match.string,), ()) for match in matches(self.pattern, state))

    def reversed(self) -> Rule:
        """Raise MappingError: what is left out cannot be written."""
        raise MappingError(
            f"Ignore({self.pattern!r}) cannot be reversed: the values that it leaves out are not in the state. Save "
            "with the other rules."
        )


@dataclass(frozen=True)
class Fill(Rule):
    """Add a name that a file does not have: for each tensor whose name matches, a 0-d tensor after it.

    pattern, to: see patterns.py. value, dtype: those of the tensor. In the opposite direction the name is left out.
    """

    pattern: str
    to: str
    value: float
    dtype: str

    def __post_init__(self) -> None:
        check_patterns((self.pattern,), (self.to,))
        dtype = dtype_of(self.dtype)
        try:
            np.array(self.value, dtype)
        except (TypeError, ValueError, OverflowError) as error:
            raise ArgumentError(f"{self.value!r:.60} is no value of the dtype {self.dtype}.") from error

    def moves(self, state: State) -> Iterator[Move]:
        """Yield a move for each name that matches. Ties of the matching names become ties of the new ones."""

        def change(values: Sequence[Any]) -> Sequence[Any]:
            return values[0], np.array(self.value, dtype_of(self.dtype))

        for match in matches(self.pattern, state):
            if is_tensor(state[match.string]) and (name := expanded(match, self.to)) not in state:
                yield Move((match.string,), (match.string, name), change)

    def reversed(self) -> Rule:
        """Return the rule that leaves the names out again."""
        return _Unfill(self)


@dataclass(frozen=True)
class _Unfill(Rule):
    fill: Fill

    def moves(self, state: State) -> Iterator[Move]:
        for match in matches(self.fill.pattern, state):
            if (name := expanded(match, self.fill.to)) in state:
                yield Move((name,), ())

    def reversed(self) -> Rule:
        return self.fill


@dataclass(frozen=True)
class Preset(Rule):
    """Rules that belong together. Each of them may match nothing, but not all.

    back: the rules for the opposite direction; None: the reversed rules without any Ignore, since what a preset leaves
    out is not needed there.
    """

    name: str
    rules: tuple[Rule, ...]
    back: tuple[Rule, ...] | None = None

    def moves(self, state: State) -> Iterator[Move]:
        """Raise TypeError: the rules are applied one after the other."""
        raise TypeError("a preset is applied rule by rule")

    def reversed(self) -> Preset:
        """Return the preset for the opposite direction."""
        if self.back is not None:
            return Preset(self.name, self.back, self.rules)
        kept = [rule for rule in self.rules if not isinstance(rule, Ignore)]
        return Preset(self.name, tuple(rule.reversed() for rule in reversed(kept)), self.rules)


def dtype_of(name: str) -> np.dtype:
    """Return the dtype for a name such as "float32", "bfloat16" or "F32". Raises ArgumentError for any other."""
    from ..state import dtypes

    known = dtypes.FILE_NAMES.get(name, name) if isinstance(name, str) else name
    try:
        return dtypes.numpy_dtype(known)
    except (KeyError, TypeError) as error:
        raise ArgumentError(f"{name!r} is no dtype. Use a name from docs/format.md, such as float32.") from error
