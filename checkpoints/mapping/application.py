"""Applying rules to a state: names, shapes and dtypes at once, values when they are needed.

Two names that are tied stay tied if the same rules apply to both, since a rule changes a tied tensor once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np

from ..errors import MappingError, on_one_line
from ..state.deferred import Deferred
from ..storage.gc_pause import without_collection
from .rules import Fill, Ignore, Move, Preset, Rule, State, is_tensor

_MOST_LINES = 20


@dataclass
class Origin:
    """Where a name comes from. names: in the original state, none for one that a rule added. rules: what they do."""

    names: tuple[str, ...]
    rules: tuple[str, ...] = ()


@dataclass
class Applied:
    """A state after rules.

    origins: of each of its names. ignored: the names left out, each with the reason. rounded: a line for each cast that
    may change values.
    """

    state: dict[str, Any]
    origins: dict[str, Origin]
    ignored: dict[str, str] = field(default_factory=dict)
    rounded: list[str] = field(default_factory=list)


def applied(rules: Sequence[Rule], state: State, source: str, *, must_match: bool = True) -> Applied:
    """Return a state after rules. No deferred array is computed. source: the name of the state, for messages.

    Raises MappingError for a rule that does not fit, if two names become one, or with `must_match` for a rule that
    matches nothing.
    """
    result = Applied(dict(state), {name: Origin((name,)) for name in state})
    with without_collection():
        for rule in rules:
            if not _apply(rule, result, source) and must_match:
                what = f"the preset {rule.name!r}" if isinstance(rule, Preset) else str(rule)
                raise MappingError(
                    f"{what} matches no name in {source}{_names(result.state)} A pattern has to match a whole name "
                    "as it is after the rules before it. checkpoints.inspect() lists the names in a file."
                )
    return result


def reversed_rules(rules: Sequence[Rule]) -> list[Rule]:
    """Return the rules that undo these. Raises MappingError naming the rule that cannot be undone."""
    return [rule.reversed() for rule in reversed(rules)]


def unmapped(rules: Sequence[Rule], state: State) -> dict[str, Any]:
    """Return a state under the names and in the layouts that rules are made for: what a save with them writes.

    Raises MappingError if that cannot be done, or if loading it with the same rules would not give this state.
    """
    result = applied(reversed_rules(rules), state, "this state (a save applies the rules in reverse)").state
    try:
        problems = differences(specs(state), applied(rules, specs(result), "what would be written").state)
    except MappingError as error:
        problems = [str(error)]
    if problems:
        lines = "".join(f"\n  {line}" for line in problems[:_MOST_LINES])
        raise MappingError(
            f"this state cannot be saved with this mapping: a load with it would give another state.{lines}\n"
            "Use rules whose patterns match only the names that they are meant for."
        )
    return result


def why_irreversible(rules: Sequence[Rule], original: State, result: Applied) -> list[str]:
    """Return why the reversed rules would not give the original state back: a line each. No tensor is read."""
    try:
        undone = applied(reversed_rules(rules), specs(result.state), "the result")
    except MappingError as error:
        return [on_one_line(str(error))]
    kept = {name: value for name, value in original.items() if name not in result.ignored}
    problems = differences(specs(kept), undone.state)
    if not problems and list(kept) != list(undone.state):
        problems = ["the names would be in another order"]
    return problems + result.rounded


def specs(state: State) -> dict[str, Any]:
    """Return a state with its tensors replaced by deferred ones of the same shape and dtype that hold nothing."""

    def nothing() -> NoReturn:
        raise AssertionError("only names, shapes and dtypes are used")

    return {
        name: Deferred(value.shape, value.dtype, nothing) if is_tensor(value) else value
        for name, value in state.items()
    }


def differences(expected: State, found: State) -> list[str]:
    """Return a line for each name that is in one state only, or whose shape or dtype differs."""
    lines = [f"{on_one_line(name)} would be missing" for name in expected if name not in found]
    lines += [f"{on_one_line(name)} would be added" for name in found if name not in expected]
    for name in expected:
        pair = [state[name] for state in (expected, found) if name in state]
        kinds = [f"{v.dtype} {tuple(v.shape)}" if is_tensor(v) else "not a tensor" for v in pair]
        if len(set(kinds)) > 1:
            lines.append(f"{on_one_line(name)} is {kinds[0]}, and would be {kinds[1]}")
    return lines


def _apply(rule: Rule, result: Applied, source: str) -> bool:
    """Apply one rule to `result`. Return False if it matches nothing."""
    if isinstance(rule, Preset):
        matched = [_apply(part, result, source) for part in rule.rules]  # all of them, not up to the first that matches
        return any(matched)
    taken: dict[str, Move] = {}
    for move in rule.moves(result.state):
        for name in move.taken:
            if name in taken:
                raise MappingError(f"{rule} takes {name!r} twice. Give each of its parts a pattern of its own.")
            taken[name] = move
    if not taken:
        return False
    _replace(rule, taken, result, source)
    return True


def _replace(rule: Rule, taken: Mapping[str, Move], result: Applied, source: str) -> None:
    """Put what a rule gives in the place of the names that it takes. taken: the move of each of them."""
    state: dict[str, Any] = {}
    origins: dict[str, Origin] = {}
    changed: dict[tuple[int, ...], Sequence[Any]] = {}
    placed: set[tuple[str, ...]] = set()

    def refuse(name: str, origin: Origin) -> NoReturn:
        both = " and ".join(dict.fromkeys((*origins[name].names, *origin.names)))
        raise MappingError(
            f"{rule} gives two tensors of {source} the name {name!r}: {both}. Rename or ignore one first."
        )

    for name, value in result.state.items():
        move, origin = taken.get(name), result.origins[name]
        if move is None:
            if name in state:
                refuse(name, origin)
            state[name], origins[name] = value, origin
        elif move.taken not in placed:
            placed.add(move.taken)
            if not move.given and isinstance(rule, Ignore):
                result.ignored |= dict.fromkeys(origin.names, rule.reason)
            for new, made, origin in _given(rule, move, result, changed):
                if new in state:
                    refuse(new, origin)
                state[new], origins[new] = made, origin
    result.state, result.origins = state, origins


def _given(
    rule: Rule, move: Move, result: Applied, changed: dict[tuple[int, ...], Sequence[Any]]
) -> Iterator[tuple[str, Any, Origin]]:
    """Yield the names that a move gives, with their values and origins. changed: by the values they are made from."""
    before = [result.origins[name] for name in move.taken]
    names = before[0].names if len(before) == 1 else _unique([name for origin in before for name in origin.names])
    steps = before[0].rules if len(before) == 1 else _unique([step for origin in before for step in origin.rules])
    after = Origin(names, (*steps, rule.summary))
    values: Sequence[Any] = [result.state[name] for name in move.taken]
    if move.change is None:
        for new, value in zip(move.given, values, strict=False):
            yield new, value, after
        return
    key = tuple(map(id, values))
    if key not in changed:
        changed[key] = move.change(values)
    for new, value in zip(move.given, changed[key], strict=True):
        if is_tensor(value) and is_tensor(values[0]) and not _is_exact(values[0].dtype, value.dtype):
            texts = " and ".join(map(on_one_line, names))
            result.rounded.append(f"{texts} may be rounded: from {values[0].dtype} to {value.dtype}")
        yield new, value, Origin((), (rule.summary,)) if isinstance(rule, Fill) and new not in move.taken else after


def _unique(texts: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(texts))


def _is_exact(before: np.dtype, after: np.dtype) -> bool:
    """Return True if every value of one dtype is a value of another."""
    if before.kind in "iu" and after.kind in "fc":  # NumPy calls int64 to float64 safe
        return np.iinfo(before).bits <= np.finfo(after).nmant + 1
    return np.can_cast(before, after, "safe")


def _names(state: Mapping[str, Any]) -> str:
    """Return the start of the list of names of a state, for a message."""
    shown = ", ".join(map(repr, list(state)[:3]))
    return f", whose names are {shown}{', ...' if len(state) > 3 else ''}." if state else ", which has no names."
