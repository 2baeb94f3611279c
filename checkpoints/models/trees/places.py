"""Leaves that are replaced where they are, each by a call of a function written in C."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from ....core.commit.steps import Step
from ...errors import UnsupportedTypeError
from .kinds import is_flax_variable
from .structure import Leaf


def place_of(name: str, leaf: Leaf) -> Hashable:
    """Return a key that is equal for two names of one place, such as those of a module that is used twice."""
    return id(leaf.owner), leaf.key


def place_in_tree(name: str, leaf: Leaf) -> Hashable:
    """Return such a key for a tree that is made again, where only a variable of flax may have two names."""
    return id(leaf.owner) if is_flax_variable(leaf.owner) else name


def step_to_replace(name: str, leaf: Leaf, new: Any) -> Step:
    """Return the step that puts a value into the place of a leaf.

    Raises UnsupportedTypeError for a place that cannot be changed, such as one in a tuple.
    """
    owner = leaf.owner
    if is_flax_variable(owner):
        # Its own setters are Python code.
        return object.__setattr__, owner, "_raw_value" if hasattr(owner, "_raw_value") else "raw_value", new
    if isinstance(owner, dict):
        return dict.__setitem__, owner, leaf.key, new
    if isinstance(owner, list):
        return list.__setitem__, owner, leaf.key, new
    attributes = getattr(owner, "__dict__", {})
    if str(leaf.key) in attributes:  # those of a list of flax are its numbers
        return dict.__setitem__, attributes, str(leaf.key), new
    raise UnsupportedTypeError(
        f"{name!r} is in a {type(owner).__name__}, which cannot be changed. Put it into a list, a dict or a variable."
    )
