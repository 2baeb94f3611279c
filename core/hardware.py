"""The modules and functions of torch that speak of hardware and compilers: cuda, backends, amp, compile and others.

All is computed by NumPy on the CPU. So no other hardware is available, 16-bit modes for it are off, as in torch on a
machine without it, and settings of it change nothing.
"""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext
from types import ModuleType
from typing import Any

import numpy as np

from .autograd.devices import require_cpu
from .errors import ArgumentError


def _nothing(*_: Any, **__: Any) -> None:
    """Do nothing."""


def _no(*_: Any, **__: Any) -> bool:
    """Return False."""
    return False


def compile(model: Any = None, **_: Any) -> Any:
    """Return the model itself: there is nothing to compile."""
    return (lambda given: given) if model is None else model


def get_num_threads() -> int:
    """Return the number of processors. The variable OPENBLAS_NUM_THREADS limits the threads of NumPy."""
    return os.cpu_count() or 1


def set_default_device(device: Any) -> None:
    """Do nothing for "cpu". Raises ArgumentError for any other device."""
    require_cpu(device)


def set_printoptions(
    precision: int | None = None,
    threshold: int | None = None,
    edgeitems: int | None = None,
    linewidth: int | None = None,
    profile: str | None = None,
    sci_mode: bool | None = None,
) -> None:
    """Set how tensors are shown, which are NumPy's own options. profile: "default", "short" or "full"."""
    threshold = {"default": 1000, "short": 1000, "full": sys.maxsize}[profile] if profile else threshold
    suppress = None if sci_mode is None else not sci_mode
    np.set_printoptions(precision, threshold, edgeitems, linewidth, suppress)


class autocast(nullcontext[None]):
    """A block in which nothing changes. Raises ArgumentError if the CPU is to compute in 16 bits."""

    def __init__(self, device_type: str = "cuda", dtype: Any = None, enabled: bool = True, **_: Any) -> None:
        if device_type == "cpu" and enabled:
            raise ArgumentError("autocast has no 16-bit mode here. Pass enabled=False, or convert with .to(dtype).")
        super().__init__()


class GradScaler:
    """A scaler of losses that is off, as torch's is without CUDA."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def scale(self, outputs: Any) -> Any:
        """Return what is given."""
        return outputs

    def step(self, optimizer: Any, *args: Any) -> Any:
        """Call the `step` of the optimizer."""
        return optimizer.step(*args)

    def state_dict(self) -> dict[str, Any]:
        """Return an empty dict."""
        return {}

    is_enabled, unscale_, update, load_state_dict = staticmethod(_no), _nothing, _nothing, _nothing


_SETTINGS = {"deterministic": False, "benchmark": False, "enabled": False, "allow_tf32": False}
_AMP = {"autocast": autocast, "GradScaler": GradScaler}
_ABSENT = {
    **dict.fromkeys(("is_available", "is_built", "is_bf16_supported"), _no),
    **dict.fromkeys(
        ("manual_seed", "manual_seed_all", "empty_cache", "synchronize", "reset_peak_memory_stats"), _nothing
    ),
    **dict.fromkeys(("device_count", "memory_allocated", "max_memory_allocated", "memory_reserved"), lambda *_: 0),
}
_MODULES = {
    "accelerator": _ABSENT,
    "amp": _AMP,
    "backends": {},
    "backends.cuda": {"matmul": ModuleType("matmul")} | _ABSENT,
    "backends.cudnn": _SETTINGS | _ABSENT,
    "backends.mps": _ABSENT,
    "cuda": _ABSENT,
    "cuda.amp": _AMP,
    "mps": _ABSENT,
    "version": {"cuda": None, "hip": None},
}
FUNCTIONS = {
    "autocast": autocast,
    "compile": compile,
    "get_num_threads": get_num_threads,
    "set_default_device": set_default_device,
    "set_printoptions": set_printoptions,
    **dict.fromkeys(("set_num_threads", "set_num_interop_threads", "set_float32_matmul_precision"), _nothing),
    "use_deterministic_algorithms": _nothing,
}


def add_modules(package: ModuleType) -> None:
    """Make the modules importable from the package, such as `package.backends.cudnn`."""
    for path, content in _MODULES.items():
        module = sys.modules[f"{package.__name__}.{path}"] = ModuleType(f"{package.__name__}.{path}")
        vars(module).update(content)
        parent, _, name = path.rpartition(".")
        setattr(sys.modules[f"{package.__name__}.{parent}"] if parent else package, name, module)
