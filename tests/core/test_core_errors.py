"""The errors of core are the builtin errors that people catch."""

import pytest

from statezoo import core


@pytest.mark.parametrize("kind", [core.ShapeError, core.ArgumentError])
def test_an_error_is_both_the_one_of_numpy_and_the_one_of_torch(kind: type[Exception]):
    for builtin in (ValueError, RuntimeError, core.ModuleError):
        with pytest.raises(builtin, match="what is wrong"):
            raise kind("what is wrong")
