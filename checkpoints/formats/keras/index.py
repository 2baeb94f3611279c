"""The index of weights that Keras 3 has split into several HDF5 files, read-only.

    {"metadata": {"total_size": number}, "weight_map": {"/layers/dense/vars": ["x_00000.weights.h5", ...], ...}}

The files are in the folder of the index. A group of variables may be in several of them. The tensors of all files come
in natural order. A file that lacks a group which the index places in it, or has another one, is of another save.

Source: Keras 3.15, saving/saving_lib.py (ShardedH5IOStore).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ...errors import FormatError, MissingFileError, ReadError
from ...storage.source import FileSource, Source
from .. import Opened, hdf5
from ..entries import InvalidError, parsed
from ..hdf5.order import VARIABLES, in_order
from ..recognise import not_valid

_MOST_BYTES = 10 << 20
_SUFFIX = ".weights.h5"


def matches(source: Source) -> bool:
    """Return True if a file is an index whose files are HDF5 files of Keras."""
    try:
        return bool(_files_in(source))
    except (InvalidError, EOFError):
        return False


def open_source(source: Source) -> Opened:
    """Open the files of an index. Raises CorruptError, ReadError if a file is missing, or another CheckpointError."""
    opened = Opened({}, {})
    try:
        groups = _files_in(source)
        if not isinstance(source, FileSource):
            raise FormatError(f"{source.name} is the index of weights in other files. Give the path of the index.")
        for name in dict.fromkeys(file for files in groups.values() for file in files):
            opened.beside.append(_opened_at(os.path.join(os.path.dirname(source.name), name), source.name))
        _check_groups(groups, opened)
        links = [
            (tuple(name.split(".")), None) for _, shard in opened.beside for name in (*shard.tensors, *shard.aliases)
        ]
        opened.names = [".".join(path) for path, _ in in_order(links, [])]
        if len(set(opened.names)) < len(opened.names):
            raise InvalidError("two of its files hold the same variable")
        return opened
    except (InvalidError, EOFError) as error:
        opened.close_all()
        raise not_valid(source, error, "index of Keras", "keras-index") from error
    except BaseException:
        opened.close_all()
        raise


def _files_in(source: Source) -> dict[str, list[str]]:
    """Return the files of each group. Raises InvalidError if the index is not one of Keras."""
    if source.size_bytes > _MOST_BYTES or source.read(0, min(1, source.size_bytes)) != b"{":
        raise InvalidError("it is not JSON of at most 10 MiB")
    weight_map = parsed(source.read(0, source.size_bytes)).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise InvalidError("it has no weight_map")
    return {group: _checked(group, files) for group, files in weight_map.items()}


def _checked(group: str, files: Any) -> list[str]:
    files = [files] if isinstance(files, str) else files
    if not group.startswith("/") or not isinstance(files, list) or not files:
        raise InvalidError(f"the files of {group!r:.200} are not a list")
    for file in files:
        if not isinstance(file, str) or not file.endswith(_SUFFIX) or set(file) & {"/", "\\", "\0", ":"}:
            raise InvalidError(f"{file!r:.200} is not the name of a {_SUFFIX} file in its folder")
    return files


def _opened_at(path: str, index: str) -> tuple[Source, Opened]:
    try:
        source = FileSource(path)
    except MissingFileError as error:
        raise ReadError(
            f"{index} names {os.path.basename(path)!r}, which is not in its folder. Copy it there."
        ) from error
    try:
        opened = hdf5.open_source(source)
        opened.names = []
        return source, opened
    except BaseException:
        source.close()
        raise


def _check_groups(groups: Mapping[str, list[str]], opened: Opened) -> None:
    """Raise InvalidError unless each file has the groups that the index places in it, and no others."""
    wanted = {(group.strip("/").replace("/", "."), file) for group, files in groups.items() for file in files}
    found = {
        (name.rpartition(".")[0], os.path.basename(source.name))
        for source, shard in opened.beside
        for name in (*shard.tensors, *shard.aliases, *shard.unsupported)
    }
    for group, file in sorted(wanted ^ found):
        what = "lacks" if (group, file) in wanted else "also has"
        raise InvalidError(
            f"{file!r:.200} {what} the variables of {group or VARIABLES!r:.200}, so it is of another save"
        )
