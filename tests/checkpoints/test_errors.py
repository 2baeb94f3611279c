"""Errors are distinguished by type, and can be passed between processes."""

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from statezoo import core
from statezoo.checkpoints import (
    CheckpointError,
    CorruptError,
    MismatchError,
    MissingFileError,
    WriteError,
    convert,
    diff,
    edit,
    fingerprint,
    inspect,
    load_file,
    load_model,
    merge,
    open_checkpoint,
    read_metadata,
    repair,
    save_file,
    verify,
)

ERRORS = [
    CorruptError("damaged", ("a", "b")),
    MissingFileError("no file", FileNotFoundError(2, "no such file", "x.h5")),
    WriteError("full", OSError(28, "no space")),
    MismatchError("x.h5", "Net", ["w  is missing"], "Build it again."),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("passed", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy], ids=["pickle", "copy"])
def test_an_error_survives_pickle_and_copy_unchanged(error: CheckpointError, passed):
    again = passed(error)
    assert (type(again), str(again)) == (type(error), str(error))
    for name in ("tensors", "errno", "filename", "source", "problems", "advice"):
        assert getattr(again, name, None) == getattr(error, name, None)


def test_names_from_a_file_cannot_mislead_a_terminal(path):
    save_file({"\x1b[2Jall\nis well": np.ones(1)}, path)
    with pytest.raises(MismatchError) as caught:
        load_model(core.Linear(1, 1), path)
    assert r"\x1b[2Jall\nis well" in str(caught.value)
    assert "\x1b" not in str(caught.value)


READERS: list[Callable[[Path, Path], Any]] = [
    lambda missing, out: convert(missing, out),
    lambda missing, out: diff(missing, missing),
    lambda missing, out: edit(missing, to=out),
    lambda missing, out: fingerprint(missing),
    lambda missing, out: inspect(missing),
    lambda missing, out: load_file(missing),
    lambda missing, out: load_model(core.Linear(1, 1), missing),
    lambda missing, out: merge([missing], out),
    lambda missing, out: open_checkpoint(missing),
    lambda missing, out: read_metadata(missing),
    lambda missing, out: repair(missing, out),
    lambda missing, out: verify(missing),
]


@pytest.mark.parametrize("name", ["nofile", "nofile.xyz", "nofile.safetensors", "folder/nofile.h5", "nofile.npz"])
@pytest.mark.parametrize("read", READERS)
def test_a_missing_file_is_a_file_not_found_error_for_every_reader(read: Any, name: str, tmp_path: Path):
    with pytest.raises(FileNotFoundError) as caught:
        read(tmp_path / name, tmp_path / "out.h5")
    assert isinstance(caught.value, CheckpointError)
    assert not (tmp_path / "out.h5").exists()
