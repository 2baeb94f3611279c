"""The arrays, scalars and bytes in a pickle by torch.save: their bytes are in the pickle itself.

Arrays of text, objects or records are not read. The functions and their arguments are those of NumPy 1 and 2, in every
protocol from 2 to 5.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ...state import dtypes
from ...state.manifest import TensorSpec
from ..entries import InvalidError
from .pickles import Made, Name
from .tensors import UnreadableError

_MULTIARRAY = ("numpy.core.multiarray", "numpy._core.multiarray")
_NUMERIC = ("numpy.core.numeric", "numpy._core.numeric")
_BUILTINS = ("builtins", "__builtin__")
_CODES = {np.dtype(name).str[1:]: kind for kind, name in dtypes.NUMPY.items()}
_ARRAY = Name("numpy", "ndarray")
_MOST_AXES = 32


class Inline(NamedTuple):
    """An array in a pickle. make: returns it in new memory; raises InvalidError if its bytes are not bytes."""

    spec: TensorSpec
    make: Callable[[], np.ndarray]


def inline_of(value: Any) -> Inline | None:
    """Return the array, scalar or bytes that a value is, or None if it is anything else. A scalar has no axes.

    Raises UnreadableError for an array of another dtype, InvalidError if its bytes are not as many as it needs.
    """
    if type(value) is float:
        return Inline(TensorSpec("F64", ()), partial(np.array, value, "<f8"))
    if (content := _content_of(value)) is not None:
        return _inline(content, "U8", "|", (len(content),))
    if not isinstance(value, Made) or (name := value.name) is None:
        return None
    if name.module in _BUILTINS and name.name == "complex":
        return _complex(value.arguments)
    if name.module in _MULTIARRAY and name.name == "scalar" and len(value.arguments) == 2:
        return _inline(_content_of(value.arguments[1]), *_dtype(value.arguments[0]), ())
    if name.module in _NUMERIC and name.name == "_frombuffer" and len(value.arguments) == 4:
        content, dtype, shape, order = value.arguments
        return _inline(_content_of(content), *_dtype(dtype), shape, order)
    if name.module in _MULTIARRAY and name.name == "_reconstruct":
        if not value.arguments or value.arguments[0] != _ARRAY:
            raise UnreadableError("it is a subclass of numpy.ndarray")
        if type(value.state) is not tuple or len(value.state) != 5:
            raise InvalidError("an array has no content")
        _, shape, dtype, is_fortran, content = value.state
        return _inline(_content_of(content), *_dtype(dtype), shape, "F" if is_fortran is True else "C")
    return None


def _content_of(value: Any) -> bytes | str | None:
    """Return bytes, or text of which each character stands for one, or None for any other value."""
    if isinstance(value, bytes):
        return value
    if not isinstance(value, Made) or value.name not in _BYTES:
        return None
    arguments = value.arguments
    if value.name == Name("_codecs", "encode"):
        is_text = len(arguments) == 2 and type(arguments[0]) is str and arguments[1] == "latin1"
        return arguments[0] if is_text else None
    return b"" if not arguments else None


_BYTES = {Name("_codecs", "encode"), *(Name(module, "bytes") for module in _BUILTINS)}


def _dtype(made: Any) -> tuple[str, str]:
    """Return the name of a dtype as in dtypes.py, and its byte order as in NumPy."""
    if not isinstance(made, Made) or made.name != Name("numpy", "dtype") or not made.arguments:
        raise InvalidError("an array has no dtype")
    code = made.arguments[0]
    order = made.state[1] if type(made.state) is tuple and len(made.state) > 1 else "|"
    if isinstance(code, Name) and code.module == "ml_dtypes" and code.name in dtypes.FILE_NAMES:
        return dtypes.FILE_NAMES[code.name], "|"
    if type(code) is not str or code not in _CODES or order not in ("<", ">", "|", "="):
        raise UnreadableError("it is a NumPy array of text, objects, records or dates")
    return _CODES[code], order


def _complex(parts: tuple[Any, ...]) -> Inline:
    if len(parts) != 2 or not all(type(part) in (float, int) for part in parts):
        raise InvalidError("a complex number does not have two parts")
    return Inline(TensorSpec("C128", ()), partial(np.array, complex(*parts), "<c16"))


def _inline(content: bytes | str | None, dtype: str, order: str, shape: Any, axes: Any = "C") -> Inline:
    if (
        type(shape) is not tuple
        or len(shape) > _MOST_AXES
        or not all(type(n) is int and 0 <= n < 1 << 63 for n in shape)
    ):
        raise InvalidError("an array has no valid shape")
    if content is None:
        raise UnreadableError("it is a NumPy array whose content is not bytes")
    spec = TensorSpec(dtype, shape)
    if len(content) != spec.size_bytes or axes not in ("C", "F"):
        raise InvalidError("an array does not have as many bytes as its shape needs")
    return Inline(spec, partial(_made, content, spec, order == ">", axes))


def _made(content: bytes | str, spec: TensorSpec, is_big_endian: bool, axes: Any) -> np.ndarray:
    try:
        raw = content.encode("latin1") if isinstance(content, str) else content
    except UnicodeEncodeError as error:
        raise InvalidError("the bytes of an array are not bytes") from error
    dtype = dtypes.numpy_dtype(spec.dtype)
    values = np.frombuffer(raw, dtype.newbyteorder(">") if is_big_endian else dtype)
    return np.array(values.reshape(spec.shape, order=axes), dtype, order="C")
