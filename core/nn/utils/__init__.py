"""Helpers for modules, as in torch.nn.utils."""

from typing import Any

from ...optim.clipping import clip_grad_norm_
from . import parametrizations, parametrize, rnn
from .convert_parameters import parameters_to_vector, vector_to_parameters
from .parametrizations import old_spectral_norm as spectral_norm
from .parametrizations import old_weight_norm as weight_norm
from .parametrizations import remove_norm as remove_spectral_norm
from .parametrizations import remove_norm as remove_weight_norm

__all__ = [
    "clip_grad_norm_",
    "parameters_to_vector",
    "parametrizations",
    "parametrize",
    "remove_spectral_norm",
    "remove_weight_norm",
    "rnn",
    "skip_init",
    "spectral_norm",
    "vector_to_parameters",
    "weight_norm",
]


def skip_init(module_cls: Any, *args: Any, **kwargs: Any) -> Any:
    """Return module_cls(*args, **kwargs). Its parameters have their usual initial values, unlike in torch."""
    return module_cls(*args, **kwargs)
