"""The tensors in an ONNX file: the messages TensorProto, with where their values are."""

from __future__ import annotations

import math
from typing import NamedTuple

from ...state.manifest import TensorSpec
from ..entries import InvalidError
from .protobuf import BYTES, Field, fields_in, numbers_in, text_of
from .window import Window

_DIMS, _TYPE, _SEGMENT, _NAME, _RAW, _EXTERNAL, _LOCATION = 1, 2, 3, 8, 9, 13, 14
_ONCE = (_TYPE, _SEGMENT, _NAME, _RAW, _LOCATION)
_KEY, _VALUE = 1, 2
# The fields with values of a type of their own, and whether these are bytes as in memory.
_TYPED = {4: True, 5: False, 6: False, 7: False, 10: True, 11: False}
_MOST_AXES = 64  # as in NumPy
# The dtypes whose elements are packed without gaps, and the bits of an element.
PACKED_BITS = {"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6}


class StoredTensor(NamedTuple):
    """A tensor in a file. number: of its type. message: the whole TensorProto.

    raw: its bytes, None if they are elsewhere. typed: the first field with values of its type; the others count only in
    typed_bytes. external: what is said about values in another file, or None.
    """

    name: str
    shape: tuple[int, ...]
    number: int
    message: Field
    raw: Field | None
    typed: Field | None
    typed_bytes: int
    external: dict[str, str] | None
    has_segment: bool

    def place(self, size_bytes: int) -> Field | None:
        """Return where the values are in the file as they are in memory, `size_bytes` of them, or None."""
        if self.raw is not None:
            return self.raw
        typed = self.typed
        is_plain = typed is not None and typed.kind == BYTES and _TYPED[typed.number]
        return typed if typed is not None and is_plain and typed.size_bytes == self.typed_bytes == size_bytes else None


def tensor_in(window: Window, message: Field) -> StoredTensor:
    """Return the tensor in a message. Raises InvalidError if a field occurs twice, or if its shape is impossible."""
    shape: list[int] = []
    once: dict[int, Field] = {}
    external: dict[str, str] = {}
    typed, typed_bytes = None, 0
    for field in fields_in(window, message.offset, message.size_bytes):
        if field.number == _DIMS:
            shape += numbers_in(window, field)
        elif field.number in _TYPED:
            typed, typed_bytes = typed or field, typed_bytes + (field.size_bytes or 1)
        elif field.number == _EXTERNAL:
            external |= [pair_in(window, field)]
        elif field.number in _ONCE and once.setdefault(field.number, field) is not field:
            raise InvalidError(f"a field of the tensor at byte {message.offset:,} occurs twice")
        if len(shape) > _MOST_AXES:
            raise InvalidError(f"the tensor at byte {message.offset:,} has more than {_MOST_AXES:,} axes")
    name = text_of(window, once[_NAME]) if _NAME in once else ""
    if any(length >= 1 << 63 for length in shape):
        raise InvalidError(f"tensor {name!r:.200} has an axis of a negative length")
    is_external = _LOCATION in once and once[_LOCATION].value == 1
    return StoredTensor(
        name=name,
        shape=tuple(shape),
        number=once[_TYPE].value if _TYPE in once else 0,
        message=message,
        raw=None if is_external else once.get(_RAW),
        typed=None if is_external else typed,
        typed_bytes=typed_bytes,
        external=external if is_external else None,
        has_segment=_SEGMENT in once,
    )


def stored_bytes(spec: TensorSpec) -> int:
    """Return how many bytes a tensor takes in a file."""
    bits = PACKED_BITS.get(spec.dtype)
    return spec.size_bytes if bits is None else -(-math.prod(spec.shape) * bits // 8)


def pair_in(window: Window, message: Field) -> tuple[str, str]:
    """Return key and value of a StringStringEntryProto."""
    found = {field.number: field for field in fields_in(window, message.offset, message.size_bytes)}
    key, value = (text_of(window, found[number]) if number in found else "" for number in (_KEY, _VALUE))
    return key, value
