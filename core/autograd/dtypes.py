"""The dtypes that tensors hold. 16-bit floats are computed in float32 where rounding each step would lose too much."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ArgumentError

if TYPE_CHECKING:
    from .tensor import Tensor

# The kinds of dtype a tensor may have; "V" are those of ml_dtypes, such as bfloat16.
NUMBERS = "biufcV"

# The dtypes by torch's names. bfloat16 is not among them: it needs ml_dtypes, which is imported when it is asked for.
_ALIASES = {"half": "float16", "float": "float32", "double": "float64", "cfloat": "complex64", "cdouble": "complex128",
            "short": "int16", "int": "int32", "long": "int64"}  # fmt: skip
_NAMES = (*(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)), "bool", *_ALIASES.values())
NAMED = {name: np.dtype(_ALIASES.get(name, name)) for name in (*_NAMES, *_ALIASES)}


def bfloat16() -> np.dtype[Any]:
    """Return the dtype bfloat16. Raises ImportError without the package ml_dtypes."""
    import ml_dtypes  # not at the start: core needs nothing but NumPy

    return np.dtype(ml_dtypes.bfloat16)


_default = [NAMED["float32"]]  # a list, so that it can change


def get_default_dtype() -> np.dtype[Any]:
    """Return the dtype of tensors made from Python floats, of `zeros()` and the like, and of new layers."""
    return _default[0]


def set_default_dtype(d: Any) -> None:
    """Set the dtype of `get_default_dtype` for the whole process, to float32 or float64.

    Raises ArgumentError for any other dtype.
    """
    if d not in (np.float32, np.float64):
        raise ArgumentError(
            f"the default dtype can be float32 or float64, not {d}. Pass dtype= where you need another."
        )
    _default[0] = np.dtype(d)


def holds_numbers(value: Any) -> bool:
    """Return True if NumPy makes an array of numbers or booleans from value."""
    try:
        return np.asarray(value).dtype.kind in NUMBERS
    except ValueError:  # nested lists of unequal lengths
        return False


def is_floating(dtype: np.dtype) -> bool:
    """Return True if dtype is a floating-point type, of NumPy or of ml_dtypes."""
    if dtype.kind != "V":
        return dtype.kind == "f"
    # ml_dtypes registers its integers as kind "V" too; no integer holds one half.
    return dtype.type is not np.void and bool(dtype.type(0.5) == 0.5)


def rank(dtype: np.dtype) -> int:
    """Return the kind of dtype by rising generality: 0 for bool, 1 for integers, 2 for floats, 3 for complex."""
    return 1 if dtype.kind == "V" and not is_floating(dtype) else {"b": 0, "i": 1, "u": 1, "c": 3}.get(dtype.kind, 2)


def promoted(*arrays: np.ndarray) -> np.dtype[Any]:
    """Return the dtype in which torch combines arrays: the widest of those of the most general kind.

    Arrays without axes count only if their kind is more general than that of all others.
    """
    ranks = [rank(array.dtype) for array in arrays]
    of_axes = [r for r, array in zip(ranks, arrays, strict=True) if array.ndim]
    if of_axes and max(of_axes) == max(ranks):
        arrays = tuple(array for array in arrays if array.ndim)
    return np.result_type(*(array.dtype for array in arrays if rank(array.dtype) == max(ranks)))


def widened(array: np.ndarray) -> np.ndarray:
    """Return floats of up to 16 bits as float32, so sums do not overflow or drop small terms; else return the array."""
    return array.astype(np.float32) if array.dtype.itemsize <= 2 and array.dtype.kind in "fV" else array


def narrowed(array: Any, like: Tensor) -> Any:
    """Return a result computed from `widened` operands in the dtype of like."""
    dtype = like._data.dtype
    return array.astype(dtype) if dtype.itemsize <= 2 and dtype.kind in "fV" else array
