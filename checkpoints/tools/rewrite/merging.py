"""Merging checkpoints of one architecture: averages, weighted sums, differences to a base, and LoRA adapters."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import reduce
from typing import Any, Literal, get_args

import numpy as np

from ...errors import ArgumentError, MismatchError, StateError, enough_memory
from ...files import open_checkpoint, save_file
from ...reading.lazy import Checkpoint
from ...reading.progress import Progress, silent
from ...state import dtypes
from ...state.deferred import Deferred
from ...state.sharing import Packed
from ..blocks import blocks_of
from ..compare.side import Side, tie_changes
from ..printing import kind_text
from .lora import Adapted

Method = Literal["average", "sum", "difference", "lora"]


@enough_memory("the checkpoints were not merged", "Free some memory.")
def merge(
    paths: Sequence[Any],
    out: str | os.PathLike[str],
    *,
    weights: Sequence[float] | None = None,
    method: Method = "average",
    progress: Progress | None = None,
) -> None:
    """Write a checkpoint made from several to `out`, with the names, ties, views, dtypes and metadata of the first.

    paths: files as for load_file, or open Checkpoints. out: a path, whose suffix picks the format; it may be one of the
    sources. progress: called with the number of bytes merged since the last call. In the formulas, x are the values of
    a tensor in the sources, and w the weights:

    method        weights               result
    "average"     one for each, or 1    sum(w[i] * x[i]) / sum(w)
    "sum"         one for each, or 1    sum(w[i] * x[i])
    "difference"  one for each but the  x[0] + sum(w[i] * (x[i] - x[0])): the first is the base, and the others are
                  first, or 1           fine-tuned from it (task arithmetic, Ilharco et al. 2023, arXiv:2212.04089)
    "lora"        the same, or the      x[0] + sum(w[i] * B[i] @ A[i]): the others are adapters (see lora.py)
                  alpha / r of each

    Floating-point and complex tensors are computed in float64 and then rounded. Shared memory is counted once.
    Everything else is copied from the first source: integers (such as num_batches_tracked), booleans, extra state,
    metadata and the order of names. Only one tensor at a time is in memory.

    Raises MismatchError listing every difference between the sources, ArgumentError for weights that do not fit,
    CorruptError for a damaged tensor, StateError for float and integer tensors that share memory, WriteError or another
    CheckpointError; `out` is unchanged in that case.
    """
    if isinstance(paths, str | bytes | os.PathLike) or not isinstance(paths, Sequence) or not paths:
        raise ArgumentError("merge() takes a list of files, such as [first.h5, second.h5].")
    if method not in get_args(Method):
        raise ArgumentError(f"method is one of {', '.join(map(repr, get_args(Method)))}, not {method!r:.60}.")
    has_base = method in ("difference", "lora")
    if has_base and len(paths) < 2:
        raise ArgumentError(f"method={method!r} takes a base and one or more other files.")
    checked = _checked_weights(weights, len(paths) - has_base, method)
    with ExitStack() as files:
        opened = [_opened(path, files) for path in paths]
        if method == "lora":
            merged: Checkpoint = Adapted(opened[0], opened[1:], checked, progress or silent)
        else:
            merged = _Merged(opened, checked or [1.0] * (len(paths) - has_base), method, progress or silent)
        save_file(merged, out, merged.metadata)


def _opened(path: Any, files: ExitStack) -> Checkpoint:
    return path if isinstance(path, Checkpoint) else files.enter_context(open_checkpoint(path))


def _checked_weights(weights: Sequence[float] | None, count: int, method: Method) -> list[float] | None:
    if weights is None:
        return None
    try:
        found = [float(weight) for weight in weights]
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"weights is a list of numbers, not {weights!r:.60}.") from error
    if len(found) != count:
        what = "each file" if method in ("average", "sum") else "each file but the first, which is the base"
        raise ArgumentError(f"weights has {len(found):,} numbers, and {count:,} are needed: one for {what}.")
    if not all(map(math.isfinite, found)):
        raise ArgumentError(f"weights are finite numbers, not {weights!r:.60}.")
    if method == "average" and not sum(found):
        raise ArgumentError('the weights of an average must not add up to 0. Use method="sum" or "difference".')
    return found


class _Merged(Checkpoint):
    """The first of several checkpoints, with its values merged with those of the others."""

    def __init__(self, sources: list[Checkpoint], weights: list[float], method: Method, progress: Progress) -> None:
        super().__init__(sources[0]._reader)
        self._weights, self._method, self._progress = weights, method, progress
        first, *self._others = map(Side, sources)
        problems = {other.name: list(_problems(first, other)) for other in self._others}
        if any(problems.values()):
            names = [name for name, lines in problems.items() if lines]
            raise MismatchError(
                names[0] if len(names) == 1 else f"each of {', '.join(names)}",
                first.name,
                list(dict.fromkeys(line for lines in problems.values() for line in lines)),
                "Merge checkpoints of one architecture, saved in the same way.",
            )

    def packed(self) -> Packed:
        """Return the result. Its arrays are computed later."""
        packed = super().packed()
        packed.stored = {name: self._later(packed, name) for name in packed.stored}
        return packed

    def _later(self, packed: Packed, name: str) -> Deferred:
        first, element = packed.stored[name], _element_of(packed, name, self.name)
        # Another file may store a tie under another of its names.
        others = [other.packed.stored[other.place(name)[0]] for other in self._others]

        def make() -> np.ndarray:
            array = np.asarray(first) if element is None else self._merged([first, *others], element)
            self._progress(array.nbytes)
            return array

        return Deferred(first.shape, first.dtype, make)

    def _merged(self, arrays: Sequence[Any], element: np.dtype) -> np.ndarray:
        """Merge arrays of one shape whose memory holds floating-point elements."""
        result = np.empty(arrays[0].shape, arrays[0].dtype)
        flat, start = result.reshape(-1).view(element), 0
        with np.errstate(all="ignore"):  # opposite infinities have no mean
            for blocks in zip(*map(blocks_of, arrays), strict=True):
                merged = self._of([block.view(element).astype(np.float64) for block in blocks])
                flat[start : start + merged.size] = merged.astype(element)
                start += merged.size
        return result

    def _of(self, values: list[np.ndarray]) -> np.ndarray:
        if self._method == "difference":
            base, *others = values
            pairs = zip(self._weights, others, strict=True)
            change = reduce(np.add, [weight * (other - base) for weight, other in pairs])
            return np.where(change == 0, base, base + change)  # -0.0 stays -0.0
        total = reduce(np.add, [weight * value for weight, value in zip(self._weights, values, strict=True)])
        return total / sum(self._weights) if self._method == "average" else total


def _element_of(packed: Packed, kept: str, path: str) -> np.dtype | None:
    """Return the dtype of the numbers in the memory of a stored tensor, or None if it holds no floating point.

    Raises StateError if its names interpret it as different numbers.
    """
    views = {name: alias.view for name, alias in packed.aliases.items() if alias.kept == kept and alias.view}
    names = {name: view.dtype for name, view in views.items()}
    if kept not in packed.storages:
        names[kept] = dtypes.name_of(packed.stored[kept].dtype, kept)
    elements = {_PART_OF.get(dtype, dtype) for dtype in names.values()}
    if not any(map(dtypes.is_floating, elements)):
        return None
    element = dtypes.numpy_dtype(min(elements))
    steps = [step for view in views.values() for step in (view.offset, *view.strides)]
    if len(elements) > 1 or any(step % element.itemsize for step in steps):
        known = ", ".join(f"{name!r} ({dtype})" for name, dtype in names.items())
        raise StateError(
            f"{known} share memory in {path} as different numbers, which cannot be merged. Save the state without one "
            "of them."
        )
    return element


_PART_OF = {"C64": "F32", "C128": "F64"}  # real factors scale the parts of a complex number alike


def _problems(first: Side, other: Side) -> Iterator[str]:
    """Yield a line for each difference that keeps two states from being merged."""
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
