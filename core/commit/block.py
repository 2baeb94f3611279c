"""Block: steps that begin a `with` block and steps that end it, whatever is raised at its edges.

An __enter__ written in Python can be interrupted after it has done its work and before it returns, and an __exit__
before its first bytecode: then nothing ends the block. But `with` looks both up before it calls either. So here the
lookups run all Python code, and return functions written in C.
"""

from __future__ import annotations

import functools
import io
import itertools
import operator
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .steps import Step

Result = TypeVar("Result")
_NEVER = object()  # the result of no step


class _LookedUp:
    """A special method that a function makes for each lookup."""

    def __init__(self, make: Callable[[Any], Callable[..., Any]]) -> None:
        self._make = make

    def __get__(self, block: Any, owner: type | None = None) -> Callable[..., Any]:
        # contextlib.ExitStack looks it up in the class.
        return self._make(block) if block is not None else lambda block, *exception: self._make(block)(*exception)


class _Closing(io.IOBase):
    """An object whose __exit__, written in C, calls the function given, as that of every file calls its `close`."""

    closed = True  # pyright: ignore[reportAssignmentType, reportIncompatibleMethodOverride]  # nothing to close if freed

    def __init__(self, close: Callable[[], Any]) -> None:
        self.close = close


class Block(Generic[Result]):
    """A context that runs steps at its beginning and at its end. It can be entered several times, also inside itself.

    begin, end: see steps.py. `end` is read at the end: it may grow inside the block. result: what `as` gives.
    """

    def __init__(self, begin: Iterable[Step], end: Iterable[Step], result: Result) -> None:
        self._begin, self._end, self._result = begin, end, result
        # Of lookups whose other half is to come: Python 3.14 looks up __exit__ first.
        self._begins: list[Iterable[Step]] = []
        self._ends: list[Iterable[Step]] = []

    def steps(self) -> tuple[Iterable[Step], Iterable[Step]]:
        """Return the steps that begin the block and those that end it."""
        return self._begin, self._end

    def _entering(self) -> Callable[[], Result]:
        if self._begins:
            return _in_c(self._begins.pop(), self._result)
        begin, end = self.steps()
        self._ends.append(end)
        return _in_c(begin, self._result)

    def _leaving(self) -> Callable[..., Any]:
        if self._ends:
            return _Closing(_in_c(self._ends.pop(), None)).__exit__
        begin, end = self.steps()
        self._begins.append(begin)
        return _Closing(_in_c(end, None)).__exit__

    if TYPE_CHECKING:

        def __enter__(self) -> Result: ...

        def __exit__(self, *exception: object) -> None: ...

    else:
        __enter__ = _LookedUp(_entering)
        __exit__ = _LookedUp(_leaving)


class Setting(Block[None]):
    """A context in which a variable has a value. __init__: the variable, and a function of its value outside."""

    def __init__(self, variable: ContextVar[Any], value: Callable[[Any], Any]) -> None:
        super().__init__((), (), None)
        self._variable, self._value = variable, value

    def steps(self) -> tuple[Iterable[Step], Iterable[Step]]:
        before = self._variable.get()
        return [(self._variable.set, self._value(before))], [(self._variable.set, before)]


def _in_c(steps: Iterable[Step], result: Any) -> Callable[[], Any]:
    """Return a function written in C that runs the steps and returns result."""
    ran = filter(functools.partial(operator.is_, _NEVER), itertools.starmap(operator.call, steps))
    return functools.partial(next, itertools.chain(ran, (result,)))
