r"""Patterns of names, and templates that make a new name from a match.

A pattern is a regular expression of Python that has to match a whole name: r"(.*)\.gamma". A template is a name with
references to the groups of the pattern, as re.sub takes it: r"\1.weight".

A pattern and a template can be swapped, so that what renames one way renames the other way, if the pattern is made of
plain characters and groups, and the template has every group. The groups themselves may hold anything but groups.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Sequence

from ..errors import ArgumentError, MappingError

_REFERENCE = re.compile(r"\\(?:(?P<number>\d+)|g<(?P<name>\w+)>|(?P<char>.))", re.DOTALL)
_SPECIAL = frozenset(".^$*+?{}[]|")


def compiled(pattern: str) -> re.Pattern[str]:
    """Return a compiled pattern. Raises ArgumentError if it is not a regular expression."""
    if not isinstance(pattern, str):
        raise ArgumentError(f"a pattern is a regular expression in a str, not {pattern!r:.60}.")
    try:
        return _compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise ArgumentError(f"{pattern!r:.200} is not a regular expression: {error}.") from error


@functools.lru_cache(maxsize=1024)
def _compile(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.DOTALL)  # a name may have line breaks


def check_template(template: str, pattern: str) -> None:
    """Raise ArgumentError if a template refers to a group that a pattern does not have."""
    groups = compiled(pattern)
    try:
        known = {*range(1, groups.groups + 1), *groups.groupindex}
        wrong = [piece for piece in _pieces(template) if not isinstance(piece, str) and piece[0] not in known]
    except TypeError as error:
        raise ArgumentError(f"a template is text such as r'\\1.weight', not {template!r:.60}.") from error
    if wrong:
        raise ArgumentError(
            f"the template {template!r} refers to group {wrong[0][0]}, which {pattern!r} does not have."
        )


def matches(pattern: str, names: Iterable[str]) -> Iterator[re.Match[str]]:
    """Yield the matches of whole names, in their order."""
    return filter(None, map(compiled(pattern).fullmatch, names))


def expanded(match: re.Match[str], template: str) -> str:
    """Return the name that a template makes from a match."""
    return "".join(piece if isinstance(piece, str) else match[piece[0]] or "" for piece in _pieces(template))


def families(patterns: Sequence[str], names: Sequence[str]) -> dict[tuple[str | None, ...], dict[int, re.Match[str]]]:
    """Return the names that match one of several patterns with equal groups: groups -> number of the pattern -> match.

    Raises MappingError if two names match one pattern with equal groups.
    """
    found: dict[tuple[str | None, ...], dict[int, re.Match[str]]] = {}
    for number, pattern in enumerate(patterns):
        for match in matches(pattern, names):
            other = found.setdefault(match.groups(), {}).setdefault(number, match)
            if other is not match:
                raise MappingError(
                    f"{pattern!r} matches both {other.string!r} and {match.string!r} with the same groups. Put what "
                    "differs into a group."
                )
    return found


def swapped(pattern: str, template: str) -> tuple[str, str]:
    """Return the pattern and the template that undo these two. Raises MappingError that says why if there are none."""
    literals, groups = _parsed(pattern)
    index = compiled(pattern).groupindex
    new_pattern, order = "", []
    for piece in _pieces(template):
        if isinstance(piece, str):
            new_pattern += re.escape(piece)
            continue
        group = index.get(piece[0], piece[0]) if isinstance(piece[0], str) else piece[0]
        if group in order:
            new_pattern += f"(?:\\{order.index(group) + 1})"
        else:
            order.append(group)
            new_pattern += f"({groups[int(group) - 1]})"
    lost = [number for number in range(1, len(groups) + 1) if number not in order]
    if lost:
        raise MappingError(f"{pattern!r} cannot be reversed: {template!r} leaves out its group {lost[0]}.")
    new_template = literals[0].replace("\\", r"\\")
    for number, literal in enumerate(literals[1:], 1):
        new_template += rf"\g<{order.index(number) + 1}>" + literal.replace("\\", r"\\")
    return new_pattern, new_template


@functools.lru_cache(maxsize=1024)
def _pieces(template: str) -> tuple[str | tuple[int | str], ...]:
    """Return the plain text of a template, and its references in tuples of one, in order."""
    pieces: list[str | tuple[int | str]] = []
    end = 0
    for match in _REFERENCE.finditer(template):
        if match.start() > end:
            pieces.append(template[end : match.start()])
        end = match.end()
        if match["char"] is not None:
            pieces.append(match["char"])
        else:
            name = match["number"] or match["name"]
            pieces.append((int(name) if name.isdecimal() else name,))
    return (*pieces, template[end:]) if end < len(template) else tuple(pieces)


def _parsed(pattern: str) -> tuple[list[str], list[str]]:
    """Return the plain text before, between and after the groups of a pattern, and the expressions in the groups.

    Raises MappingError if the pattern has anything else outside its groups.
    """
    literals, groups, position = [""], [], 0
    text = pattern.removeprefix("^")
    if text.endswith("$") and not text.endswith(r"\$"):
        text = text[:-1]
    while position < len(text):
        char = text[position]
        if char == "(":
            inner, position = _group(pattern, text, position)
            groups.append(inner)
            literals.append("")
            continue
        if char == "\\":
            position += 1
            char = text[position]
            if char.isalnum():
                raise _not_reversible(pattern, f"\\{char}")
        elif char in _SPECIAL:
            raise _not_reversible(pattern, char)
        literals[-1] += char
        position += 1
    return literals, groups


def _group(pattern: str, text: str, start: int) -> tuple[str, int]:
    """Return the expression in the group that starts at a position, and the position after the group."""
    depth, position, in_class = 0, start, False
    while True:
        char = text[position]
        if char == "\\":
            position += 1
        elif in_class:
            in_class = char != "]"
        elif char == "[":
            # A bracket right after the start of a class is a character of it.
            in_class = True
            position += 1 if text[position + 1] in "]" else 2 if text.startswith("^]", position + 1) else 0
        elif char == "(":
            depth += 1
            is_plain = text[position + 1] != "?" or text.startswith("(?P<", position)
            if is_plain != (depth == 1):
                raise _not_reversible(pattern, "a group in a group" if is_plain else text[position : position + 3])
        elif char == ")":
            depth -= 1
        position += 1
        if not depth:
            break
    inner = text[start + 1 : position - 1]
    return inner.partition(">")[2] if inner.startswith("?P<") else inner, position


def _not_reversible(pattern: str, what: str) -> MappingError:
    return MappingError(
        f"{pattern!r} cannot be reversed because of {what!r}: put what varies into groups that are not inside each "
        "other, and a backslash before a dot."
    )
