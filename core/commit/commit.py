"""Commit: a list of changes, some made by user code, that happen completely or not at all.

What core changes itself is a list of steps. User code, such as a set_extra_state, has to run in Python: it comes first,
and what it did is undone if anything is raised before the last step.
"""

from __future__ import annotations

import operator
import os
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import numpy as np

from ..errors import ArgumentError
from .block import Block
from .snapshot import Snapshot
from .steps import Step, run

# NumPy releases the interpreter lock while it copies a large array, so two threads could mix their values. The lock is
# taken and released by steps: the frame that a signal handler interrupts never holds it.
_one_commit = threading.RLock()
if hasattr(os, "register_at_fork"):  # a child must not get a model that another thread is writing
    os.register_at_fork(
        before=_one_commit.acquire, after_in_parent=_one_commit.release, after_in_child=_one_commit.release
    )


class Commit:
    """A list of changes. Nothing changes until `apply`, which makes all of them or none."""

    def __init__(self) -> None:
        self._steps: list[Step] = []
        self._calls: list[tuple[Callable[[], object], Callable[[], object]]] = []
        self._written: list[np.ndarray] = []
        self._generators: list[tuple[np.random.BitGenerator, Any]] = []
        self._kept: list[Any] = []
        self._left_out: list[Any] = []

    def add(self, steps: Iterable[Step]) -> None:
        """Append steps."""
        self._steps += steps

    def write(self, array: np.ndarray, values: np.ndarray) -> None:
        """Copy values into a writable array. Both have the same shape and dtype and share no memory."""
        # A subclass may have a __setitem__ in Python.
        memory = array if type(array) is np.ndarray else np.asarray(array)
        self._written.append(memory)
        self._steps.append((operator.setitem, memory, ..., values))

    def set_generator(self, generator: np.random.Generator, state: Any) -> None:
        """Set the state of a generator. The state must be valid for it.

        The setter divides 128-bit integers, and Python handles signals there too. So generators come before all other
        steps, and are restored if one of them is interrupted.
        """
        self._generators.append((generator.bit_generator, state))

    def call(
        self, function: Callable[[], object], keep: Iterable[Any], revert: Callable[[], object] | None = None
    ) -> None:
        """Call a user's function before all steps.

        If anything is raised before the last step, `revert()` is called, which may fail, and then `keep` is restored:
        see Snapshot.
        """
        self._calls.append((function, revert or _do_nothing))
        self._kept += keep

    def merge(self, other: Commit) -> None:
        """Append the changes of another commit."""
        for name, changes in vars(other).items():
            vars(self)[name].extend(changes)

    def leave_out(self, things: Iterable[Any]) -> None:
        """Do not restore these things, even if something that is kept refers to them."""
        self._left_out += things

    def apply(self) -> None:
        """Make all changes. Whatever is raised, also by a user's function, nothing has changed in that case."""
        undo: list[Step] = []
        reverts: list[Callable[[], object]] = []
        # Three times, because restoring a generator can be interrupted too.
        with Block((), undo, None), Block((), undo, None), Block((), undo, None):
            try:
                before: list[Step] = [(setattr, bits, "state", bits.state) for bits, _ in self._generators]
                undo += Snapshot(*self._kept, leave_out=self._left_out).steps + before
                for function, revert in self._calls:
                    reverts.append(revert)
                    function()
                if not all(array.flags.writeable for array in self._written):
                    raise ArgumentError("an array became read-only during a load; nothing was changed.")
                # The last steps cancel the undo, in the same C call as the changes.
                begin, end = (_one_commit.acquire,), (_one_commit.release,)
                first: list[Step] = [(setattr, bits, "state", state) for bits, state in self._generators]
                undone: list[Step] = [(undo.append, end), (undo.append, (undo.clear,))]
                run([begin, *undone, *first, *self._steps, (reverts.clear,), (undo.clear,), end])
            except BaseException:
                for revert in reverts:
                    with suppress(Exception):  # an error here must not stop the others from being restored
                        revert()
                raise


def rehearse(function: Callable[[], object], keep: Iterable[Any]) -> None:
    """Call a user's function and restore `keep` afterwards: see Snapshot."""
    with Block((), Snapshot(*keep).steps, None):
        function()


def _do_nothing() -> None: ...
