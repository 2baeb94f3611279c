"""Parametrizations: tensors of a module that are computed from others, as in torch.nn.utils.parametrize.

The module keeps its class: reading the attribute computes the tensor, see Registry.__getattr__.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ...autograd.tensor import Tensor, no_grad
from ...errors import ArgumentError
from ..module.containers import ModuleDict, ModuleList
from ..module.module import Module
from ..module.parameter import Buffer, Parameter


class ParametrizationList(ModuleList):
    """The modules that compute a tensor, one after the other, from `original` or from `original0`, `original1`, ...

    A module may define right_inverse(tensor), which returns what it would compute the tensor from.
    """

    computes = True  # for Registry.__getattr__

    def __init__(self, modules: Iterable[Module], original: Any, unsafe: bool = False) -> None:
        super().__init__(modules)
        self.unsafe, new = unsafe, self._inverted(original)
        self.is_tensor = isinstance(new, Tensor)
        if self.is_tensor:
            _require_alike(original, new)
            original._data[...] = new._data
            self.original = original  # the same object: an optimizer may have it
        for at, part in enumerate(() if self.is_tensor else new):
            setattr(self, f"original{at}", _like(original, part))

    def forward(self) -> Tensor:
        """Return the tensor."""
        first, *rest = self
        out = first(*self._originals())
        for module in rest:
            out = module(out)
        return out

    def right_inverse(self, value: Any) -> None:
        """Change the originals so that the tensor gets a value."""
        new = self._inverted(value if isinstance(value, Tensor) else Tensor(value))
        for original, part in zip(self._originals(), [new] if self.is_tensor else new, strict=True):
            _require_alike(original, part)
            original._data[...] = np.asarray(part)

    def _originals(self) -> list[Any]:
        return [tensor for tensor in (*self._parameters.values(), *self._buffers.values()) if tensor is not None]

    def _inverted(self, value: Any) -> Any:
        with no_grad():
            for module in reversed(list(self)):
                value = module.right_inverse(value) if hasattr(module, "right_inverse") else value
        return value


def register_parametrization(
    module: Module, tensor_name: str, parametrization: Module, *, unsafe: bool = False
) -> Module:
    """Compute a parameter or buffer of a module by a parametrization, after those it has, and return the module.

    unsafe: do not check that shape and dtype stay the same. Raises ArgumentError if they do not, or if there is no such
    tensor; nothing is changed in these cases.
    """
    parametrization.train(module.training)
    before = module._parameters.get(tensor_name, module._buffers.get(tensor_name))
    if is_parametrized(module, tensor_name):
        held = module.parametrizations[tensor_name]
        _require_alike(held(), parametrization(held()), unsafe or held.unsafe)
        held.append(parametrization)
        return module
    if before is None:
        raise ArgumentError(f"{type(module).__name__} has no parameter or buffer {tensor_name!r} to parametrize.")
    values = before._data.copy()
    try:
        made = ParametrizationList([parametrization], before, unsafe)
        _require_alike(before, made(), unsafe)
    except Exception:
        before._data[...] = values
        raise
    delattr(module, tensor_name)
    if not is_parametrized(module):
        module.parametrizations = ModuleDict()
    module.parametrizations[tensor_name] = made
    return module


def is_parametrized(module: Module, tensor_name: str | None = None) -> bool:
    """Return True if a module has a parametrization of the tensor with this name, or with None any."""
    held = module._modules.get("parametrizations")
    return isinstance(held, ModuleDict) and (len(held) > 0 if tensor_name is None else tensor_name in held)


def remove_parametrizations(module: Module, tensor_name: str, leave_parametrized: bool = True) -> Module:
    """Make a tensor a parameter or buffer again, with its computed or its original value, and return the module.

    Raises ArgumentError if it is not parametrized, or if leave_parametrized=False and there are several originals.
    """
    if not is_parametrized(module, tensor_name):
        raise ArgumentError(f"{type(module).__name__} has no parametrization of {tensor_name!r}.")
    held = module.parametrizations[tensor_name]
    if not held.is_tensor and not leave_parametrized:
        raise ArgumentError(f"{tensor_name!r} is computed from several tensors: use leave_parametrized=True.")
    value, original = held(), held._originals()[0]
    if not held.is_tensor:
        original = _like(original, value)
    elif leave_parametrized:
        _require_alike(original, value)
        original._data[...] = value._data
    del module.parametrizations[tensor_name]
    if not is_parametrized(module):
        del module.parametrizations
    setattr(module, tensor_name, original)
    return module


def _like(original: Any, value: Any) -> Any:
    array = np.array(value)
    return Parameter(array, original.requires_grad) if isinstance(original, Parameter) else Buffer(array)


def _require_alike(before: Tensor, after: Any, unsafe: bool = False) -> None:
    made, of = (f"{tensor.dtype} {tensor.shape}" for tensor in (after, before))
    if made != of and not unsafe:
        raise ArgumentError(f"a parametrization made {made} of {of}. If that is intended, pass unsafe=True.")
