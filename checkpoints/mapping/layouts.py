"""The rules that change a tensor: the order and lengths of its axes, and its dtype.

They apply to the tensors whose whole names match a regular expression. A tensor in memory becomes a view where NumPy
can make one, and thus shares its memory as before. Everything else is computed later, one tensor at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ArgumentError, MappingError
from ..state.deferred import Deferred
from .patterns import compiled, matches
from .rules import Move, Rule, State, dtype_of, freeze_lists, is_tensor


class _Change(Rule):
    """A rule that changes each tensor whose name matches, under the same name."""

    pattern: str

    def moves(self, state: State) -> Iterator[Move]:
        """Yield a move for each tensor whose name matches."""
        for match in matches(self.pattern, state):
            if is_tensor(value := state[match.string]) and self._is_meant(value):
                self._check(match.string, value)
                yield Move((match.string,), (match.string,), lambda values: [self._changed(values[0])])

    def _is_meant(self, value: Any) -> bool:
        return True

    def _check(self, name: str, value: Any) -> None:
        """Raise MappingError if the rule does not fit a tensor."""

    def _changed(self, value: Any) -> Any:
        raise NotImplementedError


@dataclass(frozen=True)
class Transpose(_Change):
    """Permute the axes of tensors, as numpy.transpose does. axes: None reverses their order."""

    pattern: str
    axes: Sequence[int] | None = None

    def __post_init__(self) -> None:
        freeze_lists(self)
        compiled(self.pattern)
        if self.axes is not None:
            _check_order(self.axes)

    def reversed(self) -> Transpose:
        """Return the inverse permutation."""
        return Transpose(self.pattern, None if self.axes is None else _inverse(self.axes))

    def _check(self, name: str, value: Any) -> None:
        if self.axes is not None and len(self.axes) != len(value.shape):
            raise unfit(self, name, value, f"has {len(value.shape)} axes, not {len(self.axes)}")

    def _changed(self, value: Any) -> Any:
        axes = tuple(reversed(range(len(value.shape)))) if self.axes is None else self.axes
        if list(axes) == sorted(axes):
            return value
        return _viewed(value, tuple(value.shape[axis] for axis in axes), lambda array: array.transpose(axes))


@dataclass(frozen=True)
class Reshape(_Change):
    """Give tensors of a shape another one, in C order. original, to: one length of each may be -1, as in NumPy."""

    pattern: str
    original: Sequence[int]
    to: Sequence[int]

    def __post_init__(self) -> None:
        freeze_lists(self)
        compiled(self.pattern)
        for shape in (self.original, self.to):
            check_ints(shape)
            if min(shape, default=0) < -1 or shape.count(-1) > 1:
                raise ArgumentError(f"a shape has lengths of 0 or more and at most one -1, not {shape}.")

    def reversed(self) -> Reshape:
        """Return the reshape in the opposite direction."""
        return Reshape(self.pattern, self.to, self.original)

    def _check(self, name: str, value: Any) -> None:
        shape = value.shape
        fits = len(shape) == len(self.original)
        if not fits or any(want not in (-1, has) for want, has in zip(self.original, shape, strict=True)):
            raise unfit(self, name, value, f"does not have the shape {self.original}")
        if _resolved(self.to, math.prod(shape)) is None:
            raise unfit(self, name, value, f"does not fit the shape {self.to}")

    def _changed(self, value: Any) -> Any:
        shape = _resolved(self.to, math.prod(value.shape))
        assert shape is not None  # checked above
        return _viewed(value, shape, lambda array: array.reshape(shape))


@dataclass(frozen=True)
class Regroup(_Change):
    """Split an axis into several, permute these, and merge them again: a reshape, a transpose and a reshape.

    shape: the lengths that the axis is split into; one may be -1. axes: their new order. For example, the rows of a
    rotary query projection from interleaved pairs to halves: Regroup(pattern, (heads, -1, 2), (0, 2, 1)).
    """

    pattern: str
    shape: Sequence[int]
    axes: Sequence[int]
    axis: int = 0

    def __post_init__(self) -> None:
        freeze_lists(self)
        compiled(self.pattern)
        check_ints(self.shape)
        _check_order(self.axes)
        check_ints((self.axis,))
        if len(self.axes) != len(self.shape) or self.shape.count(-1) > 1 or any(n < 1 and n != -1 for n in self.shape):
            raise ArgumentError(
                f"shape has a length for each of axes, at least 1, and at most one -1, not {self.shape}."
            )

    def reversed(self) -> Regroup:
        """Return the regrouping that undoes this one."""
        return Regroup(self.pattern, tuple(self.shape[axis] for axis in self.axes), _inverse(self.axes), self.axis)

    def _check(self, name: str, value: Any) -> None:
        axis = axis_of(self, name, value, self.axis)
        if _resolved(self.shape, value.shape[axis]) is None:
            raise unfit(
                self, name, value, f"has an axis of {value.shape[axis]}, which does not split into {self.shape}"
            )

    def _changed(self, value: Any) -> Any:
        axis = self.axis % len(value.shape)
        parts = _resolved(self.shape, value.shape[axis])
        assert parts is not None  # checked above
        before, after = value.shape[:axis], value.shape[axis + 1 :]
        order = (
            *range(axis),
            *(axis + i for i in self.axes),
            *range(axis + len(parts), len(value.shape) + len(parts) - 1),
        )

        def change(array: np.ndarray) -> np.ndarray:
            moved = array.reshape(*before, *parts, *after).transpose(order).reshape(array.shape)
            return moved.copy() if np.may_share_memory(moved, array) else moved  # never sometimes a view

        return computed(change, [value], value.shape, value.dtype)


@dataclass(frozen=True)
class Cast(_Change):
    """Convert tensors to another dtype, rounding to nearest. original: only tensors of this dtype; needed to save."""

    pattern: str
    to: str
    original: str | None = None

    def __post_init__(self) -> None:
        freeze_lists(self)
        compiled(self.pattern)
        dtype_of(self.to)
        if self.original is not None:
            dtype_of(self.original)

    def reversed(self) -> Cast:
        """Return the conversion back. Raises MappingError if the original dtype is not known."""
        if self.original is None:
            raise MappingError(
                f"Cast({self.pattern!r}, {self.to!r}) cannot be reversed: it does not say what the dtype was. Add "
                'original, such as Cast(pattern, "float32", original="bfloat16").'
            )
        return Cast(self.pattern, self.original, self.to)

    def _is_meant(self, value: Any) -> bool:
        return self.original is None or value.dtype == dtype_of(self.original)

    def _check(self, name: str, value: Any) -> None:
        if value.dtype.kind == "c" and dtype_of(self.to).kind != "c":
            raise unfit(self, name, value, "is complex, and its imaginary part would be lost")

    def _changed(self, value: Any) -> Any:
        dtype = dtype_of(self.to)
        if value.dtype == dtype:
            return value

        def change(array: np.ndarray) -> np.ndarray:
            with np.errstate(all="ignore"):  # too large for the new dtype: infinity
                return array.astype(dtype)

        return computed(change, [value], value.shape, dtype)


def _viewed(value: Any, shape: tuple[int, ...], change: Callable[[np.ndarray], np.ndarray]) -> Any:
    """Return a changed array of the same elements: at once for an array in memory, else later."""
    return change(value) if isinstance(value, np.ndarray) else computed(change, [value], shape, value.dtype)


def computed(
    change: Callable[..., np.ndarray], values: Sequence[Any], shape: tuple[int, ...], dtype: np.dtype
) -> Deferred:
    """Return an array of this shape and dtype that `change` computes from arrays when it is needed."""
    return Deferred(shape, dtype, lambda: change(*map(np.asarray, values)))


def _resolved(shape: Sequence[int], size: int) -> tuple[int, ...] | None:
    """Return a shape of `size` elements, with -1 replaced, or None if there is none."""
    known = math.prod(length for length in shape if length != -1)
    if -1 in shape:
        if not known or size % known:
            return None
        return tuple(size // known if length == -1 else length for length in shape)
    return tuple(shape) if known == size else None


def axis_of(rule: Rule, name: str, value: Any, axis: int) -> int:
    """Return an axis of a tensor, counted from the first. Raises MappingError if the tensor does not have it."""
    ndim = len(value.shape)
    if not -ndim <= axis < ndim:
        raise unfit(rule, name, value, f"has no axis {axis}")
    return axis % ndim


def unfit(rule: Rule, name: str, value: Any, why: str) -> MappingError:
    """Return the error for a tensor that a rule does not fit."""
    return MappingError(f"{rule.summary}: {name!r} {why}. It is {value.dtype} {tuple(value.shape)}.")


def check_ints(values: Any) -> None:
    """Raise ArgumentError unless this is a tuple of whole numbers."""
    if not isinstance(values, tuple) or not all(type(value) is int for value in values):
        raise ArgumentError(f"axes, shapes and sizes are whole numbers in a list or a tuple, not {values!r:.60}.")


def _check_order(axes: Any) -> None:
    check_ints(axes)
    if sorted(axes) != list(range(len(axes))):
        raise ArgumentError(f"axes are the numbers from 0 to {len(axes) - 1} in some order, not {axes}.")


def _inverse(axes: Sequence[int]) -> tuple[int, ...]:
    return tuple(axes.index(axis) for axis in range(len(axes)))
