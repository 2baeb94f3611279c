"""The recorded graph as the checks read it: operations by name, in the order of computation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from ...autograd.tape import operands
from ...autograd.tensor import Tensor
from ...nn.module.parameter import Parameter


class Node(NamedTuple):
    """A recorded operation, under the name that it passed to `record`."""

    operation: str
    out: Tensor
    operands: tuple[Tensor, ...]


def recorded(roots: Iterable[Tensor]) -> list[Node]:
    """Return the operations that computed the roots, operands before results. The walk stops at Parameters."""
    order: list[Node] = []
    seen: set[int] = set()
    stack = [(root, False) for root in roots]
    while stack:
        tensor, operands_done = stack.pop()
        if operands_done:
            order.append(Node(tensor._operation, tensor, operands(tensor)))
        elif id(tensor) not in seen:
            seen.add(id(tensor))
            if tensor._parents and not isinstance(tensor, Parameter):
                stack.append((tensor, True))
                stack.extend((operand, False) for operand in operands(tensor))
    return order


def leaves(nodes: Iterable[Node]) -> list[Tensor]:
    """Return the leaves of the nodes that require a gradient, each once."""
    operands = {id(tensor): tensor for node in nodes for tensor in node.operands}
    return [t for t in operands.values() if t.requires_grad and (isinstance(t, Parameter) or not t._parents)]


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in the result of a forward: a tensor, or tuples, lists and dicts of tensors."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from tensors_in(item)
    elif isinstance(value, tuple | list):
        for item in value:
            yield from tensors_in(item)
