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


def is_narrow(dtype: np.dtype) -> bool:
    """Return True if dtype is a float of 16 bits or fewer: float16, bfloat16, the 8-bit floats."""
    return dtype.itemsize <= 2 and dtype.kind in "fV"


def widened(array: np.ndarray) -> np.ndarray:
    """Return narrow floats as float32, in which sums neither overflow nor drop small terms; else the array itself."""
    return array.astype(np.float32) if is_narrow(array.dtype) else array


def narrowed(array: Any, like: Tensor) -> Any:
    """Return a result computed from `widened` operands in the dtype of like."""
    return array.astype(like.dtype) if is_narrow(like.dtype) else array
