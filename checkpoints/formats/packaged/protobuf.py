"""The wire format of Protocol Buffers: the fields of a message, and where those are that hold bytes.

A field is a key, then its content. The key is a number of variable length: the number of the field times 8, plus how
the content is written: 0 a number of variable length, 1 eight bytes, 2 a size and that many bytes, 5 four bytes.

Source: Google, "Protocol Buffers Documentation: Encoding".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ..entries import InvalidError
from .window import Window

_MOST_NUMBER_BYTES = 10
NUMBER, BYTES = 0, 2
_FIXED = {1: 8, 5: 4}


class Field(NamedTuple):
    """A field of a message. kind: how its content is written. value: the content if it is a number, else 0.

    offset, size_bytes: where the bytes are of any other content.
    """

    number: int
    kind: int
    value: int
    offset: int
    size_bytes: int


def fields_in(window: Window, offset: int, size_bytes: int) -> Iterator[Field]:
    """Yield the fields of a message. The window may be used for other messages in between.

    Raises InvalidError if something does not fit into the message.
    """
    position, end = offset, offset + size_bytes
    while position < end:
        window.position = position
        key = number_at(window)
        value, size = 0, 0
        if key & 7 == NUMBER:
            value = number_at(window)
        elif key & 7 == BYTES:
            size = number_at(window)
        elif key & 7 in _FIXED:
            size = _FIXED[key & 7]
        else:
            raise InvalidError(f"the field at byte {position:,} is written in an unknown way")
        start = window.position
        window.skip(size)
        position = window.position
        if position > end or key < 8:
            raise InvalidError(f"the field before byte {position:,} is not valid")
        yield Field(key >> 3, key & 7, value, start, size)


def number_at(window: Window) -> int:
    """Return the next number of variable length: seven bits in each byte, the lowest first."""
    number = window.small()
    if number >= 0:
        return number
    number = 0
    for place in range(_MOST_NUMBER_BYTES):
        byte = window.read(1)[0]
        number |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return number
    raise InvalidError(f"the number before byte {window.position:,} is too long")


def numbers_in(window: Window, field: Field) -> list[int]:
    """Return the numbers in a repeated field, which may hold one of them, or several as bytes."""
    if field.kind == NUMBER:
        return [field.value]
    window.position, end = field.offset, field.offset + field.size_bytes
    numbers = []
    while window.position < end:
        numbers.append(number_at(window))
    return numbers


def text_of(window: Window, field: Field) -> str:
    """Return the text in a field. Raises InvalidError if it is not UTF-8."""
    window.position = field.offset
    try:
        return window.read(field.size_bytes).decode()
    except UnicodeDecodeError as error:
        raise InvalidError(f"the text at byte {field.offset:,} is not UTF-8") from error
