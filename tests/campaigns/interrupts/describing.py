"""What a model, an optimizer or a generator holds, as values that can be compared."""

from __future__ import annotations

from typing import Any

import numpy as np

from statezoo import core as nn
from statezoo.core import optim
from statezoo.core.optim.lr_scheduler import LRScheduler


def describe(thing: Any, seen: dict[int, int] | None = None) -> Any:
    """Return all that a thing holds, as comparable values. An object that comes a second time is a number."""
    seen = {} if seen is None else seen
    if isinstance(thing, np.ndarray):
        return thing.dtype.str, thing.shape, thing.strides, thing.tobytes(), _number(_memory(thing), seen)
    if isinstance(thing, np.random.Generator):
        return describe(thing.bit_generator.state, seen)
    if isinstance(thing, dict):
        return [(describe(key, seen), describe(value, seen)) for key, value in thing.items()]
    if isinstance(thing, list | tuple):
        return [describe(value, seen) for value in thing]
    if isinstance(thing, set):
        return sorted(thing)
    if not isinstance(thing, nn.Module | nn.Tensor | optim.Optimizer | LRScheduler):
        return thing if isinstance(thing, int | float | str | bool | None) else type(thing).__name__
    if id(thing) in seen:
        return seen[id(thing)]
    _number(id(thing), seen)
    if isinstance(thing, nn.Tensor):
        own = [getattr(thing, name, None) for name in ("data", "grad", "requires_grad", "_holders", "persistent")]
        return describe([*own, thing._parents], seen)
    return describe({name: vars(thing)[name] for name in sorted(vars(thing)) if name != "_memory"}, seen)


def _memory(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0] if array.size else 0


def _number(key: int, seen: dict[int, int]) -> int:
    return seen.setdefault(key, len(seen))
