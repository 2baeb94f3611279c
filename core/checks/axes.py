"""A softmax over the examples of a batch, where one over the classes was meant."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..layers import Softmax
from .graph import Node
from .patient import Patient
from .report import Finding, in_code


def check(patient: Patient) -> Iterator[Finding]:
    """Yield the softmax that the model's one output comes from, or goes into, if its sums along axis 0 alone are 1.

    Inside of a model it may be meant: attention over the instances of a bag. So may one of a square, of every example
    with every other.
    """
    run = patient.run
    for node in run.nodes if run else []:
        is_end = node.out is run.output or node.operands[0] is run.output
        if is_end and node.operation in ("softmax", "log_softmax") and _is_over_examples(node):
            seen = (
                f"{node.operation} of {node.out.shape} makes the {len(node.out)} examples of the batch sum to 1, not "
            )
            seen += "the classes of each: what is predicted for one example depends on the others"
            place = run.origin(node.out) if node.out is run.output else None
            name = place or ("the output" if node.out is run.output else "the loss")
            is_layer = isinstance(patient.model.get_submodule(place or ""), Softmax)
            mend = f"{in_code(place or '')}.dim = -1" if is_layer else f"F.{node.operation}(x, dim=-1)"
            yield Finding("axis", name, seen, mend)


def _is_over_examples(node: Node) -> bool:
    shape = node.out.shape
    if len(shape) < 2 or min(shape) < 2 or shape[0] in shape[1:]:
        return False
    p = np.exp(node.out.data) if node.operation == "log_softmax" else node.out.data
    sums_to_one = [np.allclose(p.sum(axis=axis), 1, atol=1e-3) for axis in range(p.ndim)]
    return sums_to_one == [True] + [False] * (p.ndim - 1)
