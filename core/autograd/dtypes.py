"""The dtypes that tensors hold. 16-bit floats are computed in float32 where rounding each step would lose too much."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .tensor import Tensor

# The kinds of dtype a tensor may have; "V" are those of ml_dtypes, such as bfloat16.
NUMBERS = "biufcV"


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


def widened(array: np.ndarray) -> np.ndarray:
    """Return floats of up to 16 bits as float32, so sums do not overflow or drop small terms; else return the array."""
    return array.astype(np.float32) if array.dtype.itemsize <= 2 and array.dtype.kind in "fV" else array


def narrowed(array: Any, like: Tensor) -> Any:
    """Return a result computed from `widened` operands in the dtype of like."""
    dtype = like._data.dtype
    return array.astype(dtype) if dtype.itemsize <= 2 and dtype.kind in "fV" else array
