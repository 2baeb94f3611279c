"""The run of a recurrent layer over time, in ONNX."""

from .graph import Graph, Pair
from .steps import Step, Translate

# The operator, and the place in our weights of each of its gates: RNN; GRU, from r, z, n to z, r, n; LSTM, from
# i, f, g, o to i, o, f, g.
_OPERATORS = {
    "rnn_tanh": ("RNN", (0,), {"activations": ["Tanh"]}),
    "rnn_relu": ("RNN", (0,), {"activations": ["Relu"]}),
    "gru": ("GRU", (1, 0, 2), {"linear_before_reset": 1}),
    "lstm": ("LSTM", (0, 3, 1, 2), {}),
}


def recurrence(name: str) -> Translate:
    operator, order, options = _OPERATORS[name]

    def translate(graph: Graph, step: Step) -> str:
        states = 2 if operator == "LSTM" else 1
        x, state, (w_ih, w_hh, *biases) = step.operands[0], step.operands[1 : 1 + states], step.operands[1 + states :]
        weights = [_in_order(graph, weight, order) for weight in (w_ih, w_hh)]
        bias = graph.node("Concat", [_in_order(graph, b, order) for b in biases], axis=1) if biases else ""
        first = graph.constant([0])
        start = [graph.node("Unsqueeze", [graph.value(h), first]) for h in state]
        outputs = [graph.new_name(stem) for stem in (step.name, "last", "memory")[: 1 + states]]
        inputs = [graph.value(x), *weights, bias, "", *start]  # the empty one: lengths of the sequences
        direction = "reverse" if step.arguments["reverse"] else "forward"
        size = state[0][0].shape[-1]
        graph.nodes.append(
            graph.onnx.helper.make_node(
                operator, inputs, outputs, name=outputs[0], hidden_size=size, direction=direction, **options
            )
        )
        steps = graph.node("Squeeze", [outputs[0], graph.constant([1])])  # (T, 1, B, H): one direction
        return graph.node("Concat", [steps, *outputs[1:]], axis=0)

    return translate


def _in_order(graph: Graph, weight: Pair, order: tuple[int, ...]) -> str:
    """Return the name of a weight (G H, ...) as (1, G H, ...), with the gates in another order."""
    (rows, *rest), name = weight[0].shape, graph.value(weight)
    if len(order) > 1:
        gates = graph.node("Reshape", [name, graph.constant([len(order), rows // len(order), *rest])])
        name = graph.node("Gather", [gates, graph.constant(order)], axis=0)
    return graph.node("Reshape", [name, graph.constant([1, rows, *rest])])
