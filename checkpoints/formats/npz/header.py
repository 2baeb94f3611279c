"""The header of a .npy file, or of a member of an .npz file.

    "\\x93NUMPY", two bytes of version, the length of the text in two bytes (version 1) or four, the text

The text is the literal of a Python dict, `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }`, padded with
spaces and ended by a line break. `descr` is the dtype: byte order, kind and size; records have a list. Version 3 has
UTF-8 text, for the names of fields. Python 2 wrote numbers such as `3L`.

NumPy writes bfloat16 as `<V2`, float8_e5m2 as `<f1` and the other small floats of ml_dtypes as `<V1`, which does not
say which of them it is. We write `<V1` for all of these, because NumPy does not read `<f1`.

Source: numpy.lib.format.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ...state import dtypes
from ...state.manifest import TensorSpec
from ..entries import InvalidError

SIGNATURE = b"\x93NUMPY"
FIRST_BYTES = 128  # which most headers have
_ALIGNMENT_BYTES = 64
_MOST_TEXT_BYTES = 10_000  # as numpy.load allows
_NUMBER = r"(?:0|[1-9][0-9]{0,17})"
_SHAPE = rf"|{_NUMBER},|{_NUMBER}(?:, {_NUMBER})+"
_PLAIN = re.compile(rf"\{{'descr': '([^'\\]+)', 'fortran_order': (True|False), 'shape': \(({_SHAPE})\), \}} *\n")
_LONG = re.compile(r"(?<=[0-9])L\b")
_BFLOAT16, _SMALL_FLOAT = "<V2", "<V1"
_NAMES = {np.dtype(numpy_name).str[1:]: name for name, numpy_name in dtypes.NUMPY.items()}  # "f4": "F32"
_NAMES["f1"] = "F8_E5M2"  # which NumPy takes for a float of its own, and writes as such, but does not read
_DESCR = {name: np.dtype(numpy_name).newbyteorder("<").str for name, numpy_name in dtypes.NUMPY.items()}
_DESCR |= dict.fromkeys(dtypes.ML_DTYPES, _SMALL_FLOAT) | {"BF16": _BFLOAT16}
_REASONS = {
    "O": "it holds Python objects, which NumPy stores as a pickle; a pickle can run any code and is never loaded",
    "S": "it holds text",
    "U": "it holds text",
    "T": "it holds text",
    "M": "it holds dates",
    "m": "it holds spans of time",
    "V": "its dtype is raw bytes, of which the file does not say what they are",
    "[": "it holds records",
}


class Array(NamedTuple):
    """What the header of an array says.

    start: where the data begin. tensor: None if the array cannot be read, for the `reason`. descr: the dtype, as text.
    """

    start: int
    descr: str
    is_fortran: bool
    shape: tuple[int, ...]

    @property
    def tensor(self) -> TensorSpec | None:
        """The dtype and shape of the array, or None if it cannot be read."""
        name = "BF16" if self.descr == _BFLOAT16 else _NAMES.get(self.descr[1:])
        is_known = name is not None and self.descr[0] in "<>|"
        return TensorSpec(name, self.shape) if is_known and name is not None else None

    @property
    def is_in_place(self) -> bool:
        """Whether the data are the bytes of a C-contiguous, little-endian array."""
        return not self.is_fortran and (self.descr[0] != ">" or self.descr[2:] == "1")

    @property
    def reason(self) -> str:
        """Why the array cannot be read, as a clause."""
        if self.descr == _SMALL_FLOAT:
            return "it holds a small float of ml_dtypes, and NumPy does not say which"
        kind = self.descr[:1] if self.descr[:1] == "[" else self.descr[1:2]
        return _REASONS.get(kind, f"its dtype is {self.descr!r:.100}, which this version does not support")

    def fits(self, tensor: TensorSpec) -> bool:
        """Return True if this is a header for such a tensor, as we or NumPy write it."""
        # Once NumPy has read raw bytes, it writes them with another byte order.
        return self.shape == tensor.shape and self.descr.replace("|V", "<V") == _DESCR[tensor.dtype]


def header_of(tensor: TensorSpec) -> bytes:
    """Return the header for a tensor, which ends at a multiple of 64 bytes."""
    comma = "," if len(tensor.shape) == 1 else ""
    shape = f"({', '.join(map(str, tensor.shape))}{comma})"
    text = f"{{'descr': '{_DESCR[tensor.dtype]}', 'fortran_order': False, 'shape': {shape}, }}"
    padding = -(len(SIGNATURE) + 4 + len(text) + 1) % _ALIGNMENT_BYTES
    text += " " * padding + "\n"
    return SIGNATURE + b"\1\0" + len(text).to_bytes(2, "little") + text.encode()


def parsed_header(read: Callable[[int], bytes]) -> Array:
    """Parse a header. read: returns the first bytes of the content, at most that many.

    Raises InvalidError if it is not a valid header.
    """
    head = read(FIRST_BYTES)
    version, length_bytes = head[6:7], 2 if head[6:7] == b"\1" else 4
    if not head.startswith(SIGNATURE) or version not in (b"\1", b"\2", b"\3"):
        raise InvalidError("it is not a .npy file of a known version")
    place = len(SIGNATURE) + 2
    start = place + length_bytes
    length = int.from_bytes(head[place:start], "little")
    if length > _MOST_TEXT_BYTES:
        raise InvalidError(f"its .npy header takes {length:,} bytes, and at most {_MOST_TEXT_BYTES:,} are read")
    if len(head) < start + length:
        head = read(start + length)
    if len(head) < start + length:
        raise InvalidError("it ends within its .npy header")
    text = head[start : start + length].decode("utf-8" if version == b"\3" else "latin-1", "replace")
    return _array_of(text, start + length)


def _array_of(text: str, start: int) -> Array:
    plain = _PLAIN.fullmatch(text)
    if plain:
        descr, fortran, shape = plain[1], plain[2] == "True", tuple(map(int, filter(None, plain[3].split(","))))
    else:
        fields = _literal(_LONG.sub("", text))
        if not isinstance(fields, dict) or fields.keys() != {"descr", "fortran_order", "shape"}:
            raise InvalidError("its .npy header is not valid")
        descr, fortran, shape = fields["descr"], fields["fortran_order"], fields["shape"]
    if isinstance(descr, list):
        descr = "["
    if not isinstance(shape, tuple) or any(type(length) is not int or length < 0 for length in shape):
        raise InvalidError("its .npy header has a shape that is not valid")
    if not isinstance(descr, str) or type(fortran) is not bool or not descr:
        raise InvalidError("its .npy header has a dtype or an order that is not valid")
    return Array(start, descr, fortran, shape)


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise InvalidError("its .npy header is not valid") from error


def values_of(content: bytes, array: Array, tensor: TensorSpec) -> np.ndarray:
    """Return the values of an array from its whole content, in new memory."""
    dtype = dtypes.numpy_dtype(tensor.dtype)
    flat = np.frombuffer(content, dtype.newbyteorder(">") if array.descr[0] == ">" else dtype, offset=array.start)
    return np.array(flat.reshape(tensor.shape, order="F" if array.is_fortran else "C"), dtype, order="C")
