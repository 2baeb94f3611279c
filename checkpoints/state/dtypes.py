"""The table of the dtypes that a file can hold: safetensors' names for them, and NumPy's.

Files are little-endian. bfloat16 and the smaller floats are those of the ml_dtypes package, which is imported only when
one of them is used.
"""

from __future__ import annotations

import functools
import importlib
import sys

import numpy as np

from ..errors import UnsupportedTypeError

NUMPY = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "U16": "uint16",
    "I16": "int16",
    "F16": "float16",
    "U32": "uint32",
    "I32": "int32",
    "F32": "float32",
    "U64": "uint64",
    "I64": "int64",
    "F64": "float64",
    "C64": "complex64",
    "C128": "complex128",
}
ML_DTYPES = {
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F6_E2M3": "float6_e2m3fn",
    "F6_E3M2": "float6_e3m2fn",
    "F4": "float4_e2m1fn",
}
ITEM_BYTES = {name: np.dtype(numpy_name).itemsize for name, numpy_name in NUMPY.items()}
ITEM_BYTES |= {name: 2 if name == "BF16" else 1 for name in ML_DTYPES}  # known without importing ml_dtypes
FILE_NAMES = {numpy_name: name for name, numpy_name in (NUMPY | ML_DTYPES).items()}

_BIG_ENDIAN = {">"} if sys.byteorder == "little" else {">", "="}

_ADVICE = {
    "O": "Convert it to a numeric array; an object array would have to be pickled.",
    "S": "Put text into the metadata, or encode it as a uint8 array.",
    "U": "Put text into the metadata, or encode it as a uint8 array.",
    "T": "Put text into the metadata, or encode it as a uint8 array.",
    "V": "Save each field under its own name in the state.",
    "M": "Save array.view(numpy.int64) and keep the unit in the metadata.",
    "m": "Save array.view(numpy.int64) and keep the unit in the metadata.",
    "g": "Convert it with array.astype(numpy.float64); its layout differs between machines.",
    "G": "Convert it with array.astype(numpy.complex128); its layout differs between machines.",
}


@functools.cache
def numpy_dtype(name: str) -> np.dtype:
    """Return the little-endian NumPy dtype for a name in the table. Raises KeyError for any other name."""
    if name in NUMPY:
        return np.dtype(NUMPY[name]).newbyteorder("<")
    return np.dtype(getattr(importlib.import_module("ml_dtypes"), ML_DTYPES[name]))


def name_of(dtype: np.dtype, tensor: str) -> str:
    """Return the name of a dtype of either byte order. tensor: the name of its tensor, for the error.

    Raises UnsupportedTypeError, with advice, if no file can hold the dtype.
    """
    name = _known(dtype)
    if name is not None:
        return name
    advice = _ADVICE.get(dtype.char, "Convert it to a dtype in the table of docs/format.md.")
    raise UnsupportedTypeError(f"tensor {tensor!r} has the dtype {dtype}, which no checkpoint file can hold. {advice}")


@functools.cache
def _known(dtype: np.dtype) -> str | None:
    name = FILE_NAMES.get(dtype.name)
    return name if name and dtype in (numpy_dtype(name), numpy_dtype(name).newbyteorder()) else None


def is_floating(name: str) -> bool:
    """Return True for the name of a real floating-point dtype."""
    return name.startswith(("F", "BF"))


def is_big_endian(dtype: np.dtype) -> bool:
    """Return True if the bytes of each element must be swapped for a file."""
    return dtype.byteorder in _BIG_ENDIAN


def little_endian(array: np.ndarray) -> np.ndarray:
    """Return the array itself, or a little-endian copy if it is big-endian."""
    return array.astype(array.dtype.newbyteorder("<")) if is_big_endian(array.dtype) else array
