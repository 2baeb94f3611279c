"""The operations of signals and images, and the normalizations beside batch norm, in ONNX."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...errors import ExportError
from .graph import Graph, sizes_of
from .shaping import reshaped
from .steps import Step, Translate


def convolution(graph: Graph, step: Step) -> str:
    x, weight = step.operands[:2]
    if x[0].ndim != weight[0].ndim:
        raise ExportError(f"{step.name} without a batch axis cannot be exported.")
    given = step.arguments
    options = {"strides": given["stride"], "dilations": given["dilation"], "group": given["groups"]}
    if "output_padding" in given:
        options["output_padding"] = given["output_padding"]
        pads, kind = [(size, size) for size in given["padding"]], "ConvTranspose"
    else:
        pads, kind = given["pads"], "Conv"
    return graph.node(kind, map(graph.value, step.operands), step.name, pads=_in_order(pads), **options)


def max_pool(graph: Graph, step: Step) -> str:
    given = step.arguments
    options = {"kernel_shape": given["kernel_size"], "strides": given["stride"], "dilations": given["dilation"]}
    return graph.node("MaxPool", [_batched(graph, step)], step.name, pads=_in_order(given["pads"]), **options)


def avg_pool(graph: Graph, step: Step) -> str:
    given = step.arguments
    if given["ceil_mode"] or given["divisor_override"] is not None:
        raise ExportError(f"{step.name} with ceil_mode or divisor_override has no counterpart in ONNX.")
    options = {"kernel_shape": given["kernel_size"], "strides": given["stride"], "pads": _in_order(given["pads"])}
    counted = int(given["count_include_pad"])
    return graph.node("AveragePool", [_batched(graph, step)], step.name, count_include_pad=counted, **options)


def adaptive_max_pool(graph: Graph, step: Step) -> str:
    counts = step.arguments["output_size"]
    sizes = step.operands[0][0].shape[-len(counts) :]
    if any(size % count for size, count in zip(sizes, counts, strict=True)):
        raise ExportError(f"{step.name} of {sizes} to {counts} has windows of unequal size, which ONNX has not.")
    kernel = [size // count for size, count in zip(sizes, counts, strict=True)]
    return graph.node("MaxPool", [_batched(graph, step)], step.name, kernel_shape=kernel, strides=kernel)


def resized(graph: Graph, step: Step) -> str:
    """Translate a linear map along each of the last axes, or a choice of positions along them."""
    x, dtype, given = step.operands[0], step.out[0].dtype, step.arguments
    name = graph.value(x)
    if "places" in given:
        for axis, places in enumerate(given["places"], x[0].ndim - len(given["places"])):
            name = graph.node("Gather", [name, graph.constant(places, np.int64)], step.name, axis=axis)
        return name
    if len(given["matrices"]) > 2:
        raise ExportError(f"{step.name} over three axes cannot be exported.")
    name = graph.node("MatMul", [name, graph.constant(given["matrices"][-1].T, dtype)], step.name)
    if len(given["matrices"]) == 2:
        name = graph.node("MatMul", [graph.constant(given["matrices"][0], dtype), name], step.name)
    return name


def pad(graph: Graph, step: Step) -> str:
    x, given = step.operands[0], step.arguments
    if given["mode"] != "constant":
        return resized(graph, step)
    ends = given["pad"]
    pairs = [(0, 0)] * (x[0].ndim - len(ends) // 2) + list(zip(ends[::2], ends[1::2], strict=True))[::-1]
    value = graph.constant(given["value"] or 0, x[0].dtype)
    return graph.node("Pad", [graph.value(x), graph.constant(_in_order(pairs), np.int64), value], "pad")


def group_norm(graph: Graph, step: Step) -> str:
    x, given = step.operands[0], step.arguments
    (channels, _), groups, dtype = sizes_of(x)[1], given["num_groups"], x[0].dtype
    grouped = graph.node("Reshape", [graph.value(x), graph.constant([0, groups, -1], np.int64)])
    even = [graph.constant(np.full(groups, value, dtype)) for value in (1, 0)]
    normal = graph.node("InstanceNormalization", [grouped, *even], step.name, epsilon=given["eps"])
    whole = [(groups, groups), (math.prod(x[0].shape[1:]) // groups,) * 2]
    name = reshaped(graph, normal, sizes_of(step.out), [sizes_of(x)[0], *whole])
    column = graph.constant([channels, *[1] * (x[0].ndim - 2)], np.int64)
    for kind, key in (("Mul", "weight"), ("Add", "bias")):
        if given[key] is not None:
            name = graph.node(kind, [name, graph.node("Reshape", [graph.value(given[key]), column])])
    return name


def rms_norm(graph: Graph, step: Step) -> str:
    x, given = step.operands[0], step.arguments
    name, axes = graph.value(x), list(range(-len(given["normalized_shape"]), 0))
    mean = graph.node("ReduceMean", [graph.node("Mul", [name, name])], axes=axes, keepdims=1)
    root = graph.node("Sqrt", [graph.node("Add", [mean, graph.constant(given["eps"], x[0].dtype)])])
    normal = graph.node("Div", [name, root], step.name)
    return normal if given["weight"] is None else graph.node("Mul", [normal, graph.value(given["weight"])])


def _batched(graph: Graph, step: Step) -> str:
    """Return the name of the input. Raises ExportError if it has no batch axis: ONNX then takes the channels for it."""
    if step.operands[0][0].ndim != len(step.arguments.get("output_size", step.arguments.get("kernel_size", ()))) + 2:
        raise ExportError(f"{step.name} without a batch axis cannot be exported.")
    return graph.value(step.operands[0])


def _in_order(pads: Sequence[tuple[int, int]]) -> list[int]:
    """Return the numbers before each axis, then those after, as ONNX has them."""
    return [low for low, _ in pads] + [high for _, high in pads]


def _each(name: str, translate: Translate) -> dict[str, Any]:
    return {f"{name}{dims}d": translate for dims in (1, 2, 3)}


TABLE: dict[str, Translate] = {
    **_each("conv", convolution),
    **_each("conv_transpose", convolution),
    **_each("max_pool", max_pool),
    **_each("avg_pool", avg_pool),
    **_each("adaptive_avg_pool", resized),
    **_each("adaptive_max_pool", adaptive_max_pool),
    "group_norm": group_norm,
    "interpolate": resized,
    "pad": pad,
    "rms_norm": rms_norm,
}
