"""Putting a folder in its place whole: a crash at any step leaves the old folder or the new one for the next to find.

While it works, a publishing owns one folder beside its target, `.NAME.publishing`. It holds

    written-by-statezoo     a mark, empty: without it nothing here is touched
    new/                    the folder that is being written
    old/                    the folder that stood at the target, between the two renames that replace it
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ...checkpoints.storage.locks import locked

_SUFFIX = ".publishing"
_MARK = "written-by-statezoo"


@contextmanager
def placed(target: Path, check: Callable[[Path], None]) -> Iterator[Path]:
    """Yield a new, empty folder that replaces the target if the block succeeds, and is removed otherwise.

    check: raises if what stands at the target must stay. One process at a time may do this in a parent folder; a second
    one waits, and then runs its check. What killed publishings left in the parent folder is cleared away first.

    Raises FileExistsError if `.NAME.publishing` exists and is not the work of this function.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    work = target.parent / f".{target.name}{_SUFFIX}"
    with locked(target.parent):
        for left in target.parent.glob(f".*{_SUFFIX}"):
            _clear(left)
        if os.path.lexists(work) and (work.is_symlink() or not work.is_dir() or any(work.iterdir())):
            raise FileExistsError(f"{work} is in the way and was not written by a publishing; move it")
        check(target)
        work.mkdir(exist_ok=True)
        (work / _MARK).touch()
        try:
            folder = work / "new"
            folder.mkdir()
            yield folder
            _synchronise(folder, *folder.iterdir(), work, target.parent)
            # A folder cannot be renamed over another that has content. Between these two steps the target is missing:
            # an exception puts the old one back, and so does the next publishing if this process is killed.
            if target.exists():
                target.rename(work / "old")
            folder.rename(target)
            _synchronise(target.parent)
        finally:
            _clear(work)


def _clear(work: Path) -> None:
    """Remove what a publishing left, once its target has its old folder back. Do nothing if `work` has no mark."""
    target = work.with_name(work.name[1 : -len(_SUFFIX)])
    if work.is_symlink() or not (work / _MARK).is_file():
        return
    if (work / "old").exists() and not target.exists():
        (work / "old").rename(target)
    for name in ("new", "old"):
        shutil.rmtree(work / name, ignore_errors=True)
    # The mark goes last, and only with the folder: a process killed before leaves what the next one can recognise.
    if [path.name for path in work.iterdir()] == [_MARK]:
        (work / _MARK).unlink()
        work.rmdir()


def _synchronise(*paths: Path) -> None:
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
