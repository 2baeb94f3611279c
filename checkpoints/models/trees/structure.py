"""The structure of trees: dicts, lists and tuples in each other, and the pytrees of JAX. JAX is not imported here.

The name of a leaf joins the keys on the way to it with dots: `params.dense.kernel`, `opt_state.0.mu.dense.kernel`. A
key is that of a dict, the position in a list or tuple, or the field of a namedtuple, dataclass or module.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from ...errors import StateError, UnsupportedTypeError
from .kinds import is_extra, is_flax_variable, is_of_flax, is_pytree

Key = Any  # of a dict: any hashable; of a list or tuple: int; of an object: the name of an attribute


class Node(NamedTuple):
    """An inner node. children: by key. rebuild: make a node of the same kind with other children, in the same order.

    is_open: a dict, list or tuple. Of other classes, a leaf may be no state, such as an activation function.
    is_variable: a variable of flax, whose name is that of its value. is_one: a module or variable of flax, which may be
    in several places.
    """

    children: list[tuple[Key, Any]]
    rebuild: Callable[[list[Any]], Any]
    is_open: bool = True
    is_variable: bool = False
    is_one: bool = False

    def name_of(self, parent: str, key: Key) -> str:
        """Return the name of a child. The name of a whole tree is empty."""
        return parent if self.is_variable else f"{parent}.{key}" if parent else str(key)


class Leaf(NamedTuple):
    """A leaf. owner, key: the node that holds it, and where. is_open: whether all nodes above it are."""

    value: Any
    owner: Any
    key: Key
    is_open: bool


def node_of(value: Any) -> Node | None:
    """Return a value as an inner node, or None for a leaf. None has no children."""
    kind = type(value)
    if value is None:
        return Node([], lambda children: None)
    if kind is dict:
        return Node(list(value.items()), lambda children: dict(zip(value, children, strict=True)))
    if kind in (list, tuple):
        return Node(list(enumerate(value)), kind)
    if isinstance(value, tuple) and (fields := getattr(kind, "_fields", None)):
        return Node(list(zip(fields, value, strict=True)), lambda children: kind(*children))
    node = _pytree(value)
    if node is None and isinstance(value, Mapping):
        return Node(list(value.items()), lambda children: _refilled(value, children))
    return node


def leaves_of(tree: Any, node_of: Callable[[Any], Node | None] = node_of) -> dict[str, Leaf]:
    """Return the leaves of a tree by name, in order.

    Raises StateError if two leaves have the same name, or if the tree contains itself.
    """
    found: dict[str, Leaf] = {}
    try:
        for name, leaf in _walk(node_of, "", Leaf(tree, None, None, True)):
            if name in found:
                raise StateError(
                    f"two values in the tree have the name {name!r}, because a key contains a dot. Rename one of them."
                )
            found[name] = leaf
    except RecursionError:
        raise StateError("the tree is nested too deeply, or contains itself. Use a flatter tree.") from None
    return found


def _walk(node_of: Callable[[Any], Node | None], name: str, leaf: Leaf) -> Iterator[tuple[str, Leaf]]:
    node = None if is_extra(leaf.key) else node_of(leaf.value)
    if node is None:
        yield name, leaf
        return
    for key, child in node.children:
        yield from _walk(node_of, node.name_of(name, key), Leaf(child, leaf.value, key, leaf.is_open and node.is_open))


def rebuilt(tree: Any, leaves: Mapping[str, Any]) -> Any:
    """Return a tree of the same structure. leaves: those to replace, by name."""
    return _rebuilt(tree, leaves, "", {})


def _rebuilt(tree: Any, leaves: Mapping[str, Any], name: str, made: dict[int, Any]) -> Any:
    """made: what was made of the modules and variables of flax, by id."""
    node = None if is_extra(name) else node_of(tree)
    if node is None:
        return leaves.get(name, tree)
    if id(tree) not in made:
        children = [_rebuilt(child, leaves, node.name_of(name, key), made) for key, child in node.children]
        new = node.rebuild(children)
        if not node.is_one:
            return new
        made[id(tree)] = new
    return made[id(tree)]


def _refilled(mapping: Mapping[Any, Any], children: list[Any]) -> Any:
    """Return a copy of a mapping with other values: of its own class if that is a dict, and otherwise a dict."""
    items = dict(zip(mapping, children, strict=True))
    if not isinstance(mapping, dict):
        return items
    made = copy.copy(mapping)
    made.update(items)
    return made


def _pytree(value: Any) -> Node | None:
    if not is_pytree(value):
        return None
    util = sys.modules["jax"].tree_util
    try:
        pairs, structure = util.tree_flatten_with_path(value, is_leaf=lambda other: other is not value)
    except Exception as error:
        raise UnsupportedTypeError(f"a {type(value).__name__} cannot be read as a pytree: {error}") from error
    children = [(_key_of(path[-1]), child) for path, child in pairs]
    is_open = isinstance(value, Mapping | list | tuple)
    return Node(children, structure.unflatten, is_open, is_flax_variable(value), is_of_flax(value))


def _key_of(entry: Any) -> Key:
    """Return the key in an entry of a path, which has one of four classes, or the class of a user."""
    return next((getattr(entry, name) for name in ("key", "idx", "name") if hasattr(entry, name)), entry)
