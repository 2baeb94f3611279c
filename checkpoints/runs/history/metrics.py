"""The metrics of a checkpoint: floats by name. JSON has no NaN and no infinities, so they are written as text."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np

from ...errors import ArgumentError

_TEXTS = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


def checked_metrics(metrics: Any) -> dict[str, float]:
    """Return metrics as floats. Raises ArgumentError naming one that is not a number."""
    if not isinstance(metrics, Mapping):
        raise ArgumentError(f"metrics must be a dict of numbers by name, not {type(metrics).__name__}.")
    for name, value in metrics.items():
        if not isinstance(name, str) or not _is_number(value):
            raise ArgumentError(
                f"metrics must be numbers by name, but {name!r} is {value!r:.60}. Convert it with float()."
            )
    return {name: float(value) for name, value in metrics.items()}


def _is_number(value: Any) -> bool:
    """Return True for a real number, or a scalar of NumPy or ml_dtypes, that a float can hold."""
    try:
        float(value)
    except (OverflowError, TypeError, ValueError):
        return False
    return isinstance(value, Real) or (isinstance(value, np.generic) and value.dtype.kind in "bV")


def numbers_to_json(metrics: Mapping[str, float]) -> dict[str, float | str]:
    """Return metrics as values that JSON can hold."""
    return {name: value if math.isfinite(value) else _TEXTS[str(value)] for name, value in metrics.items()}


def numbers_from_json(content: Any) -> dict[str, float]:
    """Return the metrics that `numbers_to_json` was given. Raises AttributeError, TypeError or ValueError."""
    try:
        return {name: float(value) for name, value in content.items()}
    except OverflowError as error:  # JSON has integers of any size
        raise ValueError("a metric is too large for a float") from error
