"""A softmax over the examples of a batch instead of the classes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...nn.layers.activations import Softmax
from ..examination.arguments import CheckArguments
from ..examination.graph import Node
from ..examination.report import Finding, in_code


def check(given: CheckArguments) -> Iterator[Finding]:
    """Yield the softmax that computes the model's output, or is applied to it, if it sums to 1 along axis 0 only.

    Inside a model it may be intended, as in attention over the instances of a bag. The same holds for a softmax of a
    square matrix of all pairs of examples.
    """
    run = given.run
    if run is None:
        return
    for node in run.nodes:
        ends, follows = node.out is run.output, node.operands[0] is run.output
        if (ends or follows) and node.operation in ("softmax", "log_softmax") and _is_over_examples(node):
            count, place = len(node.out), (run.origin(node.out) or "") if ends else ""
            layer = given.model.get_submodule(place)
            yield Finding(
                "axis",
                (place or "the output") if ends else "the loss",
                f"{node.operation} of {node.out.shape} sums to 1 over the {count} examples of the batch, not over the "
                "classes: the prediction for one example depends on the others",
                f"{in_code(place)}.dim = -1" if isinstance(layer, Softmax) else f"F.{node.operation}(x, dim=-1)",
            )


def _is_over_examples(node: Node) -> bool:
    shape = node.out.shape
    if len(shape) < 2 or min(shape) < 2 or shape[0] in shape[1:]:
        return False
    p = np.exp(node.out._data) if node.operation == "log_softmax" else node.out._data
    sums_to_one = [np.allclose(p.sum(axis=axis), 1, atol=1e-3) for axis in range(p.ndim)]
    return sums_to_one == [True] + [False] * (p.ndim - 1)
