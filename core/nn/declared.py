"""Modules that are declared by the function they call: `class ELU(module_of(F.elu)): ...`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ClassVar, Concatenate, Generic, Literal, ParamSpec, overload

from ..autograd.tensor import Tensor
from .functional.losses import chosen
from .module.module import Module

Options = ParamSpec("Options")

_NOT_STORED = {"dtype", "training"}  # arguments of functions that are no options of a module
_BUFFERS = {"weight", "pos_weight"}


class FunctionModule(Module, Generic[Options]):
    """A module that holds the options of a function and calls it. Weights of losses are buffers."""

    _function: ClassVar[Callable[..., Tensor]]
    _options: ClassVar[inspect.Signature]
    _names: ClassVar[tuple[str, ...]]  # of the arguments that forward passes
    _operands: ClassVar[int]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if not hasattr(cls, "_options"):
            return  # what several modules share
        cls.__signature__ = None if "__init__" in vars(cls) else cls._options  # what help() shows
        if cls.__doc__ is None:
            cls.__doc__ = f"The module of `functional.{cls._function.__name__}`: {cls._function.__doc__}"

    def __init__(self, *args: Options.args, **kwargs: Options.kwargs) -> None:
        super().__init__()
        bound = self._options.bind(*args, **kwargs)
        bound.apply_defaults()
        options = bound.arguments
        if "reduce" in options:
            options["reduction"] = chosen(options.pop("size_average"), options.pop("reduce"), options["reduction"])
        for name, value in options.items():
            if name in _BUFFERS:
                self.register_buffer(name, value)
            else:
                setattr(self, name, value)

    def forward(self, *operands: Any) -> Tensor:
        return type(self)._function(*operands, **{name: getattr(self, name) for name in self._names})

    def extra_repr(self) -> str:
        if self._operands > 1 or type(self)._function.__name__ == "hardswish":  # as in torch
            return ""
        shown = {name: getattr(self, name) for name in self._options.parameters}
        shown = {name: value for name, value in shown.items() if value or name != "inplace"}
        return ", ".join(f"{value}" if name == "lambd" else f"{name}={value!r}" for name, value in shown.items())


# fmt: off
@overload
def module_of(function: Callable[Concatenate[Any, Options], Tensor],
              operands: Literal[1] = 1) -> type[FunctionModule[Options]]: ...
@overload
def module_of(function: Callable[Concatenate[Any, Any, Options], Tensor],
              operands: Literal[2]) -> type[FunctionModule[Options]]: ...
@overload
def module_of(function: Callable[Concatenate[Any, Any, Any, Options], Tensor],
              operands: Literal[3]) -> type[FunctionModule[Options]]: ...
# fmt: on
def module_of(function: Callable[..., Tensor], operands: int = 1) -> Any:
    """Return the base class of the module of a function. Its arguments are those of the function after the operands."""
    given = list(inspect.signature(function).parameters.values())[operands:]
    options = inspect.Signature([each for each in given if each.name not in _NOT_STORED])
    names = tuple(each.name for each in given if each.name not in ("dtype", "size_average", "reduce"))
    body = {"_function": staticmethod(function), "_options": options, "_names": names, "_operands": operands}
    return type(function.__name__, (FunctionModule,), body)
