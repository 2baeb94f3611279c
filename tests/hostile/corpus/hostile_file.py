"""A hostile file of the corpus. The modules beside this one fill the tables."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

# Matches the cause in any CheckpointError.
ANYTHING = ""


class HostileFile(NamedTuple):
    """A file made to do harm.

    make: puts it at a path. cause: a regular expression that the error's text must match; None where the file is valid
    but unusual, so that it may load as well. only_data: whether the header is as it should be, so that reading no more
    than that may succeed.
    """

    title: str
    suffix: str
    make: Callable[[Path], object]
    cause: str | None
    only_data: bool = False

    @property
    def file_name(self) -> str:
        return re.sub(r"\W+", "-", self.title).strip("-") + self.suffix


def bytes_of(content: bytes) -> Callable[[Path], object]:
    """Return a function that writes `content` to a file."""
    return lambda path: path.write_bytes(content)
