r"""Mappings as text: the name of a preset, or a TOML file of rules.

    [[rule]]
    preset = "data-parallel"

    [[rule]]
    transpose = '.*\.kernel'

    [[rule]]
    rewrite = '(.*)\.kernel'
    to = '\1.weight'

Each table is one rule. Its kind is the name of the class with underscores, whose value is the first field of the class;
the other fields have their names. TOML's single quotes keep backslashes as they are.
"""

from __future__ import annotations

import dataclasses
import os
import re
import tomllib
from collections.abc import Iterable
from typing import Any

from ..errors import ArgumentError, MissingFileError, ReadError, nearest
from .application import reversed_rules
from .layouts import Cast, Regroup, Reshape, Transpose
from .parts import Concatenate, Split
from .presets import PRESETS
from .rules import AddPrefix, Fill, Ignore, Rename, Rewrite, Rule, StripPrefix

Mapping = Rule | str | os.PathLike[str] | Iterable[Rule | str | os.PathLike[str]]

_SUFFIX = ".toml"
_RULES = (Rename, Rewrite, StripPrefix, AddPrefix, Transpose, Reshape, Regroup, Split, Concatenate, Cast, Fill, Ignore)
_KINDS = {re.sub("(?<!^)([A-Z])", r"_\1", rule.__name__).lower(): rule for rule in _RULES}


def rules_of(mapping: Mapping) -> list[Rule]:
    """Return the rules of a mapping: a rule, the name of a preset, the path of a .toml file, or several of these.

    Raises ArgumentError for anything else, MissingFileError for a file that does not exist.
    """
    if isinstance(mapping, Rule):
        return [mapping]
    if isinstance(mapping, str | os.PathLike):
        return _named(os.fsdecode(mapping))
    if isinstance(mapping, dict | bytes) or not isinstance(mapping, Iterable):
        raise ArgumentError(
            f"a mapping is a list of rules, such as [Rename('fc.weight', 'head.weight')], the name of a preset, or the "
            f"path of a {_SUFFIX} file, not {type(mapping).__name__}."
        )
    rules: list[Rule] = []
    for part in mapping:
        if not isinstance(part, Rule | str | os.PathLike):
            raise ArgumentError(f"{part!r:.60} in a mapping is not a rule. Use the rules of checkpoints.mapping.")
        rules += rules_of(part)
    return rules


def reverse(mapping: Mapping) -> list[Rule]:
    """Return the rules for the opposite direction, such as from our names to Keras'.

    Raises MappingError naming the rule that cannot be reversed, or what rules_of raises.
    """
    return reversed_rules(rules_of(mapping))


def _named(name: str) -> list[Rule]:
    if name in PRESETS:
        return [PRESETS[name]]
    if name.endswith(_SUFFIX):
        return _rules_in(name)
    near = nearest(name, PRESETS)
    hint = f" Did you mean {near!r}?" if near else ""
    raise ArgumentError(
        f"there is no preset {name!r}.{hint} The presets are {', '.join(PRESETS)}; a file of rules ends in {_SUFFIX}."
    )


def _rules_in(path: str) -> list[Rule]:
    try:
        with open(path, "rb") as file:
            content = tomllib.load(file)
    except FileNotFoundError as error:
        raise MissingFileError(f"there is no file {path}.", error) from error
    except OSError as error:
        raise ReadError(f"{path} cannot be read: {error.strerror}.", error) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ArgumentError(f"{path} is not valid TOML: {error}.") from error
    tables = content.pop("rule", [])
    if content or not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ArgumentError(f"{path} holds something other than tables [[rule]]. docs/mapping.md has an example.")
    return [rule for number, table in enumerate(tables, 1) for rule in _rules_of_table(table, f"{path}, rule {number}")]


def _rules_of_table(table: dict[str, Any], where: str) -> list[Rule]:
    if set(table) == {"preset"} and isinstance(table["preset"], str):
        return _named(table["preset"])
    kinds = [key for key in table if key in _KINDS]
    if len(kinds) != 1:
        raise ArgumentError(f"{where}, needs exactly one of {', '.join(('preset', *_KINDS))}.")
    kind = _KINDS[kinds[0]]
    first, *others = [entry.name for entry in dataclasses.fields(kind)]
    unknown = [key for key in table if key not in (kinds[0], *others)]
    if unknown:
        raise ArgumentError(f"{where}, has an unknown key {unknown[0]!r}. {kinds[0]} takes {', '.join(others)}.")
    fields = {first if key == kinds[0] else key: value for key, value in table.items()}
    required = [entry.name for entry in dataclasses.fields(kind) if entry.default is dataclasses.MISSING]
    missing = [name for name in required if name not in fields]
    if missing:
        raise ArgumentError(f"{where}, needs {missing[0]!r} for {kinds[0]}.")
    try:
        return [kind(**fields)]
    except ArgumentError as error:
        raise ArgumentError(f"{where}: {error}") from error
