"""Adapters, one file for each framework, and which of them a model needs. No framework is imported to find out."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from ...errors import ArgumentError, UnsupportedTypeError
from ...reading.lazy import Checkpoint
from ...state.validation import reading_names
from ..trees.kinds import is_flat, is_pytree
from .adapter import Adapter as Adapter
from .adapter import Pair as Pair

_CORE = __name__.rpartition(".checkpoints.")[0] + ".core"
# The full name of a class, and the file with the ADAPTER of its models and those of its subclasses.
_BUILT_IN = {
    f"{_CORE}.nn.module.module.Module": "ours",
    "torch.nn.modules.module.Module": "torch_",
    "keras.src.layers.layer.Layer": "keras_",
    "keras.src.optimizers.base_optimizer.BaseOptimizer": "keras_",
    "flax.nnx.module.Module": "nnx",
    "flax.nnx.pytreelib.Pytree": "nnx",
    "mlx.nn.layers.base.Module": "mlx_",
}
_TREES = "trees"
_registered: dict[type | str, Adapter] = {}


def register_adapter(kind: type | str, adapter: Adapter) -> None:
    """Save and load the instances of a class, and of its subclasses, with an adapter. See adapter.py for an example.

    kind: the class, or its full name, such as "micrograd.nn.Module", if it is not imported yet. The nearest registered
    class of a model counts, and yours come before those of the library.
    Raises ArgumentError for any other argument.
    """
    if not isinstance(kind, type | str) or not isinstance(adapter, Adapter):
        raise ArgumentError(
            "register_adapter takes a class, or its full name, and an instance of a subclass of Adapter, not "
            f"{kind!r:.60} and {adapter!r:.60}."
        )
    _registered[kind] = adapter


def find_adapter(model: Any) -> Adapter | None:
    """Return the adapter of a model, or None if nothing is known of its class."""
    found = _find(model)
    return import_module(f".{found}", __name__).ADAPTER if isinstance(found, str) else found


def adapter_of(model: Any) -> Adapter:
    """Return the adapter of a model. Raises UnsupportedTypeError if nothing is known of its class."""
    found = find_adapter(model)
    if found is None:
        raise UnsupportedTypeError(
            "a model is one of statezoo, PyTorch, Keras, JAX, flax or MLX, a dict of arrays, or an object with "
            f"state_dict() and load_state_dict(), not {type(model).__name__}. For any other, call register_adapter."
        )
    return found


def state_of(model: Any) -> Mapping[str, Any]:
    """Return the state of a model, as for save_file. An open Checkpoint is one.

    Raises UnsupportedTypeError if nothing is known of its class.
    """
    if isinstance(model, Checkpoint):
        return model
    with reading_names():
        if isinstance(model, Mapping) and _find(model) == _TREES and is_flat(model):
            return model
        return adapter_of(model).state(model)


def _find(model: Any) -> Adapter | str | None:
    """Return the adapter of a model, or the file of a built-in one. No file is imported."""
    for kind in type(model).__mro__:
        name = f"{kind.__module__}.{kind.__qualname__}"
        found = _registered.get(kind) or _registered.get(name) or _BUILT_IN.get(name)
        if found is not None:
            return found
    if is_pytree(model):
        return _TREES
    if callable(getattr(model, "state_dict", None)):
        return "stateful"
    return _TREES if isinstance(model, Mapping | list | tuple) else None
