"""What a module can reach without having registered it: through attributes, containers, closures and globals."""

from __future__ import annotations

import functools
import types
from collections.abc import Iterator
from typing import Any, NamedTuple

from ..module import Module
from ..parameter import Parameter
from ..registration import KINDS
from ..tensor import Tensor
from ..unregistered import CONTAINERS

_PACKAGE = Module.__module__.rpartition(".")[0]


class Way(NamedTuple):
    """How a module reaches a tensor or module. on_purpose: it was put where only object.__setattr__ puts things."""

    path: str  # of the module that reaches it
    text: str
    variable: str  # what to call it once it is registered
    on_purpose: bool
    kind: str  # the class of what is reached


def reachable(model: Module) -> Iterator[tuple[Way, Tensor]]:
    """Yield the trainable tensors that modules of the model reach past their registers, each with the first way."""
    for path, module in model.named_modules():
        for text, variable, value, on_purpose in _starts(module):
            for where, name, found in _members(text, variable, value, set()):
                way = Way(path, where, name, on_purpose, type(found).__name__)
                tensors = found.parameters() if isinstance(found, Module) else [found]
                yield from ((way, tensor) for tensor in tensors if tensor.requires_grad)


def _starts(module: Module) -> Iterator[tuple[str, str, Any, bool]]:
    """Yield (where, name, value, on purpose) of what a module holds itself."""
    for name, value in vars(module).items():
        if name not in KINDS:
            direct = isinstance(value, Module | Parameter)
            hidden = isinstance(value, CONTAINERS) and name not in module._containers and not name.startswith("_")
            yield name, name, value, direct or hidden
    kind = type(module)
    for base in kind.__mro__:
        if not base.__module__.startswith(_PACKAGE):
            yield from (
                (f"{base.__name__}.{name}, an attribute of the class", name, value, False)
                for name, value in vars(base).items()
                if isinstance(value, Module | Tensor | functools.partial)
            )
    forward = vars(module).get("forward", kind.forward)
    code, scope = getattr(forward, "__code__", None), getattr(forward, "__globals__", {})
    if code is not None and not kind.__module__.startswith(_PACKAGE):
        yield "forward", "forward", forward, False
        for name in code.co_names:
            if isinstance(scope.get(name), Module | Tensor | list | dict):
                yield f"the global {name} in forward", name, scope[name], False


def _members(where: str, name: str, value: Any, seen: set[int]) -> Iterator[tuple[str, str, Any]]:
    """Yield the modules, parameters and trainable tensors in value, however deep: (where, name, it)."""
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, Module) or (isinstance(value, Tensor) and value.requires_grad and not value._parents):
        yield where, name, value
    elif isinstance(value, Parameter):
        yield where, name, value  # a view of another
    else:
        for inner_where, inner_name, inner in _inside(where, name, value):
            yield from _members(inner_where, inner_name, inner, seen)


def _inside(where: str, name: str, value: Any) -> Iterator[tuple[str, str, Any]]:
    if isinstance(value, dict):
        yield from ((f"{where}[{key!r}]", name, item) for key, item in value.items())
    elif isinstance(value, list | tuple):
        yield from ((f"{where}[{at}]", name, item) for at, item in enumerate(value))
    elif isinstance(value, CONTAINERS):
        yield from ((where, name, item) for item in value)
    elif isinstance(value, functools.partial):
        yield from ((f"{where}.args[{at}]", name, item) for at, item in enumerate(value.args))
        yield from ((f"{where}.keywords[{key!r}]", key, item) for key, item in value.keywords.items())
        yield where, name, value.func
    elif isinstance(value, types.MethodType):
        yield f"{where}.__self__", name, value.__self__
    elif isinstance(value, types.FunctionType):
        for variable, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
            if variable != "__class__" and (held := _content(cell)) is not None:
                yield f"the variable {variable} in {where}", variable, held
        yield from ((f"a default of {where}", name, item) for item in value.__defaults__ or ())
        yield from ((f"the default {key} of {where}", key, item) for key, item in (value.__kwdefaults__ or {}).items())


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return None
