"""Atomic replacement of a published folder: readers and the next process find the complete old or new one.

While it runs, it owns one folder beside its target, `.NAME.publishing`, which holds

    written-by-statezoo     the mark, with the number of the folder `new`: a folder without it is never touched
    new/                    the folder that is being written; after the exchange, the one that was at the target
    old/                    the folder that was at the target, where the system cannot exchange two folders

Linux exchanges the new folder and the old one in one step. Elsewhere the target is missing between two renames: then
readers use old/, and the next process restores it if this one is killed.

Only files that the old folder's manifest lists are removed with it. Anything else in it is the user's, and moves into
the new folder.

What a later step relies on is flushed before it, so that all this holds after a power cut too.
"""

import ctypes
import errno
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ...checkpoints.storage.durable import flush
from ...checkpoints.storage.folders import make_folders
from ..entry import MANIFEST, listed_files
from ..errors import EntryError, RunError
from ..training.run.claim import claim
from ..versions import MARK, OLD, SUFFIX, work_folder

_NEW = "new"

_AT_FDCWD, _EXCHANGE = -100, 2
# The errors of a kernel, a file system or a sandbox that cannot exchange two folders. If plain renames are forbidden
# too, the first rename fails.
_NO_EXCHANGE = {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM, errno.EXDEV}


@contextmanager
def placed(target: Path, check: Callable[[Path], None]) -> Iterator[Path]:
    """Yield a new, empty folder that replaces the target if the block succeeds, and is removed otherwise.

    check: raises if the target must not be replaced. Only one process at a time may do this in a parent folder; another
    one waits, and then runs its check. Leftovers of killed processes in the parent folder are removed first.

    Raises FileExistsError if something that is not ours is in the way of the work folder or of a new file. Raises
    RunError if another process keeps the parent folder locked, or if this call runs inside another one.
    """
    make_folders(target.parent)
    work, owner = work_folder(target), os.getpid()
    with claim(target.parent, "publishing into"):
        for left in target.parent.glob(f".*{SUFFIX}"):
            _clear(left)
        if os.path.lexists(work) and (work.is_symlink() or not work.is_dir() or any(work.iterdir())):
            raise FileExistsError(f"{work} is in the way and was not written by statezoo; move it")
        check(target)
        try:
            work.mkdir(exist_ok=True)
            (work / MARK).write_text("")
            _synchronise(work / MARK, work)
            folder = work / _NEW
            folder.mkdir()
            (work / MARK).write_text(_number(folder))
            _synchronise(work / MARK)
            yield folder
            if os.getpid() != owner:
                raise RunError(f"This process was forked from the one that publishes {target}, which goes on.")
            _refuse_collisions(target, folder)
            _synchronise(folder, *folder.iterdir(), work, target.parent)
            _put(folder, target, work / OLD)
            _synchronise(target.parent)
        finally:
            if os.getpid() == owner:
                _clear(work)


def _put(new: Path, target: Path, old: Path) -> None:
    """Put the new folder at the target, and the one that was there at `new` or `old`."""
    if not target.exists():
        new.rename(target)
    elif not _renameat2(new, target):
        # An exception in between puts the old one back; if this process is killed, the next one does.
        target.rename(old)
        new.rename(target)


def _renameat2(one: Path, other: Path) -> bool:
    """Exchange two folders in one step. Return False if the system cannot. Raises OSError."""
    if not sys.platform.startswith("linux"):
        return False
    exchange = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)  # missing in older C libraries
    if exchange is None:
        return False
    if exchange(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _NO_EXCHANGE:
        return False
    raise OSError(number, os.strerror(number), str(other))


def _refuse_collisions(target: Path, new: Path) -> None:
    """Raise FileExistsError if the user has a file or folder at the name of a new file."""
    for path in _not_ours(target) if target.exists() else ():
        if os.path.lexists(new / path.name):
            raise FileExistsError(f"{path} was not written by statezoo, and a new file has that name; move it")


def _clear(work: Path) -> None:
    """Restore the old folder if the target is missing, and remove the leftovers. Do nothing if `work` has no mark."""
    target = work.with_name(work.name[1 : -len(SUFFIX)])
    if work.is_symlink() or not (work / MARK).is_file():
        return
    if (work / OLD).exists() and not os.path.lexists(target):
        (work / OLD).rename(target)
    _synchronise(target.parent)  # a power cut must not bring back the name of what is removed here
    new = work / _NEW
    if new.is_dir() and not new.is_symlink() and (work / MARK).read_bytes() == _number(new).encode():
        shutil.rmtree(new)  # it never was at the target
    for folder in (work / OLD, new):
        if folder.is_dir() and not folder.is_symlink():
            _discard(folder, target)
    # The mark goes last, together with the folder: if this process is killed, the next one recognises the leftovers.
    if [path.name for path in work.iterdir()] == [MARK]:
        _synchronise(work)
        (work / MARK).unlink()
        work.rmdir()


def _discard(folder: Path, target: Path) -> None:
    """Remove a folder that was replaced. Move what is the user's in it to the target, or leave it there."""
    try:
        users = _not_ours(folder)
    except EntryError:  # so we cannot tell what is ours
        return
    for path in folder.iterdir():
        if path.name == MANIFEST:
            continue
        if path not in users:
            path.unlink()
        elif target.is_dir() and not os.path.lexists(target / path.name):
            path.rename(target / path.name)
            _synchronise(target)
    if [path.name for path in folder.iterdir()] == [MANIFEST]:  # it lists what is ours, so it goes last
        _synchronise(folder)
        (folder / MANIFEST).unlink()
    if not any(folder.iterdir()):
        folder.rmdir()


def _not_ours(folder: Path) -> list[Path]:
    """Return what a folder holds besides its manifest and the files that the manifest lists."""
    ours = {MANIFEST, *(listed_files(folder) or ())}
    return [path for path in folder.iterdir() if path.name not in ours or (path.is_dir() and not path.is_symlink())]


def _number(folder: Path) -> str:
    """Return an id that no other folder on this machine has while this one exists."""
    status = folder.stat()
    return f"{status.st_dev}:{status.st_ino}"


def _synchronise(*paths: Path) -> None:
    for path in paths:
        flush(str(path))
