"""The leaves of trees as NumPy arrays, and arrays as leaves. No framework is imported here."""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any

import numpy as np

from ...errors import StateError, UnsupportedTypeError
from ...state.deferred import Deferred
from ...state.validation import EXTRA, as_array
from .kinds import NUMBERS, is_key
from .structure import Leaf

# What an array of a framework has besides its values.
_PLACE = ("sharding", "committed", "device", "requires_grad")
PlaceOf = Callable[[str, Leaf], Hashable]
_KEYS = "Make the keys with jax.random.key(seed, impl=...) of the algorithm in the file."


def arrays_of(leaves: Mapping[str, Leaf], place_of: PlaceOf | None = None) -> dict[str, Any]:
    """Return the state in leaves: arrays and extra values by name.

    place_of: of the leaves of a model that is changed in place. There, what counts is the place and not the array: the
    same array of JAX in two places is two arrays. Otherwise, an array with two names is one.
    A number becomes an array without axes. A key of jax.random becomes its numbers, and its algorithm an extra value.
    In classes other than dict, list and tuple, a leaf that is neither is no state.
    Raises UnsupportedTypeError for an array that cannot be read, and for a leaf that holds arrays.
    """
    state: dict[str, Any] = {}
    arrays: dict[Hashable, Any] = {}
    addresses: set[int] = set()
    for name, leaf in leaves.items():
        value, place = leaf.value, place_of(name, leaf) if place_of else id(leaf.value)
        if type(value) in NUMBERS:
            state[name] = np.asarray(value)
        elif place in arrays:
            state[name] = arrays[place]
        elif (array := _memory_of(name, value)) is not None:
            is_apart = place_of is not None and _framework_of(value) == "jax"
            state[name] = arrays[place] = _apart(array, addresses) if is_apart else array
        elif leaf.is_open:
            state[name] = value  # extra state, or save_file says what is wrong with it
        else:
            _refuse_hidden_arrays(name, value)
        if is_key(value):
            state[f"{name}.{EXTRA}"] = _algorithm_of(value)
    return state


def _apart(array: Any, addresses: set[int]) -> Any:
    """Return an array, or a copy if its address was seen before. An array of JAX may be in several variables."""
    address = array.__array_interface__["data"][0]
    if address in addresses:
        return array.copy()
    addresses.add(address)
    return array


def shapes_of(leaves: Mapping[str, Leaf], place_of: PlaceOf) -> dict[str, Any]:
    """Return what `arrays_of` returns, but the values of the arrays are undefined: none is copied from a device.

    place_of: names with the same place get the same array.
    """
    shapes: dict[str, Any] = {}
    places: dict[Hashable, np.ndarray] = {}
    for name, leaf in leaves.items():
        value = leaf.value
        if type(value) in NUMBERS:
            shapes[name] = np.asarray(value)
        elif (place := place_of(name, leaf)) in places:
            shapes[name] = places[place]
        elif (shape := _shape_of(name, value)) is not None:
            shapes[name] = places[place] = shape
        elif leaf.is_open:
            shapes[name] = value
        if is_key(value):
            shapes[f"{name}.{EXTRA}"] = None
    return shapes


def new_leaves(kind: str, leaves: Mapping[str, Leaf], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the leaves that replace others, by name. An array with several names becomes one leaf if it can.

    kind: the name of the model's class. values: arrays and extra values by name, as from `arrays_of`.
    Raises StateDictError for keys of another algorithm.
    """
    made: dict[Hashable, Any] = {}
    new: dict[str, Any] = {}
    problems: list[str] = []
    for name, value in values.items():
        if name not in leaves:
            problems += _key_problem(name, value, leaves[name.removesuffix(f".{EXTRA}")].value)
        elif not isinstance(value, np.ndarray) or type(leaves[name].value) in NUMBERS:
            new[name] = type(leaves[name].value)(value.item()) if isinstance(value, np.ndarray) else value
        else:
            old = leaves[name].value
            place = id(value), type(old), *(getattr(old, attribute, None) for attribute in _PLACE)
            if place not in made:
                made[place] = leaf_like(old, value)
            new[name] = made[place]
    if problems:
        from ....core.errors import StateDictError

        raise StateDictError(kind, problems, _KEYS)
    return new


def _key_problem(name: str, algorithm: Any, key: Any) -> Iterator[str]:
    if algorithm != _algorithm_of(key):
        yield f"{name}  is the algorithm {algorithm!r} in the file, {_algorithm_of(key)!r} in the model"


def leaf_like(old: Any, array: np.ndarray) -> Any:
    """Return an array as a leaf of the kind of `old`, on its devices. The dtypes and shapes are equal."""
    if isinstance(old, np.ndarray):
        return array
    if isinstance(old, np.generic):
        return array[()]
    if _framework_of(old) == "mlx":
        return _in_mlx(old, array)
    if _framework_of(old) == "torch":
        return _in_torch(old, array)
    return _in_jax(old, array)


def optional_names(leaves: Mapping[str, Leaf]) -> list[str]:
    """Return the names that a file may lack: the algorithms of keys, and numbers in classes, such as a dropout rate."""
    numbers = [name for name, leaf in leaves.items() if type(leaf.value) in NUMBERS and not leaf.is_open]
    return numbers + [f"{name}.{EXTRA}" for name, leaf in leaves.items() if is_key(leaf.value)]


def _memory_of(name: str, value: Any) -> np.ndarray | Deferred | None:
    if isinstance(value, Deferred):
        return value
    if isinstance(value, type):
        return None  # jax.numpy.float32 can be read as an array
    return as_array(name, sys.modules["jax"].random.key_data(value) if is_key(value) else value)


def _shape_of(name: str, value: Any) -> np.ndarray | None:
    """Return an array of the shape and dtype of an array, or None. Its memory is not touched, so it takes none."""
    if is_key(value):
        jax = sys.modules["jax"]
        value = jax.eval_shape(jax.random.key_data, value)
    if _framework_of(value) == "jax" and hasattr(value, "dtype"):
        return np.empty(value.shape, value.dtype)
    array = _memory_of(name, value)
    if array is None:
        return None
    if isinstance(array, Deferred) or not (
        isinstance(value, np.ndarray | np.generic) or _framework_of(value) in ("mlx", "torch")
    ):
        raise UnsupportedTypeError(
            f"{name!r} is {type(value).__name__}, which a load cannot make. Load into a tree of NumPy, JAX, MLX or "
            "PyTorch arrays."
        )
    return np.empty(array.shape, array.dtype)


def _refuse_hidden_arrays(name: str, value: Any) -> None:
    """Raise UnsupportedTypeError for an object with arrays that the tree does not reach."""
    for attribute, held in getattr(value, "__dict__", {}).items():
        if hasattr(held, "shape") and hasattr(held, "dtype") and not isinstance(value, type) and not callable(value):
            kind = type(value).__name__
            raise UnsupportedTypeError(
                f"{name!r} is a {kind} with an array in {attribute!r}, which would not be saved: JAX does not know its "
                f"class. Register {kind} as a pytree."
            )


def _framework_of(value: Any) -> str:
    return type(value).__module__.partition(".")[0].removesuffix("lib")  # arrays of JAX are from jaxlib


def _algorithm_of(key: Any) -> str:
    """Return the name of the algorithm of a key of jax.random, such as threefry2x32."""
    return key.dtype._impl.name  # jax.random.key_impl does not take an abstract key


def _in_mlx(old: Any, array: np.ndarray) -> Any:
    """Return an array of MLX. It is made from integers, as MLX converts float64 to float32."""
    mx = sys.modules["mlx.core"]
    bits = mx.array(np.ascontiguousarray(array).reshape(-1).view(f"u{array.itemsize}"))
    made = mx.reshape(mx.view(bits, old.dtype, stream=mx.cpu), array.shape, stream=mx.cpu)
    mx.eval(made)
    return made


def _in_torch(old: Any, array: np.ndarray) -> Any:
    torch = sys.modules["torch"]
    made = torch.empty(array.shape, dtype=old.dtype)
    memory: Any = as_array("", made)
    memory[...] = array
    return made.to(old.device).requires_grad_(old.requires_grad)


def _in_jax(old: Any, array: np.ndarray) -> Any:
    jax = sys.modules["jax"]
    # An array that is not committed to a device may be moved by an operation with one that is.
    sharding = old.sharding if getattr(old, "committed", True) else None
    if is_key(old):
        made = jax.random.wrap_key_data(jax.numpy.asarray(array), impl=_algorithm_of(old))
        return made if sharding is None else jax.device_put(made, sharding)
    made = jax.device_put(array, sharding)
    if made.dtype != array.dtype:
        raise StateError(f"JAX makes {made.dtype} of {array.dtype}. Set jax_enable_x64.")
    return made
