"""Units that carry no information: ReLUs that are off for every example, saturated sigmoids and tanhs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..examination.arguments import CheckArguments
from ..examination.graph import Node, tensors_in
from ..examination.report import Finding, in_code
from ..examination.step import ObservedRun

_MOST = 0.9  # in a healthy layer many units are off for a whole batch, but not nearly all
_EXAMPLES = 8  # fewer examples prove nothing
_END = 0.01  # this close to its limits, the slope of a sigmoid is below 1/25 of its maximum


def check(given: CheckArguments) -> Iterator[Finding]:
    """Yield layers in which nearly all units are dead or nearly all values are saturated."""
    run = given.run
    if run is None:
        return
    outputs = {id(tensor) for tensor in tensors_in(run.output)}
    for node in run.nodes:
        if id(node.out) not in run.of_model or node.out.ndim < 2 or node.out.numel() == 0:
            continue
        if node.operation in ("relu", "relu6"):
            yield from _dead(run, node)
        elif node.operation in ("sigmoid", "hardsigmoid", "tanh") and id(node.out) not in outputs:
            yield from _saturated(run, node)


def _dead(run: ObservedRun, node: Node) -> Iterator[Finding]:
    before = {id(one.out): one.operation for one in run.nodes}.get(id(node.operands[0]), "")
    axis = 1 if before.startswith("conv") or before in ("batch_norm", "group_norm") else -1  # that of the units
    units = np.moveaxis(node.out._data, axis, -1).reshape(-1, node.out.shape[axis])  # (examples, units)
    dead = int(np.count_nonzero((units <= 0).all(axis=0)))  # NaN counts as neither; the loss shows its origin
    if len(units) >= _EXAMPLES and dead > _MOST * units.shape[1]:
        place, inputs = run.origin(node.operands[0]), f"{units.shape[1]} inputs of {node.operation}"
        yield Finding(
            "dead units",
            place or node.operation,
            f"{dead} of the {inputs} are never above 0 in {len(units)} examples: they get no gradient",
            f"{in_code(place or '')}.reset_parameters(), with a smaller learning rate if the model was being trained",
        )


def _saturated(run: ObservedRun, node: Node) -> Iterator[Finding]:
    values = node.out._data
    low = -1 if node.operation == "tanh" else 0
    near = (1 - low) * _END
    share = float(np.mean((values < low + near) | (values > 1 - near)))
    if share > _MOST and len(values) >= _EXAMPLES:
        place = run.origin(node.operands[0])
        yield Finding(
            "saturated units",
            place or node.operation,
            f"{share:.0%} of the values after {node.operation} are within {_END:.0%} of its limits, where its slope is "
            "nearly 0",
            f"init.xavier_uniform_({in_code(place or '')}.weight), and inputs of about unit variance",
        )
