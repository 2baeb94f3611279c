"""PyTorch tensors as NumPy arrays. PyTorch is not imported here: a program that has a tensor has imported it."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from ..errors import UnsupportedTypeError
from . import dtypes

_DENSE = "Save a dense tensor on the CPU: tensor.cpu()."


def is_tensor(value: Any) -> bool:
    """Return True if a value is a PyTorch tensor."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, getattr(torch, "Tensor", ()))


def memory_of(name: str, tensor: Any) -> np.ndarray:
    """Return the memory of a tensor on the CPU, with the dtypes of ml_dtypes where NumPy has none.

    Raises UnsupportedTypeError naming the tensor if it has no plain memory.
    """
    torch = sys.modules["torch"]
    if (reason := why_not_plain(tensor)) is not None:
        raise UnsupportedTypeError(f"{name!r} cannot be read as a NumPy array: {reason}")
    kind = str(tensor.dtype).removeprefix("torch.")
    try:
        tensor = tensor.detach().resolve_conj().resolve_neg()
        if kind in dtypes.ML_DTYPES.values():
            raw = tensor.view(torch.int16 if tensor.element_size() == 2 else torch.uint8).numpy()
            return raw.view(dtypes.numpy_dtype(dtypes.FILE_NAMES[kind]))
        return tensor.numpy()
    except (TypeError, ValueError, RuntimeError) as error:
        raise UnsupportedTypeError(f"{name!r} cannot be read as a NumPy array: {error}. {_DENSE}") from error


def why_not_plain(tensor: Any) -> str | None:
    """Return the reason why a tensor has no plain memory, and what to do, or None. Its device does not matter."""
    torch = sys.modules["torch"]
    kind = type(tensor)
    if kind.__name__.startswith("Uninitialized"):
        return "it has no shape yet. Run the lazy module once on an example batch first."
    if kind.__torch_dispatch__ is not torch.Tensor.__torch_dispatch__:
        return f"it is a {kind.__name__}, which has no memory of its own. {_DENSE}"
    if tensor.is_quantized:
        return "it is quantized. Save tensor.int_repr(), with its scale and zero point, or tensor.dequantize()."
    if tensor.is_nested or tensor.layout is not torch.strided:
        what = "nested" if tensor.is_nested else str(tensor.layout).removeprefix("torch.")
        return f"it is a {what} tensor. Save tensor.to_dense(), or the tensors that it consists of."
    if tensor.device.type == "meta":
        return "it is on the device meta, where tensors have no values. Use model.to_empty(device='cpu'), and fill it."
    return None


def is_on_host(tensor: Any) -> bool:
    """Return True if the values of a tensor are in memory that NumPy can see: not on a device, nor lazily negated."""
    return tensor.device.type == "cpu" and not tensor.is_conj() and not tensor.is_neg()
