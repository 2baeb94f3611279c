"""Gradient clipping."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from ...autograd.tensor import Tensor
from ...errors import ArgumentError

Tensors = Tensor | Iterable[Tensor]


def get_total_norm(
    tensors: Tensors, norm_type: float = 2.0, error_if_nonfinite: bool = False, foreach: bool | None = None
) -> Tensor:
    """Return the joint norm of several tensors, as if they were one vector. norm_type: any p, also infinity.

    Raises ArgumentError if error_if_nonfinite is set and the norm is infinite or NaN.
    """
    arrays = [np.asarray(each).reshape(-1) for each in ([tensors] if isinstance(tensors, Tensor) else tensors)]
    wide = [array.astype(np.float32) if array.dtype.itemsize <= 2 else array for array in arrays if array.size]
    order = float(norm_type)
    norms = [float(np.linalg.norm(array, order)) for array in wide]
    norm = math.hypot(*norms) if order == 2 else float(np.linalg.norm(norms, order)) if norms else 0.0
    if error_if_nonfinite and not math.isfinite(norm):
        raise ArgumentError(f"the norm of order {norm_type} is {norm}. Leave out error_if_nonfinite to clip anyway.")
    return Tensor(norm)


def clip_grad_norm_(
    parameters: Tensors, max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:  # fmt: skip
    """Scale all gradients in place so that their joint norm is at most max_norm. Return the norm before scaling.

    Parameters without a gradient are ignored; a parameter given twice counts once.
    Raises ArgumentError if error_if_nonfinite is set and the norm is infinite or NaN; nothing is changed in that case.
    Source: Pascanu, Mikolov and Bengio 2013, arXiv:1211.5063, algorithm 1.
    """
    gradients = _gradients(parameters)
    norm = get_total_norm(map(Tensor, gradients), norm_type, error_if_nonfinite)
    scale = max_norm / (norm.item() + 1e-6)  # the guard against 0 / 0 that torch uses
    if not scale >= 1:  # also true for NaN, which then reaches the parameters
        with np.errstate(invalid="ignore"):  # infinity * 0
            for gradient in gradients:
                gradient *= scale
    return norm


def clip_grad_value_(parameters: Tensors, clip_value: float, foreach: bool | None = None) -> None:
    """Clip each element of the gradients in place, to between -clip_value and clip_value."""
    for gradient in _gradients(parameters):
        np.clip(gradient, -clip_value, clip_value, out=gradient)


def _gradients(parameters: Tensors) -> list[np.ndarray]:
    given = [parameters] if isinstance(parameters, Tensor) else parameters
    return [p._grad for p in dict.fromkeys(given) if p._grad is not None]
