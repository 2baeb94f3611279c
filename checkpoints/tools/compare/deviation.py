"""The distance between the values of two tensors, measured block by block."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...reading.progress import Progress
from ...state import dtypes
from ..blocks import blocks_of


@dataclass(frozen=True)
class Deviation:
    """The difference between two tensors of one shape.

    differing: the number of elements whose bits differ, so 0.0 and -0.0 differ, as do NaNs with different payloads; if
    the dtypes differ, the number of elements whose values differ. size: the number of elements. The rest is computed in
    float64 or complex128. max_absolute: the largest |a - b|. max_relative: the largest |a - b| / max(|a|, |b|), at most
    2. Both are inf if one element is finite and the other is not, or if only one of them is NaN. cosine: the cosine of
    the angle between the tensors as vectors; None if one is zero, or if a value is not finite or too large to square.
    """

    differing: int
    size: int
    max_absolute: float
    max_relative: float
    cosine: float | None


def deviation(a: Any, b: Any, progress: Progress) -> Deviation:
    """Compare two arrays or lazy tensors of one shape. progress: called with the number of bytes of `a` read."""
    sums = _Sums(dtypes.name_of(a.dtype, "a") == dtypes.name_of(b.dtype, "b"))
    with np.errstate(all="ignore"):
        for block, other in zip(blocks_of(a), blocks_of(b), strict=True):
            sums.add(block, other)
            progress(block.nbytes)
        return sums.deviation(math.prod(a.shape))


class _Sums:
    """Running sums over the blocks. compare_bits: whether the dtypes are equal."""

    def __init__(self, compare_bits: bool) -> None:
        self._compare_bits = compare_bits
        self._differing, self._absolute, self._relative = 0, 0.0, 0.0
        self._ab = self._aa = self._bb = np.float64(0)

    def add(self, a: np.ndarray, b: np.ndarray) -> None:
        """Add two blocks of the same length."""
        wide = np.complex128 if "c" in (a.dtype.kind, b.dtype.kind) else np.float64
        x, y = a.astype(wide), b.astype(wide)
        differ = _bits_differ(a, b) if self._compare_bits else ~_same_value(x, y)
        self._ab += _dot(x, y)
        self._aa += _dot(x, x)
        self._bb += _dot(y, y)
        count = np.count_nonzero(differ)
        if count:
            self._differing += int(count)
            self._measure(x[differ], y[differ])

    def _measure(self, x: np.ndarray, y: np.ndarray) -> None:
        error = np.abs(x - y)
        error[_same_value(x, y)] = 0
        error[np.isnan(error)] = np.inf
        # If a value is infinite, the error is too, and inf / inf would be NaN.
        relative = np.where(np.isfinite(error) & (error > 0), error / np.maximum(np.abs(x), np.abs(y)), error)
        self._absolute = max(self._absolute, float(error.max()))
        self._relative = max(self._relative, float(relative.max()))

    def deviation(self, size: int) -> Deviation:
        """Return the result for all blocks."""
        cosine = float(self._ab / (np.sqrt(self._aa) * np.sqrt(self._bb)))
        bounded = max(-1.0, min(1.0, cosine)) if math.isfinite(cosine) else None
        return Deviation(self._differing, size, self._absolute, self._relative, bounded)


def _dot(x: np.ndarray, y: np.ndarray) -> float:
    # Not numpy.dot: its BLAS threads wait for each other at every block, which takes long on a busy machine.
    return np.einsum("i,i->", x, y.conj()).real


def _bits_differ(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    words = [np.ascontiguousarray(dtypes.little_endian(array)).view(f"u{min(array.itemsize, 8)}") for array in (a, b)]
    differ = words[0] != words[1]
    return differ.reshape(-1, 2).any(axis=1) if a.itemsize > 8 else differ


def _same_value(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x == y) | (np.isnan(x) & np.isnan(y))
