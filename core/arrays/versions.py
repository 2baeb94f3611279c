"""Which memory has been changed in place, and when: a gradient must not be computed from values that are gone.

Time is the number of changes so far, `clock[0]`. Memory is known by the array that owns it.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np

clock = [0]
_written: dict[int, list[Any]] = {}  # by the id of the owner: the owner, weakly, and the time of the last change
# Memory whose values were replaced by those of a new array: a tensor that still shows it would show old values. By the
# id of the owner: the owner, and each replaced part with a reference to the tensor that was given a new array.
replaced: dict[int, tuple[weakref.ref, list[tuple[_Part, weakref.ref]]]] = {}


class _Part:
    """The place of an array in memory. It does not keep the memory alive."""

    def __init__(self, array: np.ndarray) -> None:
        self.__array_interface__ = array.__array_interface__ | {"strides": array.strides}


def owner(array: np.ndarray) -> np.ndarray:
    """Return the array that owns the memory of array."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def _until_it_dies(table: dict[int, Any], owner: np.ndarray) -> weakref.ref:
    """Return a reference to owner whose end removes its row from the table."""
    # In C, so that no interrupt can come in between: pop(key, reference), where the reference stands for "no row".
    return weakref.ref(owner, functools.partial(table.pop, id(owner)))


def mark_written(array: np.ndarray) -> None:
    """Note that the memory of array has just been changed."""
    clock[0] += 1
    held = owner(array)
    row = _written.get(id(held))
    if row is None:
        _written[id(held)] = [_until_it_dies(_written, held), clock[0]]
    else:
        row[1] = clock[0]


def written_since(array: np.ndarray, time: int) -> bool:
    """Return True if the memory of array was changed after time."""
    return _written.get(id(owner(array)), (None, 0))[1] > time


def mark_replaced(array: np.ndarray, tensor: Any) -> None:
    """Note that tensor, which showed array, shows a new array from now on."""
    clock[0] += 1
    held = owner(array)
    _, parts = replaced.setdefault(id(held), (_until_it_dies(replaced, held), []))
    parts.append((_Part(array), weakref.ref(tensor)))


def is_outdated(array: np.ndarray) -> bool:
    """Return True if array shows values that were replaced."""
    _, parts = replaced.get(id(owner(array)), (None, ()))
    return any(_share(np.asarray(part), array) for part, _ in parts)


def put_back(array: np.ndarray, tensor: Any) -> None:
    """Note that the values of tensor, which was given a new array in place of this one, come back to it now."""
    _, parts = replaced.get(id(owner(array)), (None, []))
    place = _Part(array).__array_interface__
    parts[:] = [(part, by) for part, by in parts if by() is not tensor or part.__array_interface__ != place]


def _share(a: np.ndarray, b: np.ndarray) -> bool:
    try:
        return np.shares_memory(a, b, max_work=10_000)  # pyright: ignore[reportArgumentType]
    except np.exceptions.TooHardError:
        return True


def kept_arrays(kept: Any, seen: set[int] | None = None) -> Iterator[Any]:
    """Yield what a function keeps in its closure, and what the tuples, lists and functions there keep."""
    seen = set() if seen is None else seen
    if id(kept) in seen:
        return
    seen.add(id(kept))
    if isinstance(kept, tuple | list):
        inner = list(kept)
    else:
        inner = [cell.cell_contents for cell in getattr(kept, "__closure__", None) or ()]
        yield kept
    for value in inner:
        yield from kept_arrays(value, seen)
