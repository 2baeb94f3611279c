"""The kinds of values in a tree. JAX and flax are not imported here."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from ...state.validation import EXTRA

NUMBERS = (bool, int, float, complex)


def is_flat(state: Mapping[Any, Any]) -> bool:
    """Return True for a dict that save_file takes as it is: without trees, numbers, None and keys of jax.random."""
    return all(isinstance(name, str) for name in state) and not any(
        isinstance(value, Mapping | list | tuple | None) or type(value) in NUMBERS or is_pytree(value) or is_key(value)
        for name, value in state.items()
        if type(value) is not np.ndarray and not is_extra(name)
    )


def is_extra(key: Any) -> bool:
    """Return True for the key of an extra value, which may itself be a dict or a list."""
    return isinstance(key, str) and key.rpartition(".")[2] == EXTRA


def is_pytree(value: Any) -> bool:
    """Return True for an object of a class that is registered with JAX as a pytree."""
    all_leaves = _loaded("jax.tree_util", "all_leaves")
    return all_leaves is not None and value is not None and not all_leaves([value])


def is_key(value: Any) -> bool:
    """Return True for keys of jax.random, which are arrays of a dtype of their own."""
    is_dtype, key_dtype = _loaded("jax.dtypes", "issubdtype"), _loaded("jax.dtypes", "prng_key")
    if not type(value).__module__.startswith("jax") or not hasattr(value, "dtype") or key_dtype is None:
        return False
    return is_dtype(value.dtype, key_dtype)


def is_flax_variable(value: Any) -> bool:
    return isinstance(value, _loaded("flax.nnx", "Variable") or ())


def is_of_flax(value: Any) -> bool:
    return isinstance(value, tuple(_loaded("flax.nnx", name) or () for name in ("Variable", "Module", "Pytree")))


def _loaded(module: str, name: str) -> Any:
    """Return what a module has under a name, or None. Another thread may be importing the module right now."""
    return getattr(sys.modules.get(module), name, None)
