"""Marks: a process notes what it is about to write or remove, so that the next one can clean up if it dies.

A mark is a temporary file (see durable.py) whose content is a JSON object. Its process holds a lock on it: a mark that
nobody has locked belongs to a dead process. Only what a mark names is removed: files of other programs, and copies in
progress, may look the same as what a dead process left.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from . import durable

_MOST_BYTES = 1 << 12


@contextmanager
def marked(path: str, content: dict[str, Any]) -> Iterator[None]:
    """Keep a mark next to `path` during the block. Continue without one if the system refuses it."""
    mark = None
    try:
        with suppress(OSError):
            mark = durable.open_temporary(path, None)
            durable.write_all(mark.descriptor, json.dumps(content).encode(), 0)
        yield
    finally:
        if mark is not None:
            try:
                mark.discard()
            finally:  # an interrupt may have ended the first attempt
                mark.discard()


def dead_marks(path: str) -> Iterator[tuple[str, Any]]:
    """Yield the path and the content, or None if it is invalid, of each mark next to `path` whose process has died."""
    folder, prefix = os.path.split(durable.temporary_stem(path))
    with suppress(OSError):
        for name in sorted(os.listdir(folder)):
            mark = os.path.join(folder, name)
            if name.startswith(prefix) and (text := durable.read_dead(mark, _MOST_BYTES)) is not None:
                yield mark, _parsed(text)


def _parsed(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
