"""Hints for a state whose names do not match the model's: a common prefix, or a similar name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from ...errors import nearest

# Finding a similar name takes time for each pair of names, and nobody reads more hints than these.
_MOST_HINTS = 50
_MOST_NAMES = 3


def similar_names(unexpected: Mapping[str, Any], missing: Mapping[str, Any]) -> Iterator[tuple[str, str | None]]:
    """Yield each unexpected name with the missing name that was probably meant, or None.

    The values are shapes: a missing name of the same shape comes before a more similar one of another shape.
    """
    by_shape: dict[Any, list[str]] = {}
    for name, shape in missing.items():
        by_shape.setdefault(shape, []).append(name)
    for position, (name, shape) in enumerate(unexpected.items()):
        found = None
        if position < _MOST_HINTS:
            found = nearest(str(name), by_shape.get(shape, ())) or nearest(str(name), missing)
        yield name, found


def prefix_advice(
    unexpected: Sequence[str], missing: Sequence[str], place: str, without: Callable[[str], str]
) -> str | None:
    """Return a sentence about an extra prefix of most unexpected names, or of most missing names, or None.

    place: how to refer to the state. without: returns the code that loads the state without a prefix.
    """
    unexpected = [str(name) for name in unexpected]
    if prefix := _common_prefix(unexpected, set(missing)):
        subject = _subject(unexpected, prefix, "unexpected")
        return f"{subject} in {place} start with {prefix!r}, which the model's do not. Remove it: {without(prefix)}."
    if prefix := _common_prefix(missing, set(unexpected)):
        subject = _subject(missing, prefix, "missing")
        submodule = f"model.get_submodule({prefix[:-1]!r})"
        return f"{subject} in the model start with {prefix!r}, which those in {place} do not. Load into {submodule}."
    return None


def load_without_prefix(prefix: str) -> str:
    """Return the code that removes a prefix from the names of a dict and loads it."""
    return f"model.load_state_dict({{name.removeprefix({prefix!r}): value for name, value in state.items()}})"


def some(names: Collection[Any]) -> str:
    """Return the first few names for a message, with how many more there are."""
    shown = ", ".join(map(str, list(names)[:_MOST_NAMES]))
    more = len(names) - _MOST_NAMES
    return f"{shown or 'no names'}{f' and {more} more' if more > 0 else ''}"


def _common_prefix(names: Sequence[str], wanted: set[str]) -> str | None:
    """Return the prefix, ending in a dot, without which most names are wanted ones, or all wanted names are there.

    Return None if there is no such prefix.
    """
    counts = Counter(name[: len(name) - len(rest)] for name in names for rest in _tails(name) if rest in wanted)
    prefix, count = max(counts.items(), key=lambda item: item[1], default=("", 0))
    return prefix if 2 * count > len(names) or 0 < count == len(wanted) else None


def _tails(name: str) -> Iterator[str]:
    """Yield a dotted name without its first part, then without its first two parts, and so on."""
    while "." in name:
        name = name.partition(".")[2]
        yield name


def _subject(names: Sequence[str], prefix: str, word: str) -> str:
    count = sum(name.startswith(prefix) for name in names)
    return f"All {word} names" if count == len(names) else f"{count} of the {len(names)} {word} names"
