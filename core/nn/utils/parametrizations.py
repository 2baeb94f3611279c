"""Weights of a given norm, as in torch.nn.utils.parametrizations, and under the older names of torch.nn.utils.

The older functions keep what they compute a weight from in the module itself, as weight_g and weight_v or as
weight_orig, weight_u and weight_v. A hook computes the weight before each forward.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...autograd.tensor import Tensor
from ...errors import ArgumentError
from ...random import default_generator
from ..module.module import Module
from ..module.parameter import Parameter
from .parametrize import register_parametrization


class _WeightNorm(Module):
    """g * v / |v|, with the norm over all axes but dim, or over all. Source: arXiv:1602.07868, equation 2."""

    def __init__(self, dim: int | None) -> None:
        super().__init__()
        self.dim = -1 if dim is None else dim

    def forward(self, g: Tensor, v: Tensor) -> Tensor:
        return v * (g / self._norm(v))

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return g and v."""
        return self._norm(weight), weight

    def _norm(self, v: Tensor) -> Tensor:
        axes = tuple(axis for axis in range(v.ndim) if axis != self.dim)
        return (v * v).sum(axes, keepdim=self.dim != -1).sqrt()


class _SpectralNorm(Module):
    """The weight divided by its largest singular value. Source: arXiv:1802.05957, algorithm 1.

    Each forward in training mode improves the singular vectors _u and _v by steps of the power method.
    """

    def __init__(self, weight: Tensor, steps: int, dim: int, eps: float) -> None:
        super().__init__()
        self.n_power_iterations, self.dim, self.eps, self.u_first = steps, dim, eps, True
        matrix = self._matrix(weight._data)
        for name, size in zip(("_u", "_v"), matrix.shape, strict=True):
            drawn = default_generator().standard_normal(size).astype(weight.dtype)
            self.register_buffer(name, self._unit(drawn))
        self._iterate(matrix, 15)

    def forward(self, weight: Tensor) -> Tensor:
        moved = np.moveaxis(weight._data, self.dim, 0)
        if self.training:
            self._iterate(self._matrix(weight._data), self.n_power_iterations)
        outer = np.outer(self._u._data, self._v._data).reshape(moved.shape)
        return weight / (weight * Tensor(np.moveaxis(outer, 0, self.dim))).sum()

    def _matrix(self, array: np.ndarray) -> np.ndarray:
        return np.moveaxis(array, self.dim, 0).reshape(array.shape[self.dim], -1)

    def _unit(self, vector: np.ndarray) -> np.ndarray:
        return vector / max(float(np.linalg.norm(vector)), self.eps)

    def _iterate(self, matrix: np.ndarray, steps: int) -> None:
        for half in range(2 * steps):
            if (half % 2 == 0) == self.u_first:
                self._u._data[...] = self._unit(matrix @ self._v._data)
            else:
                self._v._data[...] = self._unit(matrix.T @ self._u._data)


def weight_norm(module: Module, name: str = "weight", dim: int | None = 0) -> Module:
    """Compute a parameter from its norms, `original0`, and its directions, `original1`, and return the module."""
    return register_parametrization(module, name, _WeightNorm(dim), unsafe=True)


def spectral_norm(
    module: Module, name: str = "weight", n_power_iterations: int = 1, eps: float = 1e-12, dim: int | None = None
) -> Module:
    """Divide a parameter by its largest singular value, with the axis `dim` as rows, and return the module."""
    return register_parametrization(module, name, _spectral(module, name, n_power_iterations, eps, dim))


class _Recomputed:
    """The hook of the older functions. suffixes: of the names of what `norm` computes the weight from."""

    def __init__(self, name: str, norm: Module, suffixes: tuple[str, ...]) -> None:
        self.name, self.norm, self.suffixes = name, norm, suffixes

    def __call__(self, module: Module, _: Any = None) -> None:
        self.norm.training = module.training
        setattr(module, self.name, self.norm(*(getattr(module, self.name + suffix) for suffix in self.suffixes)))

    def register(self, module: Module, originals: tuple[Any, ...]) -> Module:
        delattr(module, self.name)
        for suffix, original in zip(self.suffixes, originals, strict=True):
            module.register_parameter(self.name + suffix, original)
        for suffix, buffer in self.norm._buffers.items():
            module.register_buffer(self.name + suffix, buffer)
        module.register_forward_pre_hook(self)
        self(module)
        return module


def old_weight_norm(module: Module, name: str = "weight", dim: int | None = 0) -> Module:
    """Compute a parameter from `<name>_g` and `<name>_v` before each forward, and return the module."""
    norm, weight = _WeightNorm(dim), _parameter(module, name)
    g, v = norm.right_inverse(weight.detach())
    return _Recomputed(name, norm, ("_g", "_v")).register(module, (Parameter(g._data), Parameter(v._data)))


def old_spectral_norm(
    module: Module, name: str = "weight", n_power_iterations: int = 1, eps: float = 1e-12, dim: int | None = None
) -> Module:
    """Compute a parameter from `<name>_orig` before each forward, with buffers `<name>_u` and `<name>_v`."""
    norm, weight = _spectral(module, name, n_power_iterations, eps, dim), _parameter(module, name)
    norm.u_first = False  # as in torch
    return _Recomputed(name, norm, ("_orig",)).register(module, (weight,))


def remove_norm(module: Module, name: str = "weight") -> Module:
    """Make a weight of the older functions a parameter again, with its value of now, and return the module."""
    for key, hook in module._forward_pre_hooks.items():
        if isinstance(hook.function, _Recomputed) and hook.function.name == name:
            hook.function(module)
            value = np.array(getattr(module, name).detach())
            for suffix in (*hook.function.suffixes, *hook.function.norm._buffers):
                delattr(module, name + suffix)
            del module._forward_pre_hooks[key]
            setattr(module, name, Parameter(value))
            return module
    raise ArgumentError(f"{type(module).__name__} has no weight_norm or spectral_norm of {name!r} to remove.")


def _parameter(module: Module, name: str) -> Parameter:
    found = module._parameters.get(name)
    if found is None:
        raise ArgumentError(f"{type(module).__name__} has no parameter {name!r}.")
    return found


def _spectral(module: Module, name: str, steps: int, eps: float, dim: int | None) -> _SpectralNorm:
    if dim is None:
        dim = 1 if "ConvTranspose" in type(module).__name__ else 0
    return _SpectralNorm(getattr(module, name), steps, dim, eps)
