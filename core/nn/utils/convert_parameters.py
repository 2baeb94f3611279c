"""Parameters as one vector, and back."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ...autograd.shaping import cat
from ...autograd.tensor import Tensor
from ...errors import ShapeError


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """Return the elements of all parameters in order, one after the other: (n,)."""
    return cat([parameter.reshape(-1) for parameter in parameters])


def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """Copy the elements of a vector (n,) into the parameters, in order. Memory that they share stays shared.

    Raises ShapeError if there are not as many elements in the parameters.
    """
    targets, values = [parameter._data for parameter in parameters], np.asarray(vec)
    count = sum(target.size for target in targets)
    if values.shape != (count,):
        raise ShapeError(f"the parameters have {count} elements, the vector has shape {values.shape}.")
    parts = np.split(values, np.cumsum([target.size for target in targets])[:-1])
    for target, part in zip(targets, parts, strict=True):
        target[...] = part.reshape(target.shape)
