"""Operations that move elements, in ONNX."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...errors import ExportError
from .graph import Graph, Sizes, sizes_of
from .steps import Step

_FIRST, _LAST = np.iinfo(np.int64).min, np.iinfo(np.int64).max


def reshape(graph: Graph, step: Step) -> str:
    return reshaped(graph, graph.value(step.operands[0]), sizes_of(step.out), sizes_of(step.operands[0]))


def reshaped(graph: Graph, name: str, sizes: list[Sizes], of: list[Sizes]) -> str:
    return graph.node("Reshape", [name, graph.shape(sizes, of)])


def expand(graph: Graph, step: Step) -> str:
    return graph.node("Expand", [graph.value(step.operands[0]), graph.runtime_shape(sizes_of(step.out))])


def permute(graph: Graph, step: Step) -> str:
    return graph.node("Transpose", [graph.value(step.operands[0])], perm=list(step.arguments["axes"]))


def transpose(graph: Graph, step: Step) -> str:
    axes = list(range(step.out[0].ndim))
    first, second = step.arguments["axes"]
    axes[first], axes[second] = axes[second], axes[first]
    return graph.node("Transpose", [graph.value(step.operands[0])], perm=axes)


def stack(graph: Graph, step: Step) -> str:
    axis = step.arguments["axis"] % step.out[0].ndim
    where = graph.constant([axis], np.int64)
    parts = [graph.node("Unsqueeze", [graph.value(part), where]) for part in step.operands]
    return graph.node("Concat", parts, axis=axis)


def cat(graph: Graph, step: Step) -> str:
    return graph.node("Concat", map(graph.value, step.operands), axis=step.arguments["axis"] % step.out[0].ndim)


def getitem(graph: Graph, step: Step) -> str:
    """Translate an index of ints, slices, None and at most one array of positions."""
    index = _without_ellipsis(step.arguments["index"], step.operands[0][0].ndim)
    taken = [part for part in index if part is not None]
    positions = [(axis, part) for axis, part in enumerate(taken) if isinstance(part, tuple)]
    if any(part[0].dtype.kind not in "iu" for _, part in positions):
        raise ExportError("An index of booleans has no counterpart in ONNX. Use where() or masked_fill().")
    name = _sliced(graph, graph.value(step.operands[0]), taken)
    if positions:
        if len(positions) > 1 or not all(isinstance(part, slice | tuple) for part in index):
            raise ExportError("An index of several arrays, or of an array beside ints or None, cannot be exported.")
        axis, part = positions[0]
        return graph.node("Gather", [name, graph.value(part)], axis=axis)
    sizes = _sliced_sizes(step, taken)
    return name if sizes == sizes_of(step.out) else reshaped(graph, name, sizes_of(step.out), sizes)


def _without_ellipsis(index: tuple[Any, ...], ndim: int) -> tuple[Any, ...]:
    where = next((i for i, part in enumerate(index) if part is Ellipsis), None)
    if where is None:
        return index
    taken = sum(part is not None and part is not Ellipsis for part in index)
    return (*index[:where], *[slice(None)] * (ndim - taken), *index[where + 1 :])


def _sliced(graph: Graph, name: str, parts: Sequence[Any]) -> str:
    """Add the Slice of the parts that are slices or ints, which keep their axis, and return its name."""
    found = [(axis, *_bounds(part)) for axis, part in enumerate(parts) if not isinstance(part, tuple)]
    found = [bounds for bounds in found if bounds[1:] != (0, _LAST, 1)]
    if not found:
        return name
    axes, starts, ends, steps = (graph.constant(column, np.int64) for column in zip(*found, strict=True))
    return graph.node("Slice", [name, starts, ends, axes, steps])


def _bounds(part: slice | int) -> tuple[int, int, int]:
    """Return start, end and step, with the largest and smallest numbers for the ends of an axis."""
    if not isinstance(part, slice):
        return int(part), int(part) + 1 if part != -1 else _LAST, 1
    first, last = (_LAST, _FIRST) if (part.step or 1) < 0 else (0, _LAST)
    return (
        first if part.start is None else int(part.start),
        last if part.stop is None else int(part.stop),
        int(part.step or 1),
    )


def _sliced_sizes(step: Step, parts: Sequence[Any]) -> list[Sizes]:
    """Return the sizes after the slices, with 1 for each int."""
    kept = tuple(part if isinstance(part, slice) else slice(part, part + 1 or None) for part in parts)
    one, other = (np.broadcast_to(np.empty((), bool), array.shape)[kept] for array in step.operands[0])
    return sizes_of((one, other))
