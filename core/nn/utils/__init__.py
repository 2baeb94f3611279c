"""Helpers for modules, as in torch.nn.utils."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from ...autograd.shaping import cat
from ...autograd.tensor import Tensor
from ...errors import ShapeError
from . import parametrizations, parametrize, rnn
from .clip_grad import clip_grad_norm_, clip_grad_value_, get_total_norm
from .parametrizations import old_spectral_norm as spectral_norm
from .parametrizations import old_weight_norm as weight_norm
from .parametrizations import remove_norm as remove_spectral_norm
from .parametrizations import remove_norm as remove_weight_norm

__all__ = [
    "clip_grad_norm_", "clip_grad_value_", "get_total_norm", "parameters_to_vector", "parametrizations", "parametrize",
    "remove_spectral_norm", "remove_weight_norm", "rnn", "skip_init", "spectral_norm", "vector_to_parameters",
    "weight_norm",
]  # fmt: skip


def skip_init(module_cls: Any, *args: Any, **kwargs: Any) -> Any:
    """Return module_cls(*args, **kwargs). Its parameters have their usual initial values, unlike in torch."""
    return module_cls(*args, **kwargs)


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """Return the elements of all parameters in order, one after the other: (n,)."""
    return cat([parameter.reshape(-1) for parameter in parameters])


def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """Copy a vector (n,) into the parameters, in order. Raises ShapeError if they do not have n elements."""
    targets = [parameter._data for parameter in parameters]
    count = sum(target.size for target in targets)
    if vec.shape != (count,):
        raise ShapeError(f"the parameters have {count} elements, the vector has shape {vec.shape}.")
    parts = np.split(np.asarray(vec), np.cumsum([target.size for target in targets]))
    for target, part in zip(targets, parts, strict=False):  # an empty part is left
        target[...] = part.reshape(target.shape)
