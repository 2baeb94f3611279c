"""A new folder that appears with all of its files, or not at all."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ....checkpoints import CheckpointError
from ....checkpoints.storage.durable import flush_folder
from ....checkpoints.storage.folders import make_folders
from ...errors import ExportError


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder that gets the name of `target`, flushed to the disk, if the block succeeds.

    Raises ExportError if the target exists and is not an empty folder, or if the system refuses.
    """
    target = Path(os.path.abspath(target))
    _refuse_occupied(target)
    try:
        make_folders(target.parent)
        work = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        try:
            new = work / "new"  # with the permissions that the umask allows
            new.mkdir()
            yield new
            for path in (*new.iterdir(), new):
                _flush(path)
            _refuse_occupied(target)
            if target.is_dir():
                target.rmdir()  # Windows renames over no folder
            new.rename(target)
            flush_folder(str(target), str(target.parent))
        finally:
            shutil.rmtree(work, ignore_errors=True)
    except OSError as error:
        if isinstance(error, CheckpointError):
            raise
        raise ExportError(f"{target} could not be written: {error}. There is no such folder.") from error


def _refuse_occupied(target: Path) -> None:
    if os.path.lexists(target) and (target.is_symlink() or not target.is_dir() or any(target.iterdir())):
        raise ExportError(f"{target} exists and is not replaced. Remove it, or choose another folder.")


def _flush(path: Path) -> None:
    if path.is_dir():
        flush_folder(str(path), str(path))
        return
    with open(path, "rb+") as file:
        os.fsync(file.fileno())
