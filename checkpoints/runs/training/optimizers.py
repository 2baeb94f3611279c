"""The optimizers and schedules of core and of PyTorch: what of their state goes where, and how it is loaded.

PyTorch's are loaded by their own load_state_dict, from tensors. It converts what an optimizer keeps to the dtype of the
parameter, which would lose bits of a float32 average of a bfloat16 parameter: the exact tensors follow.
"""

from __future__ import annotations

import copy
import inspect
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from ...errors import ArgumentError, UnsupportedTypeError
from ...models.adapters.torch_ import array_of, tensor_of
from ...state.torch_tensors import is_tensor


def checked_optimizer(optimizer: Any) -> Any:
    """Return an optimizer. Raises ArgumentError if it is not like those of core and PyTorch."""
    if not hasattr(optimizer, "param_groups") or not hasattr(optimizer, "state_dict"):
        raise ArgumentError(
            f"an optimizer is one of statezoo.core.optim, torch.optim, Keras or flax.nnx, not "
            f"{type(optimizer).__name__}. Save the state of any other with save_model or save_file."
        )
    return optimizer


def checked_trainee(model: Any) -> Any:
    """Return a model. Raises UnsupportedTypeError if its parameters have no names that an optimizer could know."""
    if not hasattr(model, "named_parameters") or not hasattr(model, "named_modules"):
        raise UnsupportedTypeError(
            f"a training has a statezoo or PyTorch Module, not {type(model).__name__}. Save the state of any other, "
            "and that of its optimizer, with save_model or save_file."
        )
    return model


def split(kept: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what an optimizer keeps for a parameter: arrays, and other values such as numbers and None.

    An array at position 3 of the list "old_dirs" gets the name "old_dirs[3]", and leaves None in the list.
    """
    arrays: dict[str, Any] = {}
    others: dict[str, Any] = {}
    for key, value in kept.items():
        if _is_array(value):
            arrays[key] = array_of(key, value)
        elif isinstance(value, list):
            arrays |= {f"{key}[{i}]": array_of(key, item) for i, item in enumerate(value) if _is_array(item)}
            others[key] = [None if _is_array(item) else item for item in value]
        else:
            others[key] = value
    return arrays, others


def joined(arrays: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `split` was given."""
    arrays = dict(arrays)
    lists = {key: value for key, value in others.items() if isinstance(value, list)}
    filled = {key: [arrays.pop(f"{key}[{i}]", item) for i, item in enumerate(value)] for key, value in lists.items()}
    return {**arrays, **others, **filled}


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray) or is_tensor(value)


def as_kept(optimizer: Any, value: Any) -> Any:
    """Return a value from a file as the optimizer keeps it: with tensors for PyTorch's."""
    if isinstance(value, list):
        return [as_kept(optimizer, item) for item in value]
    return tensor_of(value) if isinstance(value, np.ndarray) and is_of_torch(optimizer) else value


def is_of_torch(thing: Any) -> bool:
    """Return True for an optimizer or schedule of PyTorch, or of a class that derives from one."""
    return any(kind.__module__.startswith("torch.") for kind in type(thing).__mro__)


def has_steps(thing: Any) -> bool:
    """Return True if a load of this optimizer or schedule can be prepared: its load_state_dict is that of core."""
    from ....core.optim.lr_scheduler import LRScheduler
    from ....core.optim.optimizer import Optimizer

    of_core = (Optimizer.load_state_dict, LRScheduler.load_state_dict)
    return getattr(thing.load_state_dict, "__func__", None) in of_core  # not in the class: an instance may have its own


def loader(thing: Any, state: Mapping[str, Any]) -> Callable[[], object]:
    """Return the call that loads an optimizer or schedule by its own load_state_dict."""
    return partial(_load, thing, state)


def _load(thing: Any, state: Mapping[str, Any]) -> None:
    # PyTorch's take some values as they are and remove others.
    thing.load_state_dict({key: value if key == "state" else copy.deepcopy(value) for key, value in state.items()})
    torch = sys.modules.get("torch")
    if torch is None or getattr(type(thing), "load_state_dict", None) is not torch.optim.Optimizer.load_state_dict:
        return
    parameters = [parameter for group in thing.param_groups for parameter in group["params"]]
    for position, kept in state["state"].items():
        own = thing.state[parameters[position]]
        for key, value in kept.items():
            if is_tensor(value) and own[key].dtype != value.dtype:
                own[key] = value.to(own[key].device)


def parts_of(schedule: Any) -> Iterator[Any]:
    """Yield the objects that a load of a schedule may change: itself, those that it combines, and its functions."""
    if schedule is None:
        return
    yield schedule
    for inner in getattr(schedule, "_schedulers", ()):
        yield from parts_of(inner)
    yield from (function for function in getattr(schedule, "lr_lambdas", ()) if not inspect.isroutine(function))


def advancing(schedule: Any) -> Collection[str]:
    """Return the names in the state of a schedule that training changes. The others are hyperparameters."""
    given = inspect.signature(type(schedule)).parameters.keys() - {"last_epoch"}
    return schedule.state_dict().keys() - given - {*getattr(schedule, "fixed", ())}


def scheduled(schedule: Any) -> tuple[str, ...]:
    """Return the names of the hyperparameters that training changes."""
    cycles = any(getattr(part, "cycle_momentum", False) for part in parts_of(schedule))
    return ("lr", "momentum", "betas") if cycles else ("lr",)


def as_in(own: Any, value: Any) -> Any:
    """Return a value from JSON, which has no tuples and counters, in the type of the value that is there now."""
    kind: Any = type(own)
    return kind(value) if isinstance(own, tuple | Mapping) and isinstance(value, list | Mapping) else value
