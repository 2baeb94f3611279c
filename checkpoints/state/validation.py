"""The checks of a state and its metadata before anything is written."""

from __future__ import annotations

import json
import marshal
import sys
from collections.abc import Iterable, Mapping
from contextlib import ContextDecorator
from types import TracebackType
from typing import Any

import numpy as np

from ..errors import StateError, UnsupportedTypeError
from . import dtypes, torch_tensors
from .deferred import Deferred

EXTRA = "_extra_state"
RESERVED_KEY = "statezoo"


def checked_state(state: Mapping[str, Any]) -> tuple[dict[str, np.ndarray | Deferred], dict[str, Any], list[str]]:
    """Return the arrays of a state by name, deferred ones included, its extra values by name, and all names in order.

    Raises StateError or UnsupportedTypeError naming a value that is neither.
    """
    if not isinstance(state, Mapping):
        raise UnsupportedTypeError(
            f"a state is a dict of arrays by name, not {type(state).__name__}. For a model use save_model."
        )
    state = _items_of(state)
    check_names(state)
    arrays: dict[str, np.ndarray | Deferred] = {}
    extra: dict[str, Any] = {}
    for name, value in state.items():
        array = value if type(value) is np.ndarray or isinstance(value, Deferred) else as_array(name, value)
        if array is not None:
            arrays[name] = array
        elif name.rpartition(".")[2] == EXTRA:
            extra[name] = _checked_extra(name, value)
        else:
            raise UnsupportedTypeError(
                f"{name!r} is {type(value).__name__}, not an array. Wrap it in numpy.asarray, or put it into metadata."
            )
    return arrays, extra, list(state)


class reading_names(ContextDecorator):  # used as a function
    """Raise StateError if another thread adds or removes names of a state that is read in the `with` block."""

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, RuntimeError) and str(error).endswith("during iteration"):
            raise _changed(error) from error


def _changed(error: Exception) -> StateError:
    return StateError(
        f"the state was changed while its names were read ({error}). Save when no other thread changes the names."
    )


def _items_of(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the items of a state at one moment. Another thread may be adding to it or removing from it."""
    with reading_names():
        try:
            return dict(state)
        except LookupError as error:
            raise _changed(error) from error


def check_names(names: Iterable[Any]) -> None:
    """Raise StateError or UnsupportedTypeError if a name is not text that a file can hold."""
    try:
        "".join(names).encode()
    except (TypeError, UnicodeEncodeError):
        for name in names:
            _check_text(name, "the name of a tensor")


def as_array(name: str, value: Any) -> np.ndarray | None:
    """Return the memory of an array, a Tensor or another framework's tensor, or None for any other value."""
    if isinstance(value, np.ma.MaskedArray):
        raise UnsupportedTypeError(
            f"{name!r} is a masked array, whose mask would be lost. Save array.filled(), or its data and mask."
        )
    # The attribute `data` of a NumPy scalar of bfloat16 raises.
    if isinstance(value, np.ndarray | np.generic):
        return np.asarray(value)
    if torch_tensors.is_tensor(value):
        return torch_tensors.memory_of(name, value)
    mlx = sys.modules.get("mlx.core")
    if isinstance(value, getattr(mlx, "array", ())):
        return _memory_of_mlx(value, mlx)
    data = getattr(value, "data", None)
    if isinstance(data, np.ndarray):
        return np.asarray(data)
    if not hasattr(value, "__array__"):
        return None
    try:
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UnsupportedTypeError(f"{name!r} cannot be read as a NumPy array: {error}.") from error


def _memory_of_mlx(array: Any, mlx: Any) -> np.ndarray:
    """Return the memory of an array of MLX, read-only: a copy of the array may have the same memory."""
    if array.dtype == mlx.bfloat16:  # NumPy knows no buffers of this dtype
        memory = np.asarray(array.view(mlx.uint16)).view(dtypes.numpy_dtype("BF16"))
    else:
        memory = np.asarray(array)
    memory.flags.writeable = False
    return memory


def _checked_extra(name: str, value: Any) -> Any:
    """Return a copy of an extra value, all of one moment: another thread may be changing it."""
    try:
        value = marshal.loads(marshal.dumps(value))  # in one C call each; keeps all types that JSON has, and others
        text = json.dumps(value, allow_nan=False)
        text.encode()
        json.loads(text)
        json.dumps(value, ensure_ascii=False).encode()
        same = _identical(value, json.loads(text))
    except (TypeError, ValueError, RecursionError):
        same = False
    if not same:
        raise UnsupportedTypeError(
            f"the extra state {name!r} would not load unchanged: files hold None, bool, int, finite float, str, list "
            "and dict with str keys. Return these from get_extra_state(), or register arrays as buffers."
        )
    return value


def _identical(a: Any, b: Any) -> bool:
    """Return True if two values are equal, including the types of everything in them."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(_identical(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(_identical, a, b))
    return bool(a == b)


def checked_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return the user's metadata as a dict. Raises StateError or UnsupportedTypeError if something is not text."""
    if not isinstance(metadata, Mapping):
        raise UnsupportedTypeError(f"metadata is a dict of strings, not {type(metadata).__name__}.")
    metadata = dict(metadata)
    for key, value in metadata.items():
        _check_text(key, "a key of the metadata")
        _check_text(value, f"the metadata {key!r}")
        if key == RESERVED_KEY:
            raise StateError(f"the metadata key {key!r} is reserved for the library. Choose another.")
    return metadata


def _check_text(text: Any, what: str) -> None:
    if not isinstance(text, str):
        raise UnsupportedTypeError(
            f"{what} is {type(text).__name__} ({text!r:.60}), not str. Convert it, for example with json.dumps."
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise StateError(
            f"{what} is {text!a:.60}, which has a lone surrogate and is therefore not text. Replace that character."
        ) from error
