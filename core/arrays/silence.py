"""NumPy without floating-point warnings, for computations in which infinities and NaN are ordinary values."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import numpy as np

Arguments = ParamSpec("Arguments")
Returned = TypeVar("Returned")

# NumPy keeps its warning settings in a context variable. Entering np.errstate takes as long as two operations on a
# small array; copying a context in which the warnings are off takes almost no time.
_silent = contextvars.Context()
_silent.run(np.seterr, all="ignore")


def silently(function: Callable[Arguments, Returned], *args: Arguments.args, **kwargs: Arguments.kwargs) -> Returned:
    """Call function(*args, **kwargs) without NumPy's floating-point warnings and return its result.

    All other context variables have their default values during the call.
    """
    return _silent.copy().run(function, *args, **kwargs)
