"""A step: one operation, as both traces have it."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from ....core import Module
from ...errors import ExportError
from .graph import Graph, Pair
from .tracing import Operation, Trace


class Step(NamedTuple):
    """An operation in both traces. arguments: equal in both, except arrays, of which there is a pair."""

    name: str
    out: Pair
    operands: tuple[Pair, ...]
    arguments: Mapping[str, Any]


# Adds the nodes of a step to a graph, and returns the name of its result.
Translate = Callable[[Graph, Step], str]


def cast(graph: Graph, name: str, dtype: Any) -> str:
    """Add a cast and return the name of its result."""
    return graph.node("Cast", [name], to=graph.onnx.helper.np_dtype_to_tensor_dtype(dtype))


def steps_of(model: Module, traces: tuple[Trace, Trace]) -> list[Step]:
    """Return what the model computes. Raises ExportError if it computes something else in the other trace."""
    one, other = (traced.operations for traced in traces)
    if [step.name for step in one] != [step.name for step in other]:
        raise ExportError(
            f"{type(model).__name__} computes something else for another batch size or other values. "
            "Write its forward() without branches and loops that depend on them."
        )
    return list(map(_step, one, other))


def _step(one: Operation, other: Operation) -> Step:
    arguments = {name: _paired(value, other.arguments[name]) for name, value in one.arguments.items()}
    return Step(one.name, (one.out, other.out), tuple(zip(one.operands, other.operands, strict=True)), arguments)


def _paired(one: Any, other: Any) -> Any:
    """Return an argument that is equal in both traces, or the pair of an array. Raises ExportError for any other."""
    if isinstance(one, np.ndarray):
        return one, other
    if type(one) is tuple:
        return tuple(map(_paired, one, other))
    if repr(one) != repr(other):  # NaN is not equal to itself
        raise ExportError(
            f"The model uses the number {one!r}, which follows the batch: for another one, it is {other!r}. "
            "Compute it with operations of Tensors."
        )
    return one
