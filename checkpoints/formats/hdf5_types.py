"""The HDF5 types of elements: h5py's own, but for bfloat16 and float8, which are opaque as in Keras' files."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from h5py import h5t

from .. import dtypes


@functools.cache
def type_of(dtype: str) -> Any:
    """Return the type of elements with a dtype as in dtypes.py."""
    if dtype in dtypes.ML_DTYPES:
        return h5t.py_create(np.dtype(f"V{dtypes.numpy_dtype(dtype).itemsize}"))
    return h5t.py_create(dtypes.numpy_dtype(dtype), logical=True)
