"""PyTorch with the random numbers of statezoo, so that a script starts from the same values on both.

Every function, method, initializer and layer of PyTorch that draws is replaced by one that takes its values from what
has the same name in statezoo. statezoo itself is unchanged, and so is everything in PyTorch that does not draw.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import numpy as np
import torch
import torch.utils.data
import torch.utils.data.dataset

from statezoo import core
from statezoo.core import get_rng_state, set_rng_state
from statezoo.core.utils.data import RandomSampler

FUNCTIONS = (
    "bernoulli",
    "multinomial",
    "normal",
    "rand",
    "rand_like",
    "randint",
    "randint_like",
    "randn",
    "randn_like",
    "randperm",
)
METHODS = ("bernoulli_", "exponential_", "multinomial", "normal_", "uniform_")
DROPOUTS = ("dropout", "dropout1d", "dropout2d")
INITIALIZERS = tuple(name for name in vars(torch.nn.init) if name.endswith("_") and not name.startswith("_"))
_HOLDERS = ("Module", "ModuleDict", "ModuleList", "ParameterDict", "ParameterList", "Sequential")


@contextlib.contextmanager
def shared_draws() -> Iterator[None]:
    """Let PyTorch draw from statezoo's generators inside the block."""
    with contextlib.ExitStack() as stack:
        for place, name, replacement in _replacements():
            stack.enter_context(mock.patch.object(place, name, replacement))
        yield


def _replacements() -> Iterator[tuple[Any, str, Any]]:
    for name in FUNCTIONS:
        if hasattr(core, name):
            yield torch, name, _drawn(getattr(core, name))
    for name in METHODS:
        if hasattr(core.Tensor, name):
            method = _method if name.endswith("_") else _drawn
            yield torch.Tensor, name, method(getattr(core.Tensor, name))
    for name in INITIALIZERS:
        if hasattr(core.nn.init, name):
            yield torch.nn.init, name, _method(getattr(core.nn.init, name))
    for name in DROPOUTS:
        if hasattr(core.nn.functional, name):
            yield torch.nn.functional, name, _dropout(getattr(core.nn.functional, name))
    for name, cls in vars(torch.nn).items():
        if (
            isinstance(cls, type)
            and issubclass(cls, torch.nn.Module)
            and name not in _HOLDERS
            and hasattr(core.nn, name)
        ):
            yield cls, "__init__", _initialized(cls.__init__, getattr(core.nn, name))
    yield torch, "manual_seed", core.manual_seed
    yield torch, "Generator", core.Generator
    yield torch.Tensor, "random_", lambda self, *args, generator=None: self.zero_()  # the seed of a loader's workers
    yield torch.utils.data.dataset, "randperm", _drawn(core.randperm)
    yield torch.utils.data.RandomSampler, "__iter__", _order


def _ours(value: Any) -> Any:
    """Return an argument for PyTorch as one for statezoo."""
    if isinstance(value, torch.Tensor):
        return core.Tensor(value.detach().numpy().copy())
    if isinstance(value, torch.dtype):
        return getattr(core, str(value).removeprefix("torch."))
    if isinstance(value, torch.device):
        return str(value)
    if isinstance(value, torch.Size):
        return tuple(value)
    return None if type(value).__name__ == "Generator" and not isinstance(value, core.Generator) else value


def _call(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> core.Tensor:
    with core.no_grad():
        return function(*map(_ours, args), **{name: _ours(value) for name, value in kwargs.items()})


def _values(drawn: core.Tensor) -> torch.Tensor:
    return torch.from_numpy(np.array(drawn._data))


def _drawn(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function of statezoo as one of PyTorch that returns what it draws."""

    def draw(*args: Any, requires_grad: bool = False, **kwargs: Any) -> torch.Tensor:
        return _values(_call(function, args, kwargs)).requires_grad_(requires_grad)

    return draw


def _method(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function of statezoo as one of PyTorch that draws into its first argument."""

    def draw(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        ours = core.nn.Parameter(tensor.detach().numpy().copy())  # initializers take parameters
        with core.no_grad():
            _call(lambda: function(ours, *map(_ours, args), **kwargs), (), {})
        with torch.no_grad():
            return tensor.copy_(_values(ours))

    return draw


def _dropout(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a dropout of PyTorch that multiplies by what statezoo makes of ones."""

    def drop(input: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> torch.Tensor:
        return input * _values(_call(function, (torch.ones_like(input), p, training), {})) if training else input

    return drop


def _initialized(original: Callable[..., None], ours: Callable[..., core.Module]) -> Callable[..., None]:
    """Return the constructor of a layer that takes the initial state of statezoo's layer."""

    @functools.wraps(original)
    def construct(self: torch.nn.Module, *args: Any, **kwargs: Any) -> None:
        before = get_rng_state()
        original(self, *args, **kwargs)
        if any(isinstance(value, torch.nn.Module) for value in (*args, *kwargs.values())):
            return  # it copies layers that have been made
        set_rng_state(before)
        twin = ours(*map(_ours, args), **{name: _ours(value) for name, value in kwargs.items()})
        self.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in twin.state_dict().items()})

    return construct


def _order(self: torch.utils.data.RandomSampler) -> Iterator[int]:
    """Yield the positions that statezoo's sampler yields."""
    generator = self.generator if isinstance(self.generator, core.Generator) else None
    return iter(RandomSampler(self.data_source, self.replacement, self._num_samples, generator))
