"""What a module reaches but has not registered: through attributes, containers, closures and globals."""

from __future__ import annotations

import functools
import types
from collections.abc import Iterator
from typing import Any, NamedTuple

from ...autograd.tensor import Tensor
from ...nn.module.module import Module
from ...nn.module.parameter import Parameter
from ...nn.module.registration import HOOKS
from ...nn.module.unregistered import CONTAINERS

_PACKAGE = Module.__module__.rpartition(".")[0]


class Way(NamedTuple):
    """The way from a module to a tensor or module. on_purpose: it was set with object.__setattr__."""

    path: str  # of the module that reaches it
    text: str
    variable: str  # what to call it once it is registered
    on_purpose: bool
    kind: str  # the class of what is reached


def reachable(model: Module) -> Iterator[tuple[Way, Tensor]]:
    """Yield the trainable tensors that modules reach but have not registered, each with its way."""
    for path, module in model.named_modules():
        for start in _starts(module):
            for found, place in _members(start, set()):
                way = Way(path, place.what + place.where, place.variable, place.on_purpose, type(found).__name__)
                tensors = found.parameters() if isinstance(found, Module) else [found]
                yield from ((way, tensor) for tensor in tensors if tensor.requires_grad)


class _Place(NamedTuple):
    """A value on the way. Its text is what + where: "the variable layers[0]" + " in activation"."""

    value: Any
    what: str
    variable: str
    where: str = ""
    on_purpose: bool = False


def _starts(module: Module) -> Iterator[_Place]:
    """Yield what a module itself holds but has not registered."""
    for name, value in module._plain_attributes().items():
        if name in HOOKS:
            yield from (_Place(hook.function, f"a {name[1:-1].replace('_', ' ')}", name) for hook in value.values())
        else:
            direct = isinstance(value, Module | Parameter)
            unwatched = isinstance(value, CONTAINERS) and name not in module._containers and not name.startswith("_")
            yield _Place(value, name, name, on_purpose=direct or unwatched)
    kind = type(module)
    if not kind.__module__.startswith(_PACKAGE):
        yield from _of_class(kind)
        yield from _globals(vars(module).get("forward", kind.forward))


def _of_class(kind: type[Module]) -> Iterator[_Place]:
    for base in kind.__mro__:
        for name, value in vars(base).items():
            if isinstance(value, Module | Tensor | functools.partial):
                yield _Place(value, f"{base.__name__}.{name}", name, ", an attribute of the class")


def _globals(forward: Any) -> Iterator[_Place]:
    """Yield the closure of forward, and the global modules, tensors, lists and dicts that it names."""
    yield _Place(forward, "forward", "forward")
    scope = getattr(forward, "__globals__", {})
    for name in getattr(getattr(forward, "__code__", None), "co_names", ()):
        if isinstance(scope.get(name), Module | Tensor | list | dict):
            yield _Place(scope[name], f"the global {name}", name, " in forward")


def _members(place: _Place, seen: set[int]) -> Iterator[tuple[Any, _Place]]:
    """Yield the modules, parameters and trainable tensors in a value, at any depth."""
    value = place.value
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, Module | Parameter) or (isinstance(value, Tensor) and _is_leaf(value)):
        yield value, place
    for inner in _inside(place):
        yield from _members(inner, seen)


def _is_leaf(tensor: Tensor) -> bool:
    return tensor.requires_grad and not tensor._parents


def _inside(place: _Place) -> Iterator[_Place]:
    value, what = place.value, place.what
    if isinstance(value, dict):
        yield from (place._replace(value=item, what=f"{what}[{key!r}]") for key, item in value.items())
    elif isinstance(value, list | tuple):
        yield from (place._replace(value=item, what=f"{what}[{at}]") for at, item in enumerate(value))
    elif isinstance(value, CONTAINERS):
        yield from (place._replace(value=item) for item in value)
    elif isinstance(value, functools.partial):
        for part in ("args", "keywords", "func"):
            yield place._replace(value=getattr(value, part), what=f"{what}.{part}")
    elif isinstance(value, types.MethodType):
        yield place._replace(value=value.__self__, what=f"{what}.__self__")
    elif isinstance(value, types.FunctionType):
        where = f" in {what}{place.where}"
        for variable, held in _closure(value).items():
            yield _Place(held, f"the variable {variable}", variable, where)
        for variable, held in _defaults(value).items():
            yield _Place(held, f"the default {variable}", variable, where)


def _closure(function: types.FunctionType) -> dict[str, Any]:
    held = {}
    for variable, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            held[variable] = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    return held


def _defaults(function: types.FunctionType) -> dict[str, Any]:
    positional = function.__defaults__ or ()
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    return {
        **dict(zip(names[len(names) - len(positional) :], positional, strict=True)),
        **(function.__kwdefaults__ or {}),
    }
