"""Block: a `with` block whose first and last steps always run together, whatever interrupts them.

An __enter__ written in Python can be interrupted after its work is done, but before `with` knows that it has to call
__exit__. An __exit__ written in Python can be interrupted before its first bytecode. Either way the end of the block
never happens.

`with` reads both attributes before it calls either, and only these reads run Python code here. They prepare everything
and return functions written in C, which nothing can interrupt: see steps.py.
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
_NEVER = object()  # no step returns this


class _LookedUp:
    """A special method that is made when it is looked up: `make(block)` returns the function to call."""

    def __init__(self, make: Callable[[Any], Callable[..., Any]]) -> None:
        self._make = make

    def __get__(self, block: Any, owner: type | None = None) -> Callable[..., Any]:
        # contextlib.ExitStack looks it up in the class, and passes the block when it calls it.
        return self._make(block) if block is not None else lambda block, *exception: self._make(block)(*exception)


class _Closing(io.IOBase):
    """A stand-in for a file. The __exit__ of every file is written in C: it takes an exception and calls `close`."""

    closed = True  # pyright: ignore[reportAssignmentType, reportIncompatibleMethodOverride]  # else its finalizer calls close

    def __init__(self, close: Callable[[], Any]) -> None:
        self.close = close


class Block(Generic[Result]):
    """A context that runs the steps `begin`, then its body, then the steps `end`, whatever the body raises.

    begin, end: see steps.py. `end` is read when the block ends, so the body may change it. result: the value for `as`.
    One block may be entered several times, and inside itself.
    """

    def __init__(self, begin: Iterable[Step], end: Iterable[Step], result: Result) -> None:
        self._begin, self._end, self._result = begin, end, result
        # The steps for whichever of __enter__ and __exit__ is looked up second: in Python 3.14 that is __enter__.
        self._begins: list[Iterable[Step]] = []
        self._ends: list[Iterable[Step]] = []

    def steps(self) -> tuple[Iterable[Step], Iterable[Step]]:
        """Return the steps that begin one entry of the block, and those that end it."""
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
    """A context in which a context variable has another value: `value(value outside)`."""

    def __init__(self, variable: ContextVar[Any], value: Callable[[Any], Any]) -> None:
        super().__init__((), (), None)
        self._variable, self._value = variable, value

    def steps(self) -> tuple[Iterable[Step], Iterable[Step]]:
        before = self._variable.get()
        return [(self._variable.set, self._value(before))], [(self._variable.set, before)]


def _in_c(steps: Iterable[Step], result: Any) -> Callable[[], Any]:
    """Return a function written in C that runs the steps and returns result.

    `next` asks the chain for an item. The filter passes none, so it runs every step, and the chain goes on to result.
    """
    ran = filter(functools.partial(operator.is_, _NEVER), itertools.starmap(operator.call, steps))
    return functools.partial(next, itertools.chain(ran, (result,)))
