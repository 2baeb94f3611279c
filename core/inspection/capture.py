"""capture: records the inputs and outputs of modules, by name, while a model runs.

with capture(model, "block.attention") as seen:
    model(tokens)
(call,) = seen["block.attention"]
call.output                                                        # the activations, a Tensor
model.block.attention.attention_weights(*call.args, **call.kwargs)    # the pattern, (B, heads, T, T)
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, NamedTuple

from ..autograd.tensor import Tensor
from ..commit.block import Block
from ..errors import ArgumentError, did_you_mean
from ..nn.module.hooks import steps_to_hook
from ..nn.module.registration import UnknownMemberError

if TYPE_CHECKING:
    from ..nn.module.module import Module


class Call(NamedTuple):
    """One call of a module: its positional and named arguments, and what it returned."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Any


def capture(model: Module, *names: str, detach: bool = False) -> Block[dict[str, list[Call]]]:
    """Return a context that yields a dict from module names to lists of their calls, filled while the model runs.

    names: as in named_modules(); "" is the model. "*" matches one part of a name between dots: "blocks.*" is each
    block, "blocks.*.attention" the attention of each. A module with several names has the same calls under each.
    Calls hold the tensors themselves, as they are after all other hooks: gradients flow through them, and later
    changes in place are visible. detach=True takes them out of the graph, which can then be freed.
    The hooks are removed at the end. Raises UnknownMemberError if no module has one of the names.
    """
    found = _named(model, names)
    calls: dict[int, list[Call]] = {id(module): [] for module in found.values()}

    def note(module: Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        call = Call(args, kwargs, output)
        calls[id(module)].append(Call(*map(_detached, call)) if detach else call)

    modules = {id(module): module for module in found.values()}.values()
    begin, end = steps_to_hook((module, note, True) for module in modules)
    return Block(begin, end, {name: calls[id(module)] for name, module in found.items()})


def _named(model: Module, names: tuple[str, ...]) -> dict[str, Module]:
    """Return the modules that match the names, in the order of the names and, for a pattern, of the tree."""
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
    """Return True if a name matches a pattern, part by part. The model itself, "", matches no pattern."""
    parts, patterns = name.split("."), pattern.split(".")
    return name != "" and len(parts) == len(patterns) and all(map(fnmatchcase, parts, patterns))


def _detached(value: Any) -> Any:
    """Return value with every Tensor in it detached, including those in tuples, lists and dicts."""
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, dict):
        return {key: _detached(item) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(_detached, value))
    return type(value)(map(_detached, value)) if isinstance(value, list | tuple) else value
