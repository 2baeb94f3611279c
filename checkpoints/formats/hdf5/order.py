"""The order of the tensors in files of Keras, which HDF5 does not keep: it sorts `dense_10` before `dense_2`.

A file of Keras 3 has only datasets `<path>/vars/<name>`. Their paths are put in natural order, so that numbers count as
numbers: `dense`, `dense_1`, `dense_2`, `dense_10`, and in each `vars/0` to `vars/10`. Keras 2 lists the layers in the
attribute `layer_names` of their group, and the weights of a layer in the attribute `weight_names`; that is the order of
the model. Other files keep the order that they have.

Source: Keras 3.15, saving/saving_lib.py (H5IOStore) and legacy/saving/legacy_h5_format.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

VARIABLES = "vars"  # the group of the variables of a layer
_NUMBER = re.compile(r"(\d+)", re.ASCII)
_MOST_DIGITS = 18

_Path = tuple[str, ...]
_Item = TypeVar("_Item")


def in_order(links: list[tuple[_Path, _Item]], orders: Iterable[tuple[_Path, list[str]]]) -> list[tuple[_Path, _Item]]:
    """Return links, each a path and anything, in Keras' order if they are from Keras. orders: what Keras 2 lists."""
    ranks = _ranks_of(orders)
    if not ranks and not (links and all(path[-2:-1] == (VARIABLES,) for path, _ in links)):
        return links
    key = _place_in(ranks, links) if ranks else _natural
    return sorted(links, key=lambda link: key(link[0]))


def _natural(path: _Path) -> list[list[tuple[int, str]]]:
    return [_natural_part(part) for part in path]


def _natural_part(part: str) -> list[tuple[int, str]]:
    """Return a key that sorts numbers by value, before text."""
    pieces = _NUMBER.split(part)
    return [(int(p), "") if n % 2 and len(p) <= _MOST_DIGITS else (1 << 63, p) for n, p in enumerate(pieces) if p]


def _ranks_of(orders: Iterable[tuple[_Path, list[str]]]) -> dict[_Path, int]:
    """Return the rank of each path among its siblings. A listed name may be a path itself."""
    ranks: dict[_Path, int] = {}
    for group, names in orders:
        for rank, name in enumerate(names):
            path = group
            for part in name.split("/"):
                path = (*path, part)
                ranks.setdefault(path, rank)
    return ranks


def _place_in(ranks: dict[_Path, int], links: list[tuple[_Path, Any]]) -> Callable[[_Path], list[tuple[int, int]]]:
    """Return a key that sorts by ranks, and what has none after that, in the order of the links."""
    seen: dict[_Path, int] = {}

    def key(path: _Path) -> list[tuple[int, int]]:
        prefixes = (path[:length] for length in range(1, len(path) + 1))
        return [(ranks.get(prefix, 1 << 62), seen[prefix]) for prefix in prefixes]

    for number, (path, _) in enumerate(links):
        for length in range(1, len(path) + 1):
            seen.setdefault(path[:length], number)
    return key
