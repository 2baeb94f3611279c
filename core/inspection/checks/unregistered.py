"""Trainable tensors and modules that the model uses but has not registered: not trained, saved or converted.

With a run, the leaves of the graph decide: they show what is used, however it is hidden, and exclude a teacher that
runs under no_grad(). Without a run, everything reachable counts, unless it is frozen or was set on purpose with
object.__setattr__.
"""

from __future__ import annotations

from collections.abc import Iterator

from ...errors import ModuleError
from ...nn.module.module import Module
from ...nn.module.parameter import Parameter
from ..examination.arguments import CheckArguments
from ..examination.graph import leaves
from ..examination.reaching import Way, reachable
from ..examination.report import Finding, in_code


def in_containers(model: Module) -> Iterator[Finding]:
    """Yield the error that traversing the model raises: modules in a plain list, or a missing super().__init__()."""
    try:
        list(model.modules())
    except ModuleError as error:
        seen, _, fix = str(error).partition(". ")
        yield Finding("unregistered", type(model).__name__, seen, fix)


def check(given: CheckArguments) -> Iterator[Finding]:
    """Yield what is used, or could be, without being registered."""
    unregistered: dict[int, Way] = {}
    for way, tensor in reachable(given.model):
        if id(tensor) not in given.names:
            unregistered.setdefault(id(tensor), way)
    if given.run is None:
        yield from (_unregistered(way) for way in unregistered.values() if not way.on_purpose)
        return
    run, step = given.run, given.step
    assert step is not None
    for tensor in leaves(node for node in run.nodes if id(node.out) in run.of_model):
        if id(tensor) in unregistered:
            yield _unregistered(unregistered[id(tensor)])
        elif isinstance(tensor, Parameter) and id(tensor) in step.made_in_forward:
            yield _made_in_forward(tensor, given)
    yield from _accumulating(given)


def _unregistered(way: Way) -> Finding:
    name = f"{way.path}.{way.text}" if way.path and " " not in way.text else way.text
    owner = f" of {way.path}" if way.path and " " in way.text else ""
    return Finding(
        "unregistered",
        name + owner,
        f"a trainable {way.kind} that the model has not registered: it is not in parameters() or state_dict()",
        f"self.{way.variable} = ... in __init__(), which registers it (ModuleList or ParameterList for several), and "
        f"use self.{way.variable} in forward(); or freeze it with requires_grad_(False)",
    )


def _made_in_forward(tensor: Parameter, given: CheckArguments) -> Finding:
    run = given.run
    assert run is not None
    user = next(node for node in run.nodes if any(operand is tensor for operand in node.operands))
    return Finding(
        "unregistered",
        f"a Parameter {tensor.shape}",
        f"forward() uses it in {user.operation} and makes a new one in each call: what it learns is lost",
        "self.layer = ... in __init__(), and use it in forward()",
    )


def _accumulating(given: CheckArguments) -> Iterator[Finding]:
    assert given.step is not None
    for path, name in given.step.accumulating:
        owner = in_code(path)
        yield Finding(
            "unregistered",
            f"{path}.{name}" if path else name,
            "a plain array that each forward() updates: state that state_dict() does not save",
            f'{owner}.register_buffer("{name}", ...) instead of the plain attribute',
        )
