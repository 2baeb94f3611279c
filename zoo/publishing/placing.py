"""Atomic replacement of a folder: after a crash at any step, the next run finds the complete old or new folder.

While it runs, it owns one folder beside its target, `.NAME.publishing`, which holds

    written-by-statezoo     an empty mark: a folder without it is never touched
    new/                    the folder that is being written
    old/                    the folder that was at the target, between the two renames that replace it
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ...checkpoints.storage.folders import make_folders
from ...checkpoints.storage.locks import locked

_SUFFIX = ".publishing"
_MARK = "written-by-statezoo"


@contextmanager
def placed(target: Path, check: Callable[[Path], None]) -> Iterator[Path]:
    """Yield a new, empty folder that replaces the target if the block succeeds, and is removed otherwise.

    check: raises if the target must not be replaced. Only one process at a time may do this in a parent folder; another
    one waits, and then runs its check. Leftovers of killed processes in the parent folder are removed first.

    Raises FileExistsError if `.NAME.publishing` exists and was not written by this function.
    """
    make_folders(target.parent)
    work = target.parent / f".{target.name}{_SUFFIX}"
    with locked(target.parent):
        for left in target.parent.glob(f".*{_SUFFIX}"):
            _clear(left)
        if os.path.lexists(work) and (work.is_symlink() or not work.is_dir() or any(work.iterdir())):
            raise FileExistsError(f"{work} is in the way and was not written by statezoo; move it")
        check(target)
        work.mkdir(exist_ok=True)
        (work / _MARK).touch()
        try:
            folder = work / "new"
            folder.mkdir()
            yield folder
            _synchronise(folder, *folder.iterdir(), work, target.parent)
            # A folder cannot be renamed over a non-empty one. Between these two steps the target is missing: an
            # exception puts the old one back, and if this process is killed, the next call does.
            if target.exists():
                target.rename(work / "old")
            folder.rename(target)
            _synchronise(target.parent)
        finally:
            _clear(work)


def _clear(work: Path) -> None:
    """Restore the old folder if the target is missing, and remove the leftovers. Do nothing if `work` has no mark."""
    target = work.with_name(work.name[1 : -len(_SUFFIX)])
    if work.is_symlink() or not (work / _MARK).is_file():
        return
    if (work / "old").exists() and not target.exists():
        (work / "old").rename(target)
    for name in ("new", "old"):
        shutil.rmtree(work / name, ignore_errors=True)
    # The mark goes last, together with the folder: if this process is killed, the next one recognises the leftovers.
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
