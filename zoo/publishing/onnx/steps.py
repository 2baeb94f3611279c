"""A step: one operation, as both traces have it."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from .graph import Graph, Pair


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
