"""Reductions, in ONNX."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ...errors import ExportError
from .graph import Graph
from .steps import Step, Translate, cast


def reduction(kind: str) -> Translate:
    def translate(graph: Graph, step: Step) -> str:
        x, dtype = step.operands[0], step.out[0].dtype
        name = graph.value(x) if x[0].dtype == dtype else cast(graph, graph.value(x), dtype)  # a sum of small integers
        return _reduced(graph, kind, name, step.arguments)

    return translate


def _reduced(graph: Graph, kind: str, name: str, arguments: Mapping[str, Any], keep: bool | None = None) -> str:
    keepdims = int(arguments["keepdim"] if keep is None else keep)
    axes = [int(axis) for axis in arguments["axes"]]
    if kind == "ReduceSum":  # the only one of this opset whose axes are an input
        return graph.node(kind, [name, graph.constant(axes, np.int64)], keepdims=keepdims, noop_with_empty_axes=1)
    return graph.node(kind, [name], axes=axes, keepdims=keepdims) if axes else name


def variance(graph: Graph, step: Step) -> str:
    x, arguments = step.operands[0], step.arguments
    counts = [math.prod(array.shape[axis] for axis in arguments["axes"]) for array in x]
    name = graph.value(x)
    centred = graph.node("Sub", [name, _reduced(graph, "ReduceMean", name, arguments, keep=True)])
    mean = _reduced(graph, "ReduceMean", graph.node("Mul", [centred, centred]), arguments)
    if not arguments["correction"]:
        return mean
    if counts[0] != counts[1]:
        raise ExportError(f"{step.name} over the batch, divided by n - {arguments['correction']}, cannot be exported.")
    factor = counts[0] / (counts[0] - arguments["correction"]) if counts[0] > arguments["correction"] else math.nan
    return graph.node("Mul", [mean, graph.constant(factor, x[0].dtype)])


def std(graph: Graph, step: Step) -> str:
    return graph.node("Sqrt", [variance(graph, step)])


def position(kind: str) -> Translate:
    def translate(graph: Graph, step: Step) -> str:
        if step.arguments["dim"] is None:
            raise ExportError(f"{step.name} over all axes cannot be exported. Name the axis.")
        axis = step.arguments["dim"] % step.operands[0][0].ndim
        keepdims = int(step.arguments["keepdim"])
        return graph.node(kind, [graph.value(step.operands[0])], axis=axis, keepdims=keepdims)

    return translate
