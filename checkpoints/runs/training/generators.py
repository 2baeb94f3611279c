"""The random generators of a training, NumPy's and PyTorch's: their states in a file, and back.

generators={"order": np.random.default_rng(1), "dropout": torch.default_generator}
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import ArgumentError
from ...models.values import from_json, to_json
from ...reading.lazy import Checkpoint
from ...state.torch_tensors import memory_of
from ...state.validation import EXTRA

if TYPE_CHECKING:
    from ....core.commit.commit import Commit

Generators = Mapping[str, Any]


def all_generators(model: Any, given: Generators) -> dict[str, Any]:
    """Return each generator of a training once: the given ones, those held by modules, and core's default one.

    The default generator counts only for models of core: the others draw nothing from it.
    Raises ArgumentError for a name or a value that cannot be used.
    """
    from ....core.nn.module.module import Module
    from ....core.random import default_generator

    found = {"default": default_generator(), **given} if isinstance(model, Module) else dict(given)
    if "default" in given:
        raise ArgumentError('the name "default" belongs to the default generator, which is always saved. Use another.')
    for name, value in given.items():
        if not isinstance(name, str) or not _is_generator(value):
            raise ArgumentError(
                f"generators must be numpy.random.Generator or torch.Generator objects by name, but {name!r} is a "
                f"{type(value).__name__}. Make one with numpy.random.default_rng(seed)."
            )
    for path, module in model.named_modules() if hasattr(model, "named_modules") else ():
        for name, value in vars(module).items():
            if _is_generator(value):
                found[".".join(filter(None, ("model", path, name)))] = value
    return {name: generator for name, generator in found.items() if not _has_earlier_name(name, generator, found)}


def _is_generator(value: Any) -> bool:
    return isinstance(value, np.random.Generator) or _is_of_torch(value)


def _is_of_torch(value: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Generator)


def _has_earlier_name(name: str, generator: Any, found: Generators) -> bool:
    return next(other for other, value in found.items() if value is generator) != name


def _state_of(generator: Any) -> dict[str, Any]:
    """Return the state of a generator, in NumPy's form."""
    from ....core.random import get_rng_state

    if _is_of_torch(generator):
        return {"bit_generator": f"torch {generator.device.type}", "state": memory_of("state", generator.get_state())}
    return get_rng_state(generator)


def generator_state(prefix: str, generator: Any) -> dict[str, Any]:
    """Return a generator's arrays as tensors, and the rest as extra state with each array replaced by None."""
    tensors: dict[str, Any] = {}

    def without_arrays(part: Mapping[str, Any], path: str) -> dict[str, Any]:
        rest = {}
        for key, value in part.items():
            if isinstance(value, np.ndarray):
                tensors[f"{path}.{key}"], value = value, None
            rest[key] = without_arrays(value, f"{path}.{key}") if isinstance(value, dict) else value
        return rest

    rest = without_arrays(_state_of(generator), prefix)
    return {**tensors, f"{prefix}.{EXTRA}": to_json(rest, prefix)}


def generator_states(checkpoint: Checkpoint) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name and the state of each generator in a file, with None replaced by the arrays."""

    def with_arrays(part: dict[str, Any], path: str) -> dict[str, Any]:
        whole = {}
        for key, value in part.items():
            if isinstance(value, dict):
                value = with_arrays(value, f"{path}.{key}")
            whole[key] = checkpoint[f"{path}.{key}"][...] if value is None else value
        return whole

    for name in checkpoint:
        stem = name.removesuffix(f".{EXTRA}")
        if stem != name and stem.startswith("generators."):
            yield stem.removeprefix("generators."), with_arrays(from_json(checkpoint[name]), stem)


def generator_problems(own: Generators, saved: Mapping[str, dict[str, Any]]) -> list[str]:
    """Return a line for each generator that is only on one side, or whose kind differs. saved: states by name."""
    problems = [f"generators.{name} is in the file, but was not given" for name in saved if name not in own]
    for name, generator in own.items():
        state = saved.get(name)
        if state is None:
            problems.append(f"generators.{name} is missing from the file")
            continue
        kind, was = _state_of(generator)["bit_generator"], state.get("bit_generator")
        if kind != was:
            problems.append(f"generators.{name} is {was} in the file, {kind} here")
            continue
        try:
            _try(generator, state)
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            problems.append(f"generators.{name}: {error}")
    return problems


def _try(generator: Any, state: Mapping[str, Any]) -> None:
    """Raise what setting the state would raise. The generator is not changed."""
    from ....core.random import set_rng_state

    if _is_of_torch(generator):
        type(generator)(generator.device).set_state(_torch_state(state))
    else:
        set_rng_state(state, copy.deepcopy(generator))


def _torch_state(state: Mapping[str, Any]) -> Any:
    return sys.modules["torch"].from_numpy(np.array(state["state"]))


def add_generator(commit: Commit, generator: Any, state: Mapping[str, Any]) -> None:
    """Add the change of a generator to a commit. `generator_problems` must have found none."""
    if _is_of_torch(generator):
        commit.add([(generator.set_state, _torch_state(state))])
    else:
        commit.set_generator(generator, state)
