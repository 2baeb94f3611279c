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


def compile(model: Any = None, **_: Any) -> Any:
    """Return the model itself: there is nothing to compile."""
    return (lambda given: given) if model is None else model


def set_printoptions(
    precision: Any = None, threshold: Any = None, edgeitems: Any = None, linewidth: Any = None,
    profile: Any = None, sci_mode: bool | None = None,
) -> None:  # fmt: skip
    """Set how tensors are shown, which are NumPy's own options. profile: "full" shows all elements."""
    threshold = sys.maxsize if profile == "full" else threshold
    np.set_printoptions(precision, threshold, edgeitems, linewidth, None if sci_mode is None else not sci_mode)


def autocast(device_type: Any = "cuda", dtype: Any = None, enabled: bool = True, **_: Any) -> nullcontext[None]:
    """Return a block in which nothing changes. Raises ArgumentError if the CPU is to compute in 16 bits."""
    if device_type == "cpu" and enabled:
        raise ArgumentError("autocast has no 16-bit mode here. Pass enabled=False, or convert with .to(dtype).")
    return nullcontext()


class GradScaler:
    """A scaler of losses that is off, as torch's is without CUDA."""

    __init__: Any = _nothing
    scale, state_dict = staticmethod(lambda outputs: outputs), staticmethod(dict[str, Any])
    step = staticmethod(lambda optimizer, *args: optimizer.step(*args))
    is_enabled, unscale_, update, load_state_dict = staticmethod(lambda: False), _nothing, _nothing, _nothing


_AMP = {"autocast": autocast, "GradScaler": GradScaler}
_ABSENT = {
    **dict.fromkeys(("is_available", "is_built", "is_bf16_supported"), lambda: False),
    **dict.fromkeys(("manual_seed", "manual_seed_all", "empty_cache", "synchronize"), _nothing),
    **dict.fromkeys(("device_count", "memory_allocated", "max_memory_allocated"), lambda *_: 0),
}
_MODULES = {
    "accelerator": _ABSENT, "amp": _AMP, "backends": {}, "backends.cuda": {"matmul": ModuleType("matmul")},
    "backends.cudnn": {"deterministic": False, "benchmark": False, "enabled": False} | _ABSENT,
    "backends.mps": _ABSENT, "cuda": _ABSENT, "cuda.amp": _AMP, "mps": _ABSENT, "version": {"cuda": None},
}  # fmt: skip
FUNCTIONS: dict[str, Any] = {
    "autocast": autocast, "compile": compile, "get_num_threads": os.cpu_count, "set_default_device": require_cpu,
    "set_float32_matmul_precision": _nothing, "set_num_threads": _nothing, "set_printoptions": set_printoptions,
    "use_deterministic_algorithms": _nothing,
}  # fmt: skip


def add_modules(package: ModuleType) -> None:
    """Make the modules importable from the package, such as `package.backends.cudnn`."""
    for path, content in _MODULES.items():
        module = sys.modules[f"{package.__name__}.{path}"] = ModuleType(f"{package.__name__}.{path}")
        module.__dict__.update(content)
        parent, _, name = f"{package.__name__}.{path}".rpartition(".")
        setattr(sys.modules[parent], name, module)
