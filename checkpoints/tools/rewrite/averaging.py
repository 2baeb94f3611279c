"""Averaging checkpoints of the same architecture, such as the last ones of a run."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np

from ...errors import ArgumentError, MismatchError, StateError
from ...files import open_header, save_file
from ...reading.lazy import Checkpoint
from ...reading.progress import Progress, silent
from ...reading.reader import Reader
from ...state import dtypes
from ...state.deferred import Deferred
from ...state.sharing import Packed
from ..blocks import blocks_of
from ..compare.side import Side, tie_changes
from ..printing import kind_text


def average(sources: Sequence[Any], out: str | os.PathLike[str], *, progress: Progress | None = None) -> None:
    """Write the mean of several checkpoints to a file with the same names, ties, views and dtypes.

    sources: files as for load_file, with equal names, shapes, dtypes and ties. out: a path, whose suffix picks the
    format; it may be one of the sources. progress: called with the number of bytes averaged since the last call.
    Floating-point and complex tensors are averaged in float64 and rounded once, and shared memory is averaged once.
    Everything else is copied from the first source: integers, booleans, extra state, metadata and the order of names.
    Only one tensor at a time is in memory.
    Raises MismatchError listing every difference, CorruptError for a damaged tensor, StateError for float and integer
    tensors that share memory, WriteError or another CheckpointError; `out` is unchanged in that case.
    """
    if isinstance(sources, str | bytes | os.PathLike) or not sources:
        raise ArgumentError("average() takes a list of one or more files, such as [first.h5, second.h5].")
    with ExitStack() as files:
        opened = []
        for file in sources:
            reader = Reader(open_header(file), verify=True)
            files.callback(reader.close)
            opened.append(reader)
        first, *others = [Side(Checkpoint(reader)) for reader in opened]
        for other in others:
            problems = list(_problems(first, other))
            if problems:
                advice = "Average checkpoints of one architecture, saved in the same way."
                raise MismatchError(other.name, first.name, problems, advice)
        save_file(_Averaged(opened[0], others, progress or silent), out, opened[0].header.metadata)


class _Averaged(Checkpoint):
    """The first of several checkpoints, with its values averaged with those of the others."""

    def __init__(self, reader: Reader, others: Sequence[Side], progress: Progress) -> None:
        super().__init__(reader)
        self._others, self._progress = others, progress

    def packed(self) -> Packed:
        """Return the average. Its arrays are computed later."""
        packed = super().packed()
        packed.stored = {name: self._mean(packed, name) for name in packed.stored}
        return packed

    def _mean(self, packed: Packed, name: str) -> Deferred:
        first, element = packed.stored[name], _element_of(packed, name, self.name)
        # Another file may store a tie under another of its names.
        others = [other.packed.stored[other.place(name)[0]] for other in self._others]

        def make() -> np.ndarray:
            array = np.asarray(first) if element is None else _mean_of([first, *others], element)
            self._progress(array.nbytes)
            return array

        return Deferred(first.shape, first.dtype, make)


def _mean_of(arrays: Sequence[Any], element: np.dtype) -> np.ndarray:
    """Return the mean of arrays of one shape whose memory holds floating-point elements."""
    result = np.empty(arrays[0].shape, arrays[0].dtype)
    flat, start = result.reshape(-1).view(element), 0
    with np.errstate(all="ignore"):  # opposite infinities have no mean
        for blocks in zip(*map(blocks_of, arrays), strict=True):
            rows = [block.view(element).astype(np.float64) for block in blocks]
            mean = np.add.reduce(rows) / len(rows)
            flat[start : start + mean.size] = mean.astype(element)
            start += mean.size
    return result


def _element_of(packed: Packed, kept: str, path: str) -> np.dtype | None:
    """Return the dtype in which to average the memory of a stored tensor, or None if it holds no floating point.

    Raises StateError if its names interpret it as different numbers.
    """
    views = {name: alias.view for name, alias in packed.aliases.items() if alias.kept == kept and alias.view}
    names = {name: view.dtype for name, view in views.items()}
    if kept not in packed.storages:
        names[kept] = dtypes.name_of(packed.stored[kept].dtype, kept)
    elements = {_PART_OF.get(dtype, dtype) for dtype in names.values()}
    if not any(map(_is_floating, elements)):
        return None
    element = dtypes.numpy_dtype(min(elements))
    steps = [step for view in views.values() for step in (view.offset, *view.strides)]
    if len(elements) > 1 or any(step % element.itemsize for step in steps):
        known = ", ".join(f"{name!r} ({dtype})" for name, dtype in names.items())
        raise StateError(
            f"{known} share memory in {path} as different numbers, which have no average. Save the state without one "
            "of them."
        )
    return element


_PART_OF = {"C64": "F32", "C128": "F64"}  # the mean of complex numbers is the mean of their parts


def _is_floating(dtype: str) -> bool:
    return dtype.startswith(("F", "BF"))


def _problems(first: Side, other: Side) -> Iterator[str]:
    """Yield a line for each difference that keeps two states from being averaged."""
    for one, two in ((first, other), (other, first)):
        known = set(two.names)
        yield from (f"{name}  is only in {one.name}" for name in one.names if name not in known)
    for name, tensor in first.tensors.items():
        found = other.tensors.get(name, tensor)
        if found != tensor:
            yield f"{name}  is {kind_text(tensor)} in {first.name}, {kind_text(found)} in {other.name}"
    changes = {change.name: change for change in tie_changes(first, other)}
    for name, change in changes.items():
        was, now = (f"tied to {kept}" if kept else "not tied to it" for kept in (change.before, change.after))
        same = "shares other parts of its memory"
        yield f"{name}  {same if was == now else f'is {was} in {first.name}, {now} in {other.name}'}"
    if first.tensors == other.tensors and not changes:
        yield from (f"{name}  shares its memory in a different way" for name in _rearranged(first, other))


def _rearranged(first: Side, other: Side) -> Iterator[str]:
    """Yield the stored tensors whose bytes represent different elements in the other file."""
    for name, array in first.packed.stored.items():
        kept, view = other.place(name)
        found = other.packed.stored.get(kept)
        is_same_order = first.packed.layouts.get(name) == other.packed.layouts.get(kept)
        if found is None or view is not None or found.shape != array.shape or not is_same_order:
            yield next((alias for alias, (of, _) in first.packed.aliases.items() if of == name), name)
