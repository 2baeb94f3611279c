"""What the adapters of statezoo and PyTorch have in common, for load_model(..., ties="restore")."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from .adapter import Pair

if TYPE_CHECKING:
    from ....core.commit.steps import Step


def steps_to_tie(remake: Callable[[Pair], list[Step] | None], pairs: Iterable[Pair]) -> tuple[list[Step], list[Pair]]:
    """Return the steps for all pairs, and the pairs for which there are none.

    remake: returns the steps that make a pair share memory, or None if its tensors do not fit.
    """
    steps: list[Step] = []
    lacking: list[Pair] = []
    for pair in pairs:
        made = remake(pair)
        if made is None:
            lacking.append(pair)
        else:
            steps += made
    return steps, lacking


def tensors_of(model: Any) -> Iterator[tuple[str, Any]]:
    """Yield the parameters and buffers of a model with each of their names."""
    yield from model.named_parameters(remove_duplicate=False)
    yield from model.named_buffers(remove_duplicate=False)


def alike(a: np.ndarray, b: np.ndarray) -> bool:
    """Return True if two arrays have the same shape and dtype."""
    return a.shape == b.shape and a.dtype == b.dtype
