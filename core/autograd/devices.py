"""The one device, "cpu": device= and .to(device) accept it everywhere, and it changes nothing."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import ArgumentError


class device:
    """The name of a device, as torch.device: "cpu", with or without an index.

    Raises ArgumentError for any other: there is no code for another processor here.
    """

    __slots__ = ("index", "type")

    def __init__(self, type: Any = "cpu", index: int | None = None) -> None:
        name, _, number = str(type).partition(":")
        if name != "cpu" or isinstance(type, int) or (number and not number.isdecimal()):
            raise ArgumentError(f"there is no device {type!r} here: everything is computed on the CPU. Use 'cpu'.")
        self.type, self.index = name, int(number) if number else index

    def __repr__(self) -> str:
        return f"device(type={self.type!r}{'' if self.index is None else f', index={self.index}'})"

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, device) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __enter__(self) -> device:
        """Begin a block in which tensors are made on this device: the only one."""
        return self

    def __exit__(self, *exception: object) -> None:
        pass


Device = device | str | None
CPU = device("cpu")


def require_cpu(name: Any) -> None:
    """Raise ArgumentError unless name is None or means the CPU: "cpu", "cpu:0" or a `device`."""
    if name is not None and not isinstance(name, device):
        device(name)


def dtype_of_to(args: tuple[Any, ...], device: Any, dtype: Any) -> Any:
    """Return the dtype that the arguments of `to()` ask for, or None. They are a dtype, a device, both, or a tensor.

    Raises ArgumentError for a device other than the CPU.
    """
    for given in args:
        if _is_device(given):
            device = given
        elif given is not None and not isinstance(given, bool):  # non_blocking and copy
            dtype = getattr(given, "dtype", given) if hasattr(given, "requires_grad") else given
    require_cpu(device)
    return dtype


def _is_device(value: Any) -> bool:
    if isinstance(value, str):
        try:
            return not np.dtype(value)
        except TypeError:
            return True
    return isinstance(value, device | int) and not isinstance(value, bool)
