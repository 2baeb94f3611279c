"""The elementwise activations, in ONNX."""

from .graph import Graph
from .steps import Step, Translate


def _single(kind: str, **attributes: str | float) -> Translate:
    """Return the translation to one node. attributes: a number, or the name of the argument with its value."""

    def translate(graph: Graph, step: Step) -> str:
        given = {key: step.arguments[value] if isinstance(value, str) else value for key, value in attributes.items()}
        inputs, numbers = map(graph.value, step.operands), {key: float(value) for key, value in given.items()}
        return graph.node(kind, inputs, step.name, **numbers)

    return translate


def _limited(graph: Graph, step: Step) -> str:
    limits = [step.arguments.get(key, default) for key, default in (("min_val", 0), ("max_val", 6))]
    dtype = step.operands[0][0].dtype
    return graph.node("Clip", [graph.value(step.operands[0]), *(graph.constant(each, dtype) for each in limits)])


def _combined(kind: str, *inner: str) -> Translate:
    """Return the translation to kind(x, inner(x)). inner: the nodes that are applied to x, one after the other."""

    def translate(graph: Graph, step: Step) -> str:
        x = name = graph.value(step.operands[0])
        for each in inner:
            name = graph.node(each, [name])
        return graph.node(kind, [x, name])

    return translate


def _softplus(graph: Graph, step: Step) -> str:
    x, beta = step.operands[0], graph.constant(step.arguments["beta"], step.operands[0][0].dtype)
    return graph.node("Div", [graph.node("Softplus", [graph.node("Mul", [graph.value(x), beta])]), beta])


def _logsigmoid(graph: Graph, step: Step) -> str:
    turned = graph.node("Neg", [graph.value(step.operands[0])])
    return graph.node("Neg", [graph.node("Softplus", [turned])])


ACTIVATIONS: dict[str, Translate] = {
    "celu": _single("Celu", alpha="alpha"),
    "elu": _single("Elu", alpha="alpha"),
    "hardshrink": _single("Shrink", lambd="lambd", bias=0),
    "hardsigmoid": _single("HardSigmoid", alpha=1 / 6, beta=0.5),
    "hardswish": _single("HardSwish"),
    "hardtanh": _limited,
    "leaky_relu": _single("LeakyRelu", alpha="negative_slope"),
    "logsigmoid": _logsigmoid,
    "mish": _combined("Mul", "Softplus", "Tanh"),
    "relu6": _limited,
    "selu": _single("Selu"),
    "silu": _combined("Mul", "Sigmoid"),
    "softplus": _softplus,
    "softshrink": _single("Shrink", lambd="lambd", bias="lambd"),
    "softsign": _single("Softsign"),
    "tanhshrink": _combined("Sub", "Tanh"),
}
