"""NumPy without its floating-point warnings, where infinities and NaN are values."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import numpy as np

Arguments = ParamSpec("Arguments")
Returned = TypeVar("Returned")

# NumPy keeps in a context variable what it warns of. To enter np.errstate takes as long as two operations on a small
# array, to copy a context in which nothing is warned of takes next to nothing.
_silent = contextvars.Context()
_silent.run(np.seterr, all="ignore")


def silently(function: Callable[Arguments, Returned], *args: Arguments.args, **kwargs: Arguments.kwargs) -> Returned:
    """Return function(*args, **kwargs), in which NumPy warns of no overflow, division by zero or invalid value.

    Other context variables have their defaults there.
    """
    return _silent.copy().run(function, *args, **kwargs)
