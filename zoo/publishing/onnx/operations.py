"""What each traced operation is in ONNX, by the name that it passes to `record`."""

from ...errors import ExportError
from .activations import ACTIVATIONS
from .graph import Graph
from .layers import attention, batch_norm, embedding, gelu, layer_norm, linear, packed_attention, softmax
from .recurrent import recurrence
from .reductions import position, reduction, std, variance
from .shaping import cat, expand, getitem, permute, reshape, stack, transpose
from .spatial import TABLE as SPATIAL
from .steps import Step, Translate, cast


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


def _clamp(graph: Graph, step: Step) -> str:
    bounds = [step.arguments[key] for key in ("low", "high")]
    return graph.node("Clip", [graph.value(step.operands[0]), *("" if b is None else graph.value(b) for b in bounds)])


def _masked_fill(graph: Graph, step: Step) -> str:
    x = step.operands[0]
    value = graph.constant(step.arguments["value"], x[0].dtype)
    return graph.node("Where", [graph.value(step.arguments["mask"]), value, graph.value(x)])


def _where(graph: Graph, step: Step) -> str:
    return graph.node("Where", map(graph.value, (step.arguments["condition"], *step.operands)))


def _to(graph: Graph, step: Step) -> str:
    return cast(graph, graph.value(step.operands[0]), step.out[0].dtype)


TABLE: dict[str, Translate] = {
    **SPATIAL,
    **ACTIVATIONS,
    "abs": _elementwise("Abs"),
    "add": _elementwise("Add"),
    "argmax": position("ArgMax"),
    "argmin": position("ArgMin"),
    "batch_norm": batch_norm,
    "bitwise_and": _logical("And"),
    "bitwise_or": _logical("Or"),
    "cat": cat,
    "clamp": _clamp,
    "clone": _identity,
    "divide": _elementwise("Div"),
    "embedding": embedding,
    "equal": _elementwise("Equal"),
    "exp": _elementwise("Exp"),
    "expand": expand,
    "gelu": gelu,
    "getitem": getitem,
    "greater": _elementwise("Greater"),
    "greater_equal": _elementwise("GreaterOrEqual"),
    "gru": recurrence("gru"),
    "invert": _logical("Not"),
    "layer_norm": layer_norm,
    "less": _elementwise("Less"),
    "less_equal": _elementwise("LessOrEqual"),
    "linear": linear,
    "log": _elementwise("Log"),
    "log_softmax": softmax("LogSoftmax"),
    "lstm": recurrence("lstm"),
    "masked_fill": _masked_fill,
    "matmul": _elementwise("MatMul"),
    "max": reduction("ReduceMax"),
    "mean": reduction("ReduceMean"),
    "min": reduction("ReduceMin"),
    "multiply": _elementwise("Mul"),
    "negative": _elementwise("Neg"),
    "not_equal": _unequal,
    "packed_attention": packed_attention,
    "permute": permute,
    "power": _elementwise("Pow"),
    "relu": _elementwise("Relu"),
    "reshape": reshape,
    "rnn_relu": recurrence("rnn_relu"),
    "rnn_tanh": recurrence("rnn_tanh"),
    "scaled_dot_product_attention": attention,
    "sigmoid": _elementwise("Sigmoid"),
    "softmax": softmax("Softmax"),
    "sqrt": _elementwise("Sqrt"),
    "squeeze": reshape,
    "stack": stack,
    "std": std,
    "subtract": _elementwise("Sub"),
    "sum": reduction("ReduceSum"),
    "tanh": _elementwise("Tanh"),
    "to": _to,
    "transpose": transpose,
    "unsqueeze": reshape,
    "var": variance,
    "where": _where,
}
