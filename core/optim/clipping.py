"""Gradient clipping."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from ..autograd.tensor import Tensor


def clip_grad_norm_(parameters: Tensor | Iterable[Tensor], max_norm: float) -> Tensor:
    """Scale all gradients in place so that their joint 2-norm is at most max_norm. Return the norm before scaling.

    Parameters without a gradient are ignored; a parameter given twice counts once.
    Source: Pascanu, Mikolov and Bengio 2013, arXiv:1211.5063, algorithm 1.
    """
    given = [parameters] if isinstance(parameters, Tensor) else parameters
    gradients = [p._grad for p in dict.fromkeys(given) if p._grad is not None]
    norm = math.hypot(*(float(np.linalg.norm(gradient)) for gradient in gradients))
    scale = max_norm / (norm + 1e-6)  # the guard against 0 / 0 that torch uses
    if not scale >= 1:  # also true for NaN, which then reaches the parameters
        with np.errstate(invalid="ignore"):  # infinity * 0
            for gradient in gradients:
                gradient *= scale
    return Tensor(norm)
