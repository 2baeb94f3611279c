"""Putting a folder in its place whole: whoever looks sees the old one or the new one, complete."""

import ctypes
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h


@contextmanager
def placed(target: Path, check: Callable[[Path], None]) -> Iterator[Path]:
    """A new folder beside the target that takes its place if the block ends well, and is removed if it does not.

    check: raises if what stands at the target must stay. One process at a time may do this in a parent folder; a
    second one waits, and then runs its check. What a killed one left behind is put right first.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with _locked(target.parent):
        _put_right(target)
        check(target)
        aside = Path(tempfile.mkdtemp(prefix=_prefix(target), dir=target.parent))
        try:
            folder = aside / "new"
            folder.mkdir()
            yield folder
            _synchronise(folder, *folder.iterdir())
            _exchange(folder, target, aside / "old")
            _synchronise(target.parent)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def _prefix(target: Path) -> str:
    return f".{target.name}-"


def _exchange(folder: Path, target: Path, old: Path) -> None:
    """Rename the folder to the target; what stands there goes out of the way in the same step, where that can be."""
    if not target.exists():
        folder.rename(target)
        return
    if _renameat2(folder, target):
        return
    # A folder cannot be renamed over another that has content. Between these two steps the target is missing: an
    # interrupt puts the old one back, and so does the next to publish here if this process is killed.
    try:
        target.rename(old)
        folder.rename(target)
    except BaseException:
        if old.exists() and not target.exists():
            old.rename(target)
        raise


def _renameat2(one: Path, other: Path) -> bool:
    """Exchange two names in one step. Returns False where the system or the file system cannot."""
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):  # not Linux
        return False
    return call(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0


def _put_right(target: Path) -> None:
    """Undo what processes that were killed left: give the target its old folder back, remove the rest."""
    for aside in target.parent.glob(f"{_prefix(target)}*"):
        if (aside / "old").exists() and not target.exists():
            (aside / "old").rename(target)
        shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    if os.name != "posix":
        yield
        return
    import fcntl  # POSIX only

    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _synchronise(*paths: Path) -> None:
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
