"""The one device, "cpu": device= and .to(device) accept it everywhere, and it changes nothing."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import ArgumentError


class device(str):
    """The name of a device, "cpu" or "cpu:0", with its `type` and `index`. Unlike torch's, it is a str.

    Raises ArgumentError for any other: there is no code for another processor here.
    """

    type: str
    index: int | None  # pyright: ignore[reportIncompatibleMethodOverride]

    def __new__(cls, type: Any = "cpu", index: int | None = None) -> device:
        name, _, number = str(type).partition(":")
        if name != "cpu" or (number and not number.isdecimal()):
            raise ArgumentError(f"there is no device {type!r} here: everything is computed on the CPU. Use 'cpu'.")
        new = super().__new__(cls, type if index is None else f"cpu:{index}")
        new.type, new.index = name, int(number) if number else index
        return new


Device = str | None
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
    return isinstance(value, int) and not isinstance(value, bool)
