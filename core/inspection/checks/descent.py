"""Steps that increase the loss: a learning rate far too large, a loss with the wrong sign."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..examination.arguments import CheckArguments
from ..examination.report import Finding
from ..examination.step import ObservedRun, ObservedStep

# Both must hold: if the loss is nearly 0, an ordinary step may increase it. In trained models of the zoo, the first
# step of Adam makes the loss up to 200 times as large, but is only a hundredth as long as the parameters.
_GROWTH, _LENGTH = 10.0, 0.5

# Decreasing the result of any of these decreases its operand.
_INCREASING = ("mean", "sum", "log", "getitem", "reshape", "flatten", "squeeze")


def check(given: CheckArguments) -> Iterator[Finding]:
    """Yield a learning rate that makes the loss of the same batch explode, and a loss that rewards mistakes."""
    step = given.step
    if step is None or step.run is None or step.run.loss is None:
        return
    yield from _wrong_sign(step.run)
    if step.stepped and step.next_loss is not None:
        yield from _exploding_step(given, step, step.run.loss.item(), step.next_loss)


def _exploding_step(given: CheckArguments, step: ObservedStep, before: float, after: float) -> Iterator[Finding]:
    gradients = [gradient for gradient in (step.gradients or {}).values() if gradient is not None]
    if not np.isfinite(before) or not all(np.isfinite(gradient).all() for gradient in gradients):
        return
    exploded = not np.isfinite(after) or after > _GROWTH * before > 0
    if exploded and step.length >= _LENGTH:
        # On a parabola, a step shorter by 1 + sqrt(growth) ends at the minimum; a tenth of that is safe elsewhere.
        factor = 0.1 / (1 + (after / before) ** 0.5) if np.isfinite(after) else 1e-4
        rates = " and ".join(
            f"{rate:g}" for rate in sorted({g["lr"] for each in step.stepped for g in each.param_groups})
        )
        groups = " + ".join(f"{given.in_code(each)}.param_groups" for each in step.stepped)
        yield Finding(
            "update",
            "the learning rate",
            f"one step takes the loss of the same batch from {before:.3g} to {after:.3g}; it is {step.length:.2g} "
            f"times as long as the parameters: lr is {rates}",
            f'for group in {groups}: group["lr"] *= {factor:.1g}',
        )


def _wrong_sign(run: ObservedRun) -> Iterator[Finding]:
    """Yield a negated cross entropy or squared error of the output, or log probabilities without a minus.

    It must be the whole loss: as one term, or with a factor, it may be intended.
    """
    by_result = {id(node.out): node for node in run.nodes}
    node, rising, log = by_result.get(id(run.loss)), True, False
    while node is not None and node.operation in (*_INCREASING, "negative"):
        rising ^= node.operation == "negative"
        log |= node.operation == "log"
        node = by_result.get(id(node.operands[0]))
    if node is None or id(node.operands[0]) not in run.of_model:
        return
    if node.operation in ("cross_entropy", "mse_loss") and not rising:
        seen = f"it is {node.operation} with a minus: the worse the model, the smaller the loss, without limit"
        yield Finding("loss", "the loss", seen, f"loss = F.{node.operation}(output, target)")
    elif rising and (node.operation == "log_softmax" or (node.operation == "softmax" and log)):
        seen = "it is a log probability without a minus: the less likely the targets, the smaller the loss"
        yield Finding("loss", "the loss", seen, "loss = F.cross_entropy(logits, target)")
