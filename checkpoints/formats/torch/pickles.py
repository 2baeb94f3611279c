"""Pickles read as data: the values that a pickle describes, without running what it names.

A pickle is a program for a machine with a stack. This machine knows the opcodes for values; it imports nothing and
calls nothing that a pickle names. A class or function that a pickle names becomes a `Name`; what the pickle would call
or build becomes a `Made`, a record of the name and the arguments. What these records mean is up to the caller.

Every step takes time and memory in proportion to the bytes of its opcode, and to the values that it takes from the
stack for good. Values that occur several times are the same object, so what a pickle describes may be far larger than
the pickle: code that walks over it must count its steps. It may also be nested deeply, or contain itself. So nothing
here is compared, hashed or shown as text.

Source: `pickletools` in Python's standard library describes the opcodes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn

from ..entries import InvalidError

_NEWEST_PROTOCOL = 5
_MOST_INTEGER_BYTES = 256
_FLOAT = struct.Struct(">d")


@dataclass(frozen=True, slots=True)
class Name:
    """A class or function that a pickle names."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module:.200}.{self.name:.200}"


class Pairs(list[tuple[Any, Any]]):
    """A dict, as pairs of a key and a value: hashing keys of a file could take long."""

    __slots__ = ()


class Made:
    """The result of a call that is not made.

    maker: what would be called. arguments: those of the call. state: what would be given to the result
    afterwards (BUILD), or None. items, elements: what would be put into it, as into a dict or a list.
    """

    __slots__ = ("arguments", "elements", "items", "maker", "state")

    def __init__(self, maker: Any, arguments: tuple[Any, ...]) -> None:
        self.maker, self.arguments = maker, arguments
        self.state: Any = None
        self.items: Pairs | None = None
        self.elements: list[Any] | None = None

    @property
    def name(self) -> Name | None:
        """The class or function that would be called, or None if it has no name."""
        return self.maker if isinstance(self.maker, Name) else None


class Persistent:
    """A value that is stored outside of the pickle, by its identifier."""

    __slots__ = ("identifier",)

    def __init__(self, identifier: Any) -> None:
        self.identifier = identifier


class _Mark:
    """The type of the place on the stack where a group of values begins."""

    __slots__ = ()


_MARK = _Mark()


def read_pickle(content: bytes) -> Any:
    """Return what a pickle describes: None, bools, numbers, text, bytes, lists, tuples, Pairs, and the classes above.

    A set is a list. Raises InvalidError for an invalid pickle, and for an opcode that has no place in a checkpoint.
    """
    return _Machine(content).run()


class _Machine:
    def __init__(self, content: bytes) -> None:
        self._content, self._position = content, 0
        self._stack: list[Any] = []
        self._memo: list[Any] = []
        self._memo_out_of_order: dict[int, Any] = {}

    def run(self) -> Any:
        content, actions = self._content, _ACTIONS
        while True:
            place = self._position
            if place >= len(content):
                _refuse("it is cut off")
            self._position = place + 1
            opcode = content[place]
            if opcode == _STOP:
                break
            action = actions[opcode]
            if action is None:
                _refuse(f"opcode {bytes([opcode])!r} at byte {place:,} has no place in a checkpoint")
            action(self)
        if len(self._stack) != 1 or self._position != len(content):
            _refuse("it leaves more than one value, or ends before its last byte")
        return self._pop()

    # --- what the actions use

    def _take(self, size_bytes: int) -> bytes:
        end = self._position + size_bytes
        if end > len(self._content):
            _refuse("it is cut off")
        taken = self._content[self._position : end]
        self._position = end
        return taken

    def _number(self, size_bytes: int) -> int:
        return int.from_bytes(self._take(size_bytes), "little")

    def _line(self) -> str:
        end = self._content.find(b"\n", self._position)
        if end < 0:
            _refuse("it is cut off")
        text = self._take(end - self._position)
        self._position += 1
        return _decoded(text)

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _pop(self) -> Any:
        if not self._stack or self._stack[-1] is _MARK:
            _refuse("it takes a value from an empty stack")
        return self._stack.pop()

    def _top(self) -> Any:
        if not self._stack or self._stack[-1] is _MARK:
            _refuse("it uses a value of an empty stack")
        return self._stack[-1]

    def _pop_to_mark(self) -> list[Any]:
        stack, place = self._stack, len(self._stack) - 1
        while place >= 0 and stack[place] is not _MARK:
            place -= 1
        if place < 0:
            _refuse("a mark is missing")
        values = stack[place + 1 :]
        del stack[place:]
        return values

    # --- the actions

    def skip(self, size_bytes: int) -> None:
        self._take(size_bytes)

    def protocol(self) -> None:
        if self._number(1) > _NEWEST_PROTOCOL:
            _refuse("its protocol is newer than any")

    def constant(self, value: Any) -> None:
        self._push(value)

    def integer(self, size_bytes: int) -> None:
        self._push(self._number(size_bytes))

    def signed(self) -> None:
        self._push(int.from_bytes(self._take(4), "little", signed=True))

    def long(self, size_bytes: int) -> None:
        length = self._number(size_bytes)
        if length > _MOST_INTEGER_BYTES:
            _refuse("an integer is far too large")
        self._push(int.from_bytes(self._take(length), "little", signed=True))

    def floating(self) -> None:
        self._push(_FLOAT.unpack(self._take(8))[0])

    def text(self, size_bytes: int) -> None:
        self._push(_decoded(self._take(self._number(size_bytes))))

    def binary(self, size_bytes: int) -> None:
        self._push(self._take(self._number(size_bytes)))

    def new(self, kind: Callable[[], Any]) -> None:
        self._push(kind())

    def tuple_of(self, count: int) -> None:
        values = [self._pop() for _ in range(count)]
        self._push(tuple(values[::-1]))

    def tuple_to_mark(self) -> None:
        self._push(tuple(self._pop_to_mark()))

    def list_to_mark(self) -> None:
        self._push(self._pop_to_mark())

    def append(self) -> None:
        value = self._pop()
        self._append([value])

    def append_to_mark(self) -> None:
        self._append(self._pop_to_mark())

    def _append(self, values: list[Any]) -> None:
        target = self._top()
        if isinstance(target, Made):
            target.elements = target.elements or []
            target.elements += values
        elif type(target) is list:
            target += values
        else:
            _refuse("it appends to a value that is not a list")

    def set_item(self) -> None:
        value = self._pop()
        self._set_items([self._pop(), value])

    def set_items_to_mark(self) -> None:
        self._set_items(self._pop_to_mark())

    def _set_items(self, values: list[Any]) -> None:
        target = self._top()
        if isinstance(target, Made):
            target.items = target.items or Pairs()
            target = target.items
        if len(values) % 2 or not isinstance(target, Pairs):
            _refuse("it sets items of a value that is not a dict")
        target += zip(values[::2], values[1::2], strict=True)

    def name(self) -> None:
        module = self._line()
        self._push(Name(module, self._line()))

    def name_on_stack(self) -> None:
        name, module = self._pop(), self._pop()
        if type(name) is not str or type(module) is not str:
            _refuse("a name is not text")
        self._push(Name(module, name))

    def extension(self, size_bytes: int) -> None:
        self._push(Name("copyreg", f"extension {self._number(size_bytes)}"))

    def call(self) -> None:
        arguments, maker = self._pop(), self._pop()
        if type(arguments) is not tuple:
            _refuse("the arguments of a call are not a tuple")
        self._push(Made(maker, arguments))

    def call_with_keywords(self) -> None:
        keywords, arguments, maker = self._pop(), self._pop(), self._pop()
        self._push(Made(maker, (arguments, keywords)))

    def call_to_mark(self) -> None:
        values = self._pop_to_mark()
        if not values:
            _refuse("nothing is named to be called")
        self._push(Made(values[0], tuple(values[1:])))

    def call_named_to_mark(self) -> None:
        module = self._line()
        name = Name(module, self._line())
        self._push(Made(name, tuple(self._pop_to_mark())))

    def build(self) -> None:
        state, target = self._pop(), self._top()
        if not isinstance(target, Made):
            _refuse("it gives a state to a value that has none")
        target.state = state

    def persistent(self) -> None:
        self._push(Persistent(self._pop()))

    def mark(self) -> None:
        self._push(_MARK)

    def drop(self) -> None:
        if not self._stack:
            _refuse("it takes a value from an empty stack")
        self._stack.pop()  # a mark, too

    def repeat(self) -> None:
        self._push(self._top())

    def drop_to_mark(self) -> None:
        self._pop_to_mark()

    def remember_next(self) -> None:
        if self._memo_out_of_order:  # pickle counts these too
            _refuse("it numbers its values in two ways")
        self._memo.append(self._top())

    def remember(self, size_bytes: int) -> None:
        place, value = self._number(size_bytes), self._top()
        if place < len(self._memo):
            self._memo[place] = value
        elif place == len(self._memo):
            self._memo.append(value)
        else:
            self._memo_out_of_order[place] = value

    def recall(self, size_bytes: int) -> None:
        place = self._number(size_bytes)
        if place < len(self._memo):
            self._push(self._memo[place])
        elif place in self._memo_out_of_order:
            self._push(self._memo_out_of_order[place])
        else:
            _refuse("it refers to a value that it has not described")


def _decoded(text: bytes) -> str:
    try:
        return text.decode(errors="surrogatepass")
    except UnicodeDecodeError:
        _refuse("a text is not UTF-8")


def _refuse(reason: str) -> NoReturn:
    raise InvalidError(f"its pickle is invalid: {reason}")


_Action = Callable[[_Machine], None]
_STOP = b"."[0]

# In the order of pickletools. Texts in lines, which protocols 0 and 1 have for numbers, are missing: torch.save does
# not write them. So are buffers outside of the pickle (protocol 5).
_BY_OPCODE: dict[bytes, _Action] = {
    b"J": _Machine.signed,
    b"K": partial(_Machine.integer, size_bytes=1),
    b"M": partial(_Machine.integer, size_bytes=2),
    b"\x8a": partial(_Machine.long, size_bytes=1),
    b"\x8b": partial(_Machine.long, size_bytes=4),
    b"T": partial(_Machine.text, size_bytes=4),
    b"U": partial(_Machine.text, size_bytes=1),
    b"B": partial(_Machine.binary, size_bytes=4),
    b"C": partial(_Machine.binary, size_bytes=1),
    b"\x8e": partial(_Machine.binary, size_bytes=8),
    b"\x96": partial(_Machine.binary, size_bytes=8),
    b"N": partial(_Machine.constant, value=None),
    b"\x88": partial(_Machine.constant, value=True),
    b"\x89": partial(_Machine.constant, value=False),
    b"X": partial(_Machine.text, size_bytes=4),
    b"\x8c": partial(_Machine.text, size_bytes=1),
    b"\x8d": partial(_Machine.text, size_bytes=8),
    b"G": _Machine.floating,
    b"]": partial(_Machine.new, kind=list),
    b"a": _Machine.append,
    b"e": _Machine.append_to_mark,
    b"l": _Machine.list_to_mark,
    b")": partial(_Machine.constant, value=()),
    b"t": _Machine.tuple_to_mark,
    b"\x85": partial(_Machine.tuple_of, count=1),
    b"\x86": partial(_Machine.tuple_of, count=2),
    b"\x87": partial(_Machine.tuple_of, count=3),
    b"}": partial(_Machine.new, kind=Pairs),
    b"s": _Machine.set_item,
    b"u": _Machine.set_items_to_mark,
    b"\x8f": partial(_Machine.new, kind=list),
    b"\x90": _Machine.append_to_mark,
    b"\x91": _Machine.list_to_mark,
    b"0": _Machine.drop,
    b"2": _Machine.repeat,
    b"(": _Machine.mark,
    b"1": _Machine.drop_to_mark,
    b"h": partial(_Machine.recall, size_bytes=1),
    b"j": partial(_Machine.recall, size_bytes=4),
    b"q": partial(_Machine.remember, size_bytes=1),
    b"r": partial(_Machine.remember, size_bytes=4),
    b"\x94": _Machine.remember_next,
    b"\x82": partial(_Machine.extension, size_bytes=1),
    b"\x83": partial(_Machine.extension, size_bytes=2),
    b"\x84": partial(_Machine.extension, size_bytes=4),
    b"c": _Machine.name,
    b"\x93": _Machine.name_on_stack,
    b"R": _Machine.call,
    b"b": _Machine.build,
    b"i": _Machine.call_named_to_mark,
    b"o": _Machine.call_to_mark,
    b"\x81": _Machine.call,
    b"\x92": _Machine.call_with_keywords,
    b"\x80": _Machine.protocol,
    b"\x95": partial(_Machine.skip, size_bytes=8),
    b"Q": _Machine.persistent,
}
_ACTIONS = [_BY_OPCODE.get(bytes([opcode])) for opcode in range(256)]
