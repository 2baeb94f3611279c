"""The operations of layers, in ONNX."""

import math

import numpy as np

from ...errors import ExportError
from .graph import Graph, Pair, sizes_of
from .shaping import reshaped
from .steps import Step, Translate, cast


def linear(graph: Graph, step: Step) -> str:
    x, weight, *bias = step.operands
    if x[0].ndim == 2:
        return graph.node("Gemm", map(graph.value, step.operands), "linear", transB=1)
    turned = graph.node("Transpose", [graph.value(weight)], perm=[1, 0])
    product = graph.node("MatMul", [graph.value(x), turned], "linear")
    return graph.node("Add", [product, graph.value(bias[0])]) if bias else product


def embedding(graph: Graph, step: Step) -> str:
    return graph.node(
        "Gather", [graph.value(step.operands[0]), graph.value(step.arguments["ids"])], "embedding", axis=0
    )


def gelu(graph: Graph, step: Step) -> str:
    (x,), dtype = step.operands, step.operands[0][0].dtype

    def number(value: float) -> str:
        return graph.constant(value, dtype)

    name = graph.value(x)
    if step.arguments["approximate"] == "tanh":
        cubic = graph.node("Mul", [graph.node("Mul", [name, name]), number(0.044715)])
        inner = graph.node(
            "Mul", [graph.node("Mul", [name, graph.node("Add", [cubic, number(1)])]), number(math.sqrt(2 / math.pi))]
        )
        bent = graph.node("Tanh", [inner])
    else:
        bent = graph.node("Erf", [graph.node("Mul", [name, number(math.sqrt(0.5))])])
    half = graph.node("Mul", [name, number(0.5)])
    return graph.node("Mul", [half, graph.node("Add", [bent, number(1)])], "gelu")


def softmax(kind: str) -> Translate:
    def translate(graph: Graph, step: Step) -> str:
        (x,) = step.operands
        return graph.node(kind, [graph.value(x)], step.name, axis=step.arguments["dim"] % x[0].ndim)

    return translate


def layer_norm(graph: Graph, step: Step) -> str:
    x, weight, bias = step.operands[0], step.arguments["weight"], step.arguments["bias"]
    shape = step.arguments["normalized_shape"]
    scale = graph.constant(np.ones(shape, x[0].dtype)) if weight is None else graph.value(weight)
    inputs = [graph.value(x), scale, *([] if bias is None else [graph.value(bias)])]
    return graph.node("LayerNormalization", inputs, "layer_norm", axis=-len(shape), epsilon=step.arguments["eps"])


def batch_norm(graph: Graph, step: Step) -> str:
    arguments, x = step.arguments, step.operands[0]
    if arguments["training"]:
        raise ExportError("batch_norm with the statistics of the batch cannot be exported. Keep running statistics.")
    channels, dtype = x[0].shape[1], x[0].dtype
    defaults = {"weight": np.ones(channels, dtype), "bias": np.zeros(channels, dtype)}
    scale = [
        graph.constant(one) if arguments[key] is None else graph.value(arguments[key]) for key, one in defaults.items()
    ]
    inputs = [graph.value(x), *scale, graph.value(arguments["running_mean"]), graph.value(arguments["running_var"])]
    return graph.node("BatchNormalization", inputs, "batch_norm", epsilon=arguments["eps"])


# --- attention


def attention(graph: Graph, step: Step) -> str:
    q, k, v = step.operands[:3]
    axes = [*range(k[0].ndim - 2), k[0].ndim - 1, k[0].ndim - 2]
    turned = graph.node("Transpose", [graph.value(k)], perm=axes)
    return _attended(graph, step, (graph.value(q), turned, graph.value(v)), (q, k), q[0].shape[-1])


def packed_attention(graph: Graph, step: Step) -> str:
    packed, heads = step.operands[0], step.arguments["num_heads"]
    batch, length, features = sizes_of(packed)
    d = features[0] // (3 * heads)
    split = [batch, length, (3, 3), (heads, heads), (d, d)]
    name = reshaped(graph, graph.value(packed), split, sizes_of(packed))
    q, k, v = (
        graph.node("Transpose", [graph.node("Gather", [name, graph.constant(i, np.int64)], axis=2)], perm=perm)
        for i, perm in enumerate(([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]))
    )  # (B, T, 3, heads, d) -> (B, heads, T, d), and (B, heads, d, T) for k
    out = _attended(graph, step, (q, k, v), (packed, packed), d)
    joined = graph.node("Transpose", [out], perm=[0, 2, 1, 3])
    return reshaped(graph, joined, sizes_of(step.out), [batch, length, (heads, heads), (d, d)])


def _attended(graph: Graph, step: Step, names: tuple[str, str, str], sides: tuple[Pair, Pair], d: int) -> str:
    """Add the softmax of the scores and its product with v. Return its name.

    names: of q, of k with its last two axes swapped, of v. sides: arrays with the positions of q and of k as the last
    axis but one. A position that may attend to nothing gets 0, as in our operation; a softmax alone would give NaN.
    """
    arguments, dtype, mask = step.arguments, step.operands[0][0].dtype, step.arguments["attn_mask"]
    if arguments["dropout_p"]:
        raise ExportError(f"{step.name} with dropout in eval mode draws random numbers, which cannot be exported.")
    scale = arguments.get("scale")
    scaled = graph.node("Mul", [names[0], graph.constant(1 / math.sqrt(d or 1) if scale is None else scale, dtype)])
    scores = graph.node("MatMul", [scaled, names[1]], "scores")
    never = graph.constant(-np.inf, dtype)
    if arguments["is_causal"]:
        causal = graph.constant(np.tri(*_lengths(sides), dtype=bool))
        weights = _weights(graph, graph.node("Where", [causal, scores, never]))
    elif mask is None:
        weights = _weights(graph, scores)
    else:
        allowed, kind = graph.value(mask), mask[0].dtype
        if kind.kind == "b":
            masked = graph.node("Where", [allowed, scores, never])
        else:
            masked = graph.node("Add", [scores, allowed if kind == dtype else cast(graph, allowed, dtype)])
            allowed = graph.node("Greater", [allowed, graph.constant(np.finfo(kind).min, kind)])
        weights = graph.node("Where", [allowed, _weights(graph, masked), graph.constant(0, dtype)])
    return graph.node("MatMul", [weights, names[2]], "attention")


def _lengths(sides: tuple[Pair, Pair]) -> list[int]:
    lengths = [(one.shape[-2], other.shape[-2]) for one, other in sides]
    if any(one != other for one, other in lengths):
        raise ExportError("Causal attention between the examples of a batch cannot be exported.")
    return [one for one, _ in lengths]


def _weights(graph: Graph, scores: str) -> str:
    return graph.node("Softmax", [scores], "weights", axis=-1)
