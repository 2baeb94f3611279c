"""How examples become a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...autograd.shaping import stack
from ...autograd.tensor import Tensor
from ...errors import ArgumentError


def default_collate(batch: Sequence[Any]) -> Any:
    """Return one batch of examples of one kind.

    Tensors, arrays and numbers are stacked to a tensor (floats as float64, ints as int64, as in torch), texts stay as
    they are, and dicts, lists and tuples are batched item by item. A tuple becomes a list.
    Raises ArgumentError if the examples have different lengths, or are of another kind.
    """
    first = batch[0]
    if isinstance(first, Tensor):
        return stack(list(batch))
    if isinstance(first, np.ndarray | np.generic | bool | int | float):
        return Tensor(np.stack([np.asarray(value) for value in batch]))
    if isinstance(first, str | bytes):
        return batch
    if isinstance(first, Mapping):
        return {key: default_collate([example[key] for example in batch]) for key in first}
    if isinstance(first, Sequence):
        if any(len(example) != len(first) for example in batch):
            raise ArgumentError("a batch needs examples of one length. Pad them, or pass a collate_fn.")
        parts = [default_collate(part) for part in zip(*batch, strict=True)]
        return type(first)(*parts) if hasattr(first, "_fields") else parts
    raise ArgumentError(
        f"a batch holds tensors, arrays, numbers, texts, dicts, lists and tuples, not {type(first).__name__}. "
        "Pass a collate_fn."
    )


def default_convert(data: Any) -> Any:
    """Return an example with its arrays as tensors."""
    if isinstance(data, np.ndarray | np.generic):
        return Tensor(np.asarray(data))
    if isinstance(data, Mapping):
        return {key: default_convert(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        parts = map(default_convert, data)
        return type(data)(*parts) if hasattr(data, "_fields") else list(parts)
    return data
