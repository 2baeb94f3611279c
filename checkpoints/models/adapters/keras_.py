"""The models of Keras 3, with any backend.

The names are those of a `.weights.h5` file of Keras, with dots: `layers.dense.vars.0`. They come from attributes,
classes and positions, so they are the same for two models of one kind. The names of layers are not: Keras counts the
layers that a process makes. A layer that is used twice has one name. A variable in two layers has two, which are tied.

Keras does not save all variables exactly. Here, `layers.dropout.seed_generators.vars.0` is the state of a seed
generator, which Keras leaves out, and `layers.dense.lora.vars.0` a variable of a layer with LoRA, which Keras merges.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np

from ....core.commit.commit import Commit
from ....core.errors import StateDictError
from ....core.nn.module.loading import Targets
from ...errors import StateError
from ...state.torch_tensors import is_tensor
from ...state.validation import as_array
from ..trees.leaves import arrays_of, leaf_like
from ..trees.structure import Leaf
from .adapter import Adapter
from .torch_ import add_write

_SEEDS = "seed_generators"
# Some backends have no dtype for seeds, which have 32 bits and no sign.
_SEED_DTYPE = np.dtype(np.uint32)


class _Keras(Adapter):
    has_optimizers = True

    def state(self, model: Any) -> Mapping[str, Any]:
        return _arrays_of(_Walk(model).leaves)

    def targets(self, model: Any) -> Targets:
        walk = _Walk(model)
        seeds = [name for name, leaf in walk.leaves.items() if _is_seed(leaf)]
        is_copied = all(_is_variable(leaf.owner) and is_tensor(leaf.value) for leaf in walk.leaves.values())
        return Targets(type(model).__name__, _arrays_of(walk.leaves), seeds, is_copied, walk.optimizers)

    def load(self, model: Any, values: Mapping[str, Any], commit: Commit) -> None:
        stores: dict[int, tuple[Any, dict[str, Any]]] = {}
        leaves = _Walk(model).leaves
        for name, value in values.items():
            leaf = leaves[name]
            if _is_variable(leaf.owner):
                _add_assignment(name, leaf.owner, value, commit)
            else:
                stores.setdefault(id(leaf.owner), (leaf.owner, {}))[1][leaf.key] = value
        for layer, store in stores.values():
            before = {leaf.key: np.array(leaf.value) for leaf in leaves.values() if leaf.owner is layer}
            load = partial(_load_own_variables, type(model).__name__, layer, before | store)
            commit.call(load, keep=[], revert=partial(layer.load_own_variables, before))


ADAPTER = _Keras()


def _load_own_variables(kind: str, layer: Any, store: Mapping[str, np.ndarray]) -> None:
    try:
        layer.load_own_variables(store)
    except Exception as error:
        what = f"was refused by {type(layer).__name__}.load_own_variables(): {type(error).__name__}: {error}"
        raise StateDictError(kind, [f"{layer.name}  {what}"], "Check that method.") from error


def _add_assignment(name: str, variable: Any, value: np.ndarray, commit: Commit) -> None:
    """Add to a commit the assignment of a value to a variable. Only for TensorFlow, it is Python code."""
    raw = variable._value
    backend = type(raw).__module__.partition(".")[0]
    value = value.astype(variable._dtype, copy=False)  # of a seed
    if backend == "torch":
        add_write(name, raw.detach(), value, commit)
    elif backend in ("numpy", "jaxlib"):
        # A property of this name, as with flax, is Python code.
        place = "_value" if "_value" in vars(variable) else "_raw_value"
        commit.add([(object.__setattr__, variable, place, leaf_like(raw, value))])
    else:
        before = np.array(variable)
        commit.call(partial(variable.assign, value), keep=[], revert=partial(variable.assign, before))


class _Walk:
    """What is found in a model, or in an optimizer.

    leaves: the variables, and the values that layers save by methods of their own, by name. optimizers: how the names
    of optimizers start, whose state Keras saves too.
    Raises StateError for a model that has no variables yet.
    """

    def __init__(self, model: Any) -> None:
        self.leaves: dict[str, Leaf] = {}
        self.optimizers: tuple[str, ...] = ("optimizer.",)
        if _is_optimizer(model):
            self._add_optimizer(model)
            return
        if not model.built:
            raise StateError(
                f"{type(model).__name__} is not built, so it has no variables yet. Call it on some data, or call its "
                "build() with the shape of the input."
            )
        for path, part in _parts(model, "", set()):
            if _is_optimizer(part):
                self.optimizers += (f"{path}.",)
            else:
                self.leaves |= {f"{path}.{name}" if path else name: leaf for name, leaf in _own_leaves(part)}

    def _add_optimizer(self, optimizer: Any) -> None:
        if not optimizer.built:
            raise StateError(
                f"the optimizer {type(optimizer).__name__} is not built, so it has no state yet. Call "
                "optimizer.build(model.trainable_variables)."
            )
        self.leaves = {f"vars.{place}": _variable(variable) for place, variable in enumerate(optimizer.variables)}


def _arrays_of(leaves: Mapping[str, Leaf]) -> dict[str, Any]:
    """Return the state in leaves. Seeds have one dtype, whatever the backend."""
    state = arrays_of(leaves, _place_of)
    return {name: array.astype(_SEED_DTYPE) if _is_seed(leaves[name]) else array for name, array in state.items()}


def _own_leaves(layer: Any) -> Iterator[tuple[str, Leaf]]:
    own = [*getattr(layer, "_trainable_variables", ()), *getattr(layer, "_non_trainable_variables", ())]
    saved: dict[str, Any] = {}
    if getattr(layer, "lora_enabled", False):
        yield from ((f"lora.vars.{place}", _variable(variable)) for place, variable in enumerate(own))
    else:
        layer.save_own_variables(saved)
    if all(map(_is_variable, saved.values())):
        yield from ((f"vars.{key}", _variable(variable)) for key, variable in saved.items())
    else:
        yield from ((f"vars.{key}", Leaf(as_array(key, value), layer, key, True)) for key, value in saved.items())
    for place, generator in enumerate(getattr(layer, "_seed_generators", ())):
        yield f"{_SEEDS}.vars.{place}", _variable(generator.state, _SEEDS)


def _variable(variable: Any, kind: str = "variables") -> Leaf:
    if variable._value is None:
        raise StateError(f"the variable {variable.path} has no value yet. Call the model on some data.")
    return Leaf(variable._value, variable, kind, True)


def _parts(part: Any, path: str, seen: set[int]) -> Iterator[tuple[str, Any]]:
    """Yield the layers and optimizers of a model with their paths, as `_save_state` of Keras does."""
    if id(part) in seen:
        return
    seen.add(id(part))
    if hasattr(part, "save_own_variables"):
        yield path, part
    for attribute, child in import_module("keras.src.saving.saving_lib")._walk_saveable(part):
        yield from _parts_in(child, f"{path}.{attribute}" if path else attribute, seen, set())


def _parts_in(value: Any, path: str, seen: set[int], containers: set[int]) -> Iterator[tuple[str, Any]]:
    """Yield the layers in an attribute of a layer, which may be a list, tuple or dict of layers."""
    if _is_part(value):
        yield from _parts(value, path, seen)
    elif isinstance(value, list | tuple | dict) and id(value) not in containers:
        containers.add(id(value))
        counts: Counter[str] = Counter()
        for child in value.values() if isinstance(value, dict) else value:
            if _is_part(child) or isinstance(child, list | tuple | dict):
                kind = _snake_case(type(child).__name__) if _is_part(child) else "container"
                name = f"{kind}_{counts[kind]}" if counts[kind] else kind
                counts[kind] += 1
                yield from _parts_in(child, f"{path}.{name}", seen, containers)


def _is_part(value: Any) -> bool:
    return isinstance(value, import_module("keras.src.saving.keras_saveable").KerasSaveable)


def _is_optimizer(part: Any) -> bool:
    return part._obj_type() == "Optimizer"


def _is_variable(value: Any) -> bool:
    return isinstance(value, import_module("keras").Variable)


def _is_seed(leaf: Leaf) -> bool:
    return leaf.key == _SEEDS


def _snake_case(name: str) -> str:
    return import_module("keras.src.utils.naming").to_snake_case(name)


def _place_of(name: str, leaf: Leaf) -> Hashable:
    """Return a key that is equal for two names of one variable."""
    return id(leaf.value if is_tensor(leaf.value) else leaf.owner), leaf.key  # two variables may share a parameter
