"""capture: what the modules of a model were given and what they made of it, by name, while the model runs.

with capture(model, "block.attention") as seen:
    model(tokens)
(call,) = seen["block.attention"]
call.output                                                        # the activations, a Tensor
model.block.attention.attention_weights(*call.args, **call.kwargs)    # the pattern, (B, heads, T, T)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, NamedTuple

from ..autograd.tensor import Tensor
from ..errors import ArgumentError, did_you_mean
from ..nn.module.registration import UnknownMemberError

if TYPE_CHECKING:
    from ..nn.module.module import Module


class Call(NamedTuple):
    """One call of a module: its positional and named arguments, and what it returned."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Any


@contextmanager
def capture(model: Module, *names: str, detach: bool = False) -> Iterator[dict[str, list[Call]]]:
    """Give a dict from module names to the calls of each, in order, which fills while the model runs in the context.

    names: as in named_modules(), "" being the model. "*" stands for any part of a name between dots: "blocks.*" is each
    block, "blocks.*.attention" the attention of each. A module that has several names has the same calls under each.
    Calls hold the tensors themselves, after the hooks there were: gradients flow through them, and a later change in
    place shows. detach=True takes them out of the graph, so that they keep none of it in memory.
    Raises UnknownMemberError for a name that no module has. Nothing is left on the model afterwards.
    """
    found = _named(model, names)
    calls: dict[int, list[Call]] = {id(module): [] for module in found.values()}

    def note(module: Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        call = Call(args, kwargs, output)
        calls[id(module)].append(Call(*map(_detached, call)) if detach else call)

    with ExitStack() as hooks:
        for module in {id(module): module for module in found.values()}.values():
            hooks.callback(module.register_forward_hook(note, with_kwargs=True).remove)
        yield {name: calls[id(module)] for name, module in found.items()}


def _named(model: Module, names: tuple[str, ...]) -> dict[str, Module]:
    """Return the modules that names stand for, in the order of names and, for a pattern, of the tree."""
    if not names:
        raise ArgumentError(
            'capture() needs the names of modules, as in capture(model, "fc1"); "" is the model itself.'
        )
    tree = dict(model.named_modules(remove_duplicate=False))
    found: dict[str, Module] = {}
    for name in names:
        matches = [known for known in tree if known == name or _matches(known, name)]
        if not matches:
            raise UnknownMemberError(f"{type(model).__name__} has no module {name!r}.{did_you_mean(name, tree)}")
        found.update((match, tree[match]) for match in matches)
    return found


def _matches(name: str, pattern: str) -> bool:
    """Whether name fits pattern, part by part; the model itself, "", fits none."""
    parts, patterns = name.split("."), pattern.split(".")
    return name != "" and len(parts) == len(patterns) and all(map(fnmatchcase, parts, patterns))


def _detached(value: Any) -> Any:
    """Return value with every Tensor in it, also in tuples, lists and dicts, taken out of the graph."""
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, dict):
        return {key: _detached(item) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(_detached, value))
    return type(value)(map(_detached, value)) if isinstance(value, list | tuple) else value
