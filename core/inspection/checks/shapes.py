"""Results that broadcasting made larger than both operands, instead of pairing the examples of a batch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..examination.arguments import CheckArguments
from ..examination.graph import Node, tensors_in
from ..examination.report import Finding
from ..examination.step import ObservedRun

_FIX = "give both the same shape, as in output.squeeze(-1) or target.reshape(output.shape)"


def check(given: CheckArguments) -> Iterator[Finding]:
    """Yield operations that combine (N, 1) with (N,) into (N, N), and targets whose shape is not the output's.

    In an intended outer product both operands have the same number of axes. Here the batch axis meets another axis.
    """
    run = given.run
    if run is None:
        return
    for node in run.nodes:
        if len(node.operands) == 2 and (_crosses(node) or _misses_target(node, given)):
            a, b = (operand.shape for operand in node.operands)
            seen = f"{node.operation} broadcasts {a} with {b} to {node.out.shape}: it mixes different examples"
            yield Finding("broadcast", _where(run, node), seen, _FIX)


def _where(run: ObservedRun, node: Node) -> str:
    place = run.origin(node.out)
    inside = id(node.out) in run.of_model
    return f"{'the output' if inside else 'the loss'}{f' of {place}' if inside and place else ''}"


def _crosses(node: Node) -> bool:
    a, b = (operand.shape for operand in node.operands)
    if len(a) == len(b) or not a or not b or a[0] != b[0] or a[0] < 2:
        return False
    return node.out.shape not in (a, b) and _is_broadcast(node)


def _is_broadcast(node: Node) -> bool:
    try:
        return np.broadcast_shapes(*(operand.shape for operand in node.operands)) == node.out.shape
    except ValueError:
        return False


def _misses_target(node: Node, given: CheckArguments) -> bool:
    """Return True if node combines the output itself with the target itself, of another shape."""
    assert given.step is not None
    assert given.run is not None
    target = given.step.target
    if target is None or id(node.out) in given.run.of_model or not _is_broadcast(node):
        return False
    outputs = {id(tensor) for tensor in tensors_in(given.run.output)}
    one, two = node.operands if id(node.operands[0]) in outputs else node.operands[::-1]
    if id(one) not in outputs or one.shape == two.shape or min(one.numel(), two.numel()) < 2:
        return False
    return np.shares_memory(two._data, np.asarray(target))
