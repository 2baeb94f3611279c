"""Dropout and batch norm in the wrong mode."""

from __future__ import annotations

from collections.abc import Iterator

from ...nn.layers.dropout import Dropout
from ...nn.layers.normalization import ChannelNorm
from ...nn.module.module import Module
from ..examination.arguments import CheckArguments
from ..examination.report import Finding


def check(given: CheckArguments) -> Iterator[Finding]:
    """Yield a model that trains in evaluation mode, parts in a different mode, and dropout that is never off."""
    model = given.model
    affected = [(path, m) for path, m in model.named_modules() if _depends_on_mode(m)]
    if not model.training and given.optimizers and any(not m.training for _, m in affected):
        kinds = " and ".join(sorted({type(m).__name__ for _, m in affected}))
        yield Finding(
            "mode",
            type(model).__name__,
            f"it is trained in evaluation mode: the {kinds} layers work as in prediction",
            "model.train() before the training loop, and again after each evaluation",
        )
    for path, module in affected:
        if module.training != model.training and not _is_frozen_part(model, path):
            here, whole = ("training" if m.training else "evaluation" for m in (module, model))
            yield Finding(
                "mode",
                path,
                f"this {type(module).__name__} is in {here} mode, the model in {whole} mode",
                f"model.{'train' if model.training else 'eval'}(), which reaches every module",
            )
    yield from _always_on(given)


def _depends_on_mode(module: Module) -> bool:
    """Return True if the module itself behaves differently in training mode."""
    if isinstance(module, ChannelNorm):
        return module.track_running_stats
    return isinstance(module, Dropout) and module.p > 0


def _is_frozen_part(model: Module, path: str) -> bool:
    """Return True if the module is in a frozen part of the model, kept in evaluation mode on purpose."""
    parts = path.split(".")
    for depth in range(1, len(parts) + 1):
        part = model.get_submodule(".".join(parts[:depth]))
        if part.training != model.training:
            parameters = list(part.parameters())
            return not part.training and bool(parameters) and not any(p.requires_grad for p in parameters)
    return False


def _always_on(given: CheckArguments) -> Iterator[Finding]:
    run = None if given.step is None else given.step.in_eval
    if run is None:
        return
    for node in run.nodes:
        if node.operation == "dropout" and id(node.out) in run.of_model:
            origin = run.origin(node.operands[0])
            yield Finding(
                "mode",
                f"dropout after {origin}" if origin else "dropout",
                "it also drops elements in evaluation mode: predictions are random",
                "F.dropout(x, p, self.training), which turns it off; or a Dropout module",
            )
