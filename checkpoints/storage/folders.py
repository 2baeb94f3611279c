"""New folders that survive a power cut.

A new folder is safe once the folder that holds it is flushed. Folders are therefore flushed from the top down, each
before the next one is made: a process that is killed leaves at most one folder that is not, the deepest. The next one
to make folders there flushes it too.
"""

from __future__ import annotations

import os
from contextlib import suppress

from .durable import flush_folder


def make_folders(folder: str | os.PathLike[str], durable: bool = True) -> None:
    """Make a folder and its missing parents. A folder that exists is no error.

    durable: flush the parent of each new folder, and the parent of the deepest folder that existed.
    Raises OSError; as NotFlushedError if a new folder could not be flushed.
    """
    path = os.fsdecode(folder)
    missing = []
    while not os.path.lexists(path):
        missing.append(path)
        parent = os.path.dirname(path) or os.curdir
        if parent == path:  # a drive that is not there
            break
        path = parent
    if not missing and not os.path.isdir(path):
        os.mkdir(path)  # raises an error that says what is at the path
    if durable:
        with suppress(OSError):  # its parent may be another user's, who made it and does not let us open it
            flush_folder(path, os.path.dirname(os.path.realpath(path)))
    for path in reversed(missing):
        make_folder(path, durable)


def make_folder(path: str, durable: bool = True) -> None:
    """Make one folder, unless it exists. Otherwise as `make_folders`."""
    try:
        os.mkdir(path)
    except FileExistsError:
        if not os.path.isdir(path):
            raise
    if durable:
        flush_folder(path, os.path.dirname(path) or os.curdir)
