"""Marks: a process notes what it is about to write or remove, so that the next one can clean up if it dies.

A mark is a temporary file (see temporary.py) with a JSON object on each line. Its process holds a lock on it: a mark
that nobody has locked belongs to a dead process. Only what a mark names is removed: files of other programs, and copies
in progress, may look the same as what a dead process left.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from itertools import count
from typing import Any

from xxhash import xxh3_64_hexdigest

from .identity import Identity, remove
from .temporary import Temporary, read_dead

_MOST_BYTES = 1 << 24


class Mark:
    """A mark of this process. Where the system refuses one, it notes nothing.

    is_settled: nothing that it names is left to be removed. None: if the block succeeds. process: the one whose mark it
    is. A forked child that leaves the block must remove nothing.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self.process = descriptor, os.getpid()
        self.is_settled: bool | None = None

    @property
    def is_own(self) -> bool:
        """Whether it is the mark of this process, not of the parent that this process was forked from."""
        return self.process == os.getpid()

    def add(self, content: dict[str, Any]) -> None:
        """Add a line. Leave it out if the system refuses: what it would name is not cleaned up then."""
        with suppress(OSError):
            # In one write at the end of the file: a signal handler may add a line in between.
            os.write(self._descriptor, b"\n" + json.dumps(content).encode())

    def end(self) -> None:
        """Add no more lines: the number of the descriptor may belong to another file from here on."""
        self._descriptor = -1


def is_marked(path: str) -> bool:
    """Return True if there is a mark next to `path`, also that of a process that has died."""
    return os.path.lexists(f"{_stem(path)}0.tmp")


@contextmanager
def marked(path: str, content: dict[str, Any]) -> Iterator[Mark]:
    """Keep a mark next to `path` during the block.

    If it is not settled then, it stays: the next process cleans up as if this one had died.
    """
    temporary = Temporary()
    mark = Mark(-1)
    try:
        with suppress(OSError):
            # At a name of its own: a dead one may still be needed.
            next(filter(temporary.create, (f"{_stem(path)}{number}.tmp" for number in count())))
            mark = Mark(temporary.descriptor)
        mark.add(content)
        yield mark
        if mark.is_settled is None:
            mark.is_settled = True
    finally:
        mark.end()
        if not mark.is_settled:
            with suppress(OSError):
                temporary.file.close()
        try:
            temporary.discard()
        finally:  # an interrupt may have ended the first attempt
            temporary.discard()


def dead_marks(path: str) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield the path and the lines of each mark next to `path` whose process has died. Invalid lines are left out."""
    folder, prefix = os.path.split(_stem(path))
    with suppress(OSError):
        for name in sorted(os.listdir(folder)):
            mark = os.path.join(folder, name)
            if name.startswith(prefix) and (text := read_dead(mark, _MOST_BYTES)) is not None:
                yield mark, [content for line in text.split(b"\n") if (content := _parsed(line)) is not None]


def remove_marked(path: str, target: str, identity: Identity) -> bool:
    """Remove the file at `target` if it has this identity. Return True if it is removed. Raises OSError.

    The next process clears what is left if this one dies halfway, as it does with the marks next to `path`, which is
    in the same folder.
    """
    return remove(target, identity, f"{_stem(path)}removed-{identity.inode}.tmp")


@lru_cache(maxsize=1)
def _stem(path: str) -> str:
    """Return the common start of the paths of the marks next to `path`."""
    folder, name = os.path.split(path)
    return os.path.join(folder, f".statezoo-{xxh3_64_hexdigest(os.fsencode(name))}-")


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None
