"""What each traced operation is in ONNX.

A function takes the graph and a step, adds nodes and returns the name of the result. Its name in the table at the end
is the name that the operation passes to `record`.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from ...errors import ExportError
from .graph import Graph, Pair, Sizes, sizes_of

_FIRST, _LAST = np.iinfo(np.int64).min, np.iinfo(np.int64).max


class Step(NamedTuple):
    """An operation in both traces. arguments: those of the first trace, with a pair for an array."""

    name: str
    out: Pair
    operands: tuple[Pair, ...]
    arguments: Mapping[str, Any]


Translate = Callable[[Graph, Step], str]


def _elementwise(kind: str) -> Translate:
    return lambda graph, step: graph.node(kind, map(graph.value, step.operands))


def _unequal(graph: Graph, step: Step) -> str:
    return graph.node("Not", [graph.node("Equal", map(graph.value, step.operands))])


def _logical(kind: str) -> Translate:
    def translate(graph: Graph, step: Step) -> str:
        if any(one.dtype != bool for one, _ in step.operands):
            raise ExportError(f"{step.name} of integers has no counterpart in ONNX {kind}; it takes booleans.")
        return graph.node(kind, map(graph.value, step.operands))

    return translate


def _identity(graph: Graph, step: Step) -> str:
    return graph.node("Identity", [graph.value(step.operands[0])])


def _to(graph: Graph, step: Step) -> str:
    kind = graph.onnx.helper.np_dtype_to_tensor_dtype(step.out[0].dtype)
    return graph.node("Cast", [graph.value(step.operands[0])], to=kind)


def _clamp(graph: Graph, step: Step) -> str:
    bounds = [step.arguments[key] for key in ("low", "high")]
    return graph.node("Clip", [graph.value(step.operands[0]), *("" if b is None else graph.value(b) for b in bounds)])


def _masked_fill(graph: Graph, step: Step) -> str:
    x = step.operands[0]
    value = graph.constant(step.arguments["value"], x[0].dtype)
    return graph.node("Where", [graph.value(step.arguments["mask"]), value, graph.value(x)])


def _where(graph: Graph, step: Step) -> str:
    return graph.node("Where", map(graph.value, (step.arguments["condition"], *step.operands)))


# --- shapes


def _reshape(graph: Graph, step: Step) -> str:
    return _reshaped(graph, graph.value(step.operands[0]), sizes_of(step.out), sizes_of(step.operands[0]))


def _reshaped(graph: Graph, name: str, sizes: list[Sizes], of: list[Sizes]) -> str:
    return graph.node("Reshape", [name, graph.shape(sizes, of)])


def _expand(graph: Graph, step: Step) -> str:
    return graph.node("Expand", [graph.value(step.operands[0]), graph.runtime_shape(sizes_of(step.out))])


def _permute(graph: Graph, step: Step) -> str:
    return graph.node("Transpose", [graph.value(step.operands[0])], perm=list(step.arguments["axes"]))


def _transpose(graph: Graph, step: Step) -> str:
    axes = list(range(step.out[0].ndim))
    first, second = step.arguments["axes"]
    axes[first], axes[second] = axes[second], axes[first]
    return graph.node("Transpose", [graph.value(step.operands[0])], perm=axes)


def _stack(graph: Graph, step: Step) -> str:
    axis = step.arguments["axis"] % step.out[0].ndim
    where = graph.constant([axis], np.int64)
    parts = [graph.node("Unsqueeze", [graph.value(part), where]) for part in step.operands]
    return graph.node("Concat", parts, axis=axis)


def _cat(graph: Graph, step: Step) -> str:
    return graph.node("Concat", map(graph.value, step.operands), axis=step.arguments["axis"] % step.out[0].ndim)


def _getitem(graph: Graph, step: Step) -> str:
    """Translate an index of ints, slices, None and at most one array of positions."""
    source, name = step.operands[0], graph.value(step.operands[0])
    index = step.arguments["index"]
    taken = sum(part is not None and part is not Ellipsis for part in index)
    if Ellipsis in [part for part in index if not isinstance(part, tuple | np.ndarray)]:
        where = next(i for i, part in enumerate(index) if part is Ellipsis)
        index = (*index[:where], *[slice(None)] * (source[0].ndim - taken), *index[where + 1 :])
    starts, ends, axes, steps, gathered = [], [], [], [], []
    for axis, part in enumerate(part for part in index if part is not None):
        if isinstance(part, slice):
            if part == slice(None):
                continue
            backwards = (part.step or 1) < 0
            start = part.start if part.start is not None else _LAST if backwards else 0
            end = part.stop if part.stop is not None else _FIRST if backwards else _LAST
            bounds = (start, end, part.step or 1)
        elif isinstance(part, int | np.integer):
            bounds = (part, part + 1 if part != -1 else _LAST, 1)
        elif (
            isinstance(part, tuple)
            and len(part) == 2
            and isinstance(part[0], np.ndarray)
            and part[0].dtype.kind in "iu"
        ):
            gathered.append((axis, part))
            continue
        else:
            raise ExportError(f"An index of {type(part).__name__} has no counterpart in ONNX here.")
        for found, value in zip((starts, ends, steps), bounds, strict=True):
            found.append(int(value))
        axes.append(axis)
    if axes:
        name = graph.node("Slice", [name, *(graph.constant(part, np.int64) for part in (starts, ends, axes, steps))])
    if not gathered:
        sliced = _sliced_sizes(step, index)
        return name if sliced == sizes_of(step.out) and axes else _reshaped(graph, name, sizes_of(step.out), sliced)
    if len(gathered) > 1 or any(part is None or isinstance(part, int | np.integer) for part in index):
        raise ExportError("An index of several arrays, or of an array beside ints or None, has no counterpart in ONNX.")
    axis, positions = gathered[0]
    return graph.node("Gather", [name, graph.value(positions)], axis=axis)


def _sliced_sizes(step: Step, index: tuple[Any, ...]) -> list[Sizes]:
    """Return the sizes after the slices, with 1 for each int."""
    kept = tuple(
        slice(part, part + 1 or None) if isinstance(part, int | np.integer) else part
        for part in index
        if part is not None
    )
    one, other = (np.broadcast_to(np.empty((), bool), array.shape)[kept] for array in step.operands[0])
    return sizes_of((one, other))


# --- reductions


def _reduction(kind: str) -> Translate:
    def translate(graph: Graph, step: Step) -> str:
        return _reduced(graph, kind, _floats_or_long(graph, step), step.arguments)

    return translate


def _floats_or_long(graph: Graph, step: Step) -> str:
    x = step.operands[0]
    return graph.value(x) if x[0].dtype == step.out[0].dtype else _to(graph, step)


def _reduced(graph: Graph, kind: str, name: str, arguments: Mapping[str, Any], keep: bool | None = None) -> str:
    keepdims = int(arguments["keepdim"] if keep is None else keep)
    axes = [int(axis) for axis in arguments["axes"]]
    if kind == "ReduceSum":  # the only one of this opset whose axes are an input
        return graph.node(kind, [name, graph.constant(axes, np.int64)], keepdims=keepdims, noop_with_empty_axes=1)
    return graph.node(kind, [name], axes=axes, keepdims=keepdims) if axes else name


def _variance(graph: Graph, step: Step) -> str:
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


def _std(graph: Graph, step: Step) -> str:
    return graph.node("Sqrt", [_variance(graph, step)])


def _position(kind: str) -> Translate:
    def translate(graph: Graph, step: Step) -> str:
        if step.arguments["dim"] is None:
            raise ExportError(f"{step.name} over all axes cannot be exported. Name the axis.")
        axis = step.arguments["dim"] % step.operands[0][0].ndim
        keepdims = int(step.arguments["keepdim"])
        return graph.node(kind, [graph.value(step.operands[0])], axis=axis, keepdims=keepdims)

    return translate


# --- layers


def _linear(graph: Graph, step: Step) -> str:
    x, weight, *bias = step.operands
    if x[0].ndim == 2:
        return graph.node("Gemm", map(graph.value, step.operands), "linear", transB=1)
    turned = graph.node("Transpose", [graph.value(weight)], perm=[1, 0])
    product = graph.node("MatMul", [graph.value(x), turned], "linear")
    return graph.node("Add", [product, graph.value(bias[0])]) if bias else product


def _embedding(graph: Graph, step: Step) -> str:
    return graph.node(
        "Gather", [graph.value(step.operands[0]), graph.value(step.arguments["ids"])], "embedding", axis=0
    )


def _gelu(graph: Graph, step: Step) -> str:
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


def _softmax(kind: str) -> Translate:
    def translate(graph: Graph, step: Step) -> str:
        (x,) = step.operands
        return graph.node(kind, [graph.value(x)], step.name, axis=step.arguments["dim"] % x[0].ndim)

    return translate


def _layer_norm(graph: Graph, step: Step) -> str:
    x, weight, bias = step.operands[0], step.arguments["weight"], step.arguments["bias"]
    scale = graph.constant(np.ones(x[0].shape[-1], x[0].dtype)) if weight is None else graph.value(weight)
    inputs = [graph.value(x), scale, *([] if bias is None else [graph.value(bias)])]
    return graph.node("LayerNormalization", inputs, "layer_norm", axis=-1, epsilon=step.arguments["eps"])


def _batch_norm(graph: Graph, step: Step) -> str:
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


def _attention(graph: Graph, step: Step) -> str:
    q, k, v = step.operands[:3]
    axes = [*range(k[0].ndim - 2), k[0].ndim - 1, k[0].ndim - 2]
    turned = graph.node("Transpose", [graph.value(k)], perm=axes)
    return _attended(graph, step, (graph.value(q), turned, graph.value(v)), q[0], k[0].shape[-2])


def _packed_attention(graph: Graph, step: Step) -> str:
    (packed,), heads = step.operands[:1], step.arguments["num_heads"]
    (batch, length, features) = sizes_of(packed)
    d = features[0] // (3 * heads)
    split = [batch, length, (3, 3), (heads, heads), (d, d)]
    name = _reshaped(graph, graph.value(packed), split, sizes_of(packed))
    q, k, v = (
        graph.node("Transpose", [graph.node("Gather", [name, graph.constant(i, np.int64)], axis=2)], perm=perm)
        for i, perm in enumerate(([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]))
    )  # (B, T, 3, heads, d) -> (B, heads, T, d), and (B, heads, d, T) for k
    example = np.broadcast_to(np.empty((), packed[0].dtype), (length[0], d))
    if length[0] != length[1]:
        raise ExportError("Attention over the batch axis cannot be exported.")
    out = _attended(graph, step, (q, k, v), example, length[0])
    joined = graph.node("Transpose", [out], perm=[0, 2, 1, 3])
    return _reshaped(graph, joined, sizes_of(step.out), [batch, length, (heads, heads), (d, d)])


def _attended(graph: Graph, step: Step, names: tuple[str, str, str], q: np.ndarray, width: int) -> str:
    """Add the softmax of the scores and its product with v. names: of q, of k with its last two axes swapped, of v.

    A position that may attend to nothing gets 0, as in our operation; a softmax alone would give NaN.
    """
    arguments, dtype, mask = step.arguments, q.dtype, step.arguments["attn_mask"]
    if arguments["dropout_p"]:
        raise ExportError(f"{step.name} with dropout in eval mode draws random numbers, which cannot be exported.")
    scaled = graph.node("Mul", [names[0], graph.constant(1 / math.sqrt(q.shape[-1] or 1), dtype)])
    scores = graph.node("MatMul", [scaled, names[1]], "scores")
    never = graph.constant(-np.inf, dtype)
    if arguments["is_causal"]:
        causal = graph.constant(np.tri(q.shape[-2], width, dtype=bool))
        weights = _weights(graph, graph.node("Where", [causal, scores, never]))
    elif mask is None:
        weights = _weights(graph, scores)
    else:
        allowed, masked = graph.value(mask), scores
        if mask[0].dtype == bool:
            masked = graph.node("Where", [allowed, scores, never])
        else:
            masked = graph.node("Add", [scores, _cast(graph, allowed, mask[0].dtype, dtype)])
            allowed = graph.node("Greater", [allowed, graph.constant(np.finfo(mask[0].dtype).min, mask[0].dtype)])
        weights = graph.node("Where", [allowed, _weights(graph, masked), graph.constant(0, dtype)])
    return graph.node("MatMul", [weights, names[2]], "attention")


def _weights(graph: Graph, scores: str) -> str:
    return graph.node("Softmax", [scores], "weights", axis=-1)


def _cast(graph: Graph, name: str, was: np.dtype[Any], dtype: np.dtype[Any]) -> str:
    if was == dtype:
        return name
    return graph.node("Cast", [name], to=graph.onnx.helper.np_dtype_to_tensor_dtype(dtype))


TABLE: dict[str, Translate] = {
    "abs": _elementwise("Abs"),
    "add": _elementwise("Add"),
    "argmax": _position("ArgMax"),
    "argmin": _position("ArgMin"),
    "batch_norm": _batch_norm,
    "bitwise_and": _logical("And"),
    "bitwise_or": _logical("Or"),
    "cat": _cat,
    "clamp": _clamp,
    "clone": _identity,
    "divide": _elementwise("Div"),
    "embedding": _embedding,
    "equal": _elementwise("Equal"),
    "exp": _elementwise("Exp"),
    "expand": _expand,
    "gelu": _gelu,
    "getitem": _getitem,
    "greater": _elementwise("Greater"),
    "greater_equal": _elementwise("GreaterOrEqual"),
    "invert": _logical("Not"),
    "layer_norm": _layer_norm,
    "less": _elementwise("Less"),
    "less_equal": _elementwise("LessOrEqual"),
    "linear": _linear,
    "log": _elementwise("Log"),
    "log_softmax": _softmax("LogSoftmax"),
    "masked_fill": _masked_fill,
    "matmul": _elementwise("MatMul"),
    "max": _reduction("ReduceMax"),
    "mean": _reduction("ReduceMean"),
    "min": _reduction("ReduceMin"),
    "multiply": _elementwise("Mul"),
    "negative": _elementwise("Neg"),
    "not_equal": _unequal,
    "packed_attention": _packed_attention,
    "permute": _permute,
    "power": _elementwise("Pow"),
    "relu": _elementwise("Relu"),
    "reshape": _reshape,
    "scaled_dot_product_attention": _attention,
    "sigmoid": _elementwise("Sigmoid"),
    "softmax": _softmax("Softmax"),
    "sqrt": _elementwise("Sqrt"),
    "squeeze": _reshape,
    "stack": _stack,
    "std": _std,
    "subtract": _elementwise("Sub"),
    "sum": _reduction("ReduceSum"),
    "tanh": _elementwise("Tanh"),
    "to": _to,
    "transpose": _transpose,
    "unsqueeze": _reshape,
    "var": _variance,
    "where": _where,
}
