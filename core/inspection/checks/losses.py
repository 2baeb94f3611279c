"""A loss that is not finite, that gets probabilities instead of logits, or that starts far above ln(classes)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from ...autograd.tensor import Tensor
from ...nn.layers.embedding import Embedding
from ..examination.arguments import CheckArguments
from ..examination.graph import Node
from ..examination.report import Finding
from ..examination.step import ObservedRun
from . import values

# The limit: 1.5 times ln(classes), plus half a nat for small batches.
_FACTOR, _MARGIN = 1.5, 0.5
_LOGARITHM = 1e-3  # above this, a number is no logarithm of a probability, whatever the rounding


def check(given: CheckArguments) -> Iterator[Finding]:
    """Yield faults in the value of the loss and in its inputs."""
    run = given.run
    if run is None or run.loss is None:
        return
    if not np.isfinite(run.loss._data).all():
        yield from _not_finite(given, run)
        return
    for node in run.nodes:
        if node.operation in ("cross_entropy", "binary_cross_entropy_with_logits"):
            yield from _of_probabilities(run, node)
        elif node.operation in ("nll_loss", "kl_div") and (node.operands[0]._data > _LOGARITHM).any():
            place = run.origin(node.operands[0]) or "the output"
            seen = f"{node.operation} expects logarithms of probabilities, at most 0, but gets positive numbers"
            yield Finding("loss", place, seen, "return F.log_softmax(x, dim=1); or use cross_entropy on the logits")
        if node.operation == "cross_entropy":
            yield from _initial(given, run, node)


def _not_finite(given: CheckArguments, run: ObservedRun) -> Iterator[Finding]:
    """Name the first operation that computed NaN or infinity from finite numbers, or else the input that held it."""
    found = f"it is {run.loss._data!s}"
    if (node := _first_failing(run, np.isfinite)) is not None:
        seen = f"{found}: {_described(run, node, np.isfinite)} NaN or infinite from finite values"
        fix = "x.clamp(min=1e-6) before a log, a division or a square root; or cross_entropy on the logits"
        yield Finding("loss", "the loss", seen, fix)
    elif any(values.check(given)):
        return  # these findings name it
    elif (bad_part := _in_batch(given)) is not None:
        yield Finding("loss", "the batch", f"{found}, and {bad_part[1]}", _without(bad_part[0]))
    elif (node := _first_failing(run, _is_number)) is not None:
        seen = f"{found}: {_described(run, node, _is_number)} NaN from infinite values"
        yield Finding("loss", "the loss", seen, f"x = x.clamp(min=-1e9, max=1e9) before the {node.operation}")
    else:
        yield Finding("loss", "the loss", f"{found}, and so is an input from outside the model", _without("x"))


def _is_number(array: np.ndarray) -> np.ndarray:
    return ~np.isnan(array)


def _first_failing(run: ObservedRun, is_valid: Callable[[np.ndarray], np.ndarray]) -> Node | None:
    for node in run.nodes:
        if all(is_valid(operand._data).all() for operand in node.operands) and not is_valid(node.out._data).all():
            return node
    return None


def _described(run: ObservedRun, node: Node, is_valid: Callable[[np.ndarray], np.ndarray]) -> str:
    after = run.origin(node.operands[0])
    count = np.count_nonzero(~is_valid(node.out._data))
    return f"{node.operation}{f' after {after}' if after else ''} makes {count} of {node.out.numel()} elements"


def _in_batch(given: CheckArguments) -> tuple[str, str] | None:
    """Return the variable for the part of the batch that is not finite, and a text about it, or None."""
    step = given.step
    assert step is not None
    parts = [("x", "input", value) for value in step.inputs] + [("y", "target", step.target)]
    for variable, part, value in parts:
        array = np.asarray(value if isinstance(value, Tensor | np.ndarray) else 0)
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            count = np.count_nonzero(~np.isfinite(array))
            return variable, f"so are {count} of the {array.size} elements of the {part} in the batch"
    return None


def _without(variable: str) -> str:
    return f"{variable} = np.nan_to_num({variable}, posinf=0, neginf=0); or leave these examples out"


def _of_probabilities(run: ObservedRun, node: Node) -> Iterator[Finding]:
    logits = node.operands[0]
    made = {id(other.out): other.operation for other in run.nodes}.get(id(logits))
    if made in ("softmax", "sigmoid"):
        place = run.origin(logits)
        yield Finding(
            "loss",
            place or "the output",
            f"{node.operation} expects logits but gets the result of a {made}: applied twice, it makes gradients small",
            f"return the logits from forward(), without the {made}, and apply it only for predictions",
        )


def _initial(given: CheckArguments, run: ObservedRun, node: Node) -> Iterator[Finding]:
    logits, target = node.operands[0]._data, node.operands[1]._data
    if logits.ndim != 2 or target.ndim != 1 or _is_tied_to_embedding(given, run, node):
        return
    classes = logits.shape[1]
    counted = (target >= 0) & (target < classes)
    if classes < 2 or not counted.any():
        return
    shifted = logits - logits.max(axis=1, keepdims=True)
    nats = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(target)), np.where(counted, target, 0)]
    loss, even = float(nats[counted].mean()), math.log(classes)
    if loss > _FACTOR * even + _MARGIN:
        place = run.origin(node.operands[0])
        yield Finding(
            "loss",
            place or "the output",
            f"the cross entropy is {loss:.3g}, far above ln({classes}) = {even:.3g}, that of a uniform guess: the "
            f"logits reach {np.abs(logits).max():.3g}",
            "scale the inputs to about zero mean and unit variance, and initialize the last layer with small weights: "
            "init.normal_(weight, std=0.01)",
        )


def _is_tied_to_embedding(given: CheckArguments, run: ObservedRun, node: Node) -> bool:
    """Return True if the logits are products with an embedding, whose initial scale is 1."""
    embeddings = {id(m.weight) for m in given.model.modules() if isinstance(m, Embedding)}
    by_result = {id(other.out): other for other in run.nodes}
    tensor = node.operands[0]
    while (maker := by_result.get(id(tensor))) is not None:
        if maker.operation in ("linear", "matmul"):
            bases = [getattr(operand, "base", None) for operand in maker.operands]
            return any(id(each) in embeddings for each in (*maker.operands, *bases))
        tensor = maker.operands[0]
    return False
