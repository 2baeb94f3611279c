"""Errors are distinguished by type, and can be passed between processes."""

import copy
import pickle

import numpy as np
import pytest

from statezoo import core
from statezoo.checkpoints import (
    CheckpointError,
    CorruptError,
    MismatchError,
    MissingFileError,
    WriteError,
    load_model,
    save_file,
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
