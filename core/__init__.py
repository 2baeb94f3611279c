"""Neural networks in NumPy, under PyTorch's names.

Read the folders in this order: autograd (how gradients are computed), nn/functional (each function next to its
gradient), nn/module (how state is registered, found and loaded), nn/layers (the building blocks), nn/init, optim (how
parameters are trained) and inspection (how to look inside).
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from . import autograd, creation, errors, hardware, nn, optim, random, utils
from .autograd import enable_grad, indexing, inference_mode, operations, reductions, set_grad_enabled, shaping
from .autograd.devices import device
from .autograd.dtypes import NAMED, get_default_dtype, set_default_dtype
from .autograd.dtypes import bfloat16 as _bfloat16
from .autograd.indexing import *  # noqa: F403
from .autograd.operations import *  # noqa: F403
from .autograd.reductions import *  # noqa: F403
from .autograd.shaping import *  # noqa: F403
from .autograd.tensor import Tensor, is_grad_enabled, no_grad, tensor
from .creation import *  # noqa: F403
from .errors import *  # noqa: F403
from .inspection.capture import capture
from .inspection.doctor import doctor
from .nn import *  # noqa: F403 (so that `from statezoo import core as nn` has it all)
from .nn import functional
from .nn.functional import log_softmax, softmax
from .nn.module import parameter
from .random import default_generator, get_rng_state, initial_seed, manual_seed, set_rng_state
from .utils import distributions

__all__ = [
    "Generator", "Tensor", "autograd", "capture", "default_generator", "device", "distributions", "doctor",
    "enable_grad", "get_default_dtype", "get_rng_state", "inference_mode", "initial_seed", "is_grad_enabled",
    "is_tensor", "load", "log_softmax", "manual_seed", "nn", "no_grad", "optim", "random", "save", "set_default_dtype",
    "set_grad_enabled", "set_rng_state", "softmax", "tensor", "utils",
]  # fmt: skip
__all__ += errors.__all__
__all__ += nn.__all__
__all__ += indexing.__all__
__all__ += operations.__all__
__all__ += reductions.__all__
__all__ += shaping.__all__
__all__ += creation.__all__


def is_tensor(obj: Any) -> bool:
    """Return True for a Tensor."""
    return isinstance(obj, Tensor)


# float32, long, bool and the others, as `torch.float32`; settings of hardware, which change nothing; numbers.
globals().update(NAMED | hardware.FUNCTIONS)
dtype, Size, finfo, iinfo = np.dtype, tuple, np.finfo, np.iinfo
pi, e, inf, nan, newaxis = np.pi, np.e, np.inf, np.nan, None


def __getattr__(name: str) -> Any:
    """Return what is imported only when it is asked for."""
    if name == "bfloat16":
        return _bfloat16()
    if name == "Generator":
        from .random import generator

        return generator.Generator
    if name in ("load", "save"):
        from ..checkpoints.models import objects

        return getattr(objects, name)
    if name == "__version__":
        from importlib.metadata import version

        return version("statezoo")
    if callable(method := getattr(Tensor, name, None)) and name[0] != "_":
        return method  # numel, is_floating_point and others
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}.")


def __dir__() -> list[str]:
    """List those names too."""
    return [*globals(), *__all__]


if TYPE_CHECKING:
    from ..checkpoints.models.objects import load, save
    from .random.generator import Generator

# The methods that need nn.functional.
Tensor.softmax = functional.softmax
Tensor.log_softmax = functional.log_softmax

globals()["utils"] = import_module(".utils", __name__)  # `nn` has another
# The places of torch whose code is elsewhere: `import statezoo.core.functional as F`, `core.nn.parameter`.
nn.__dict__.update(parameter=parameter, modules=nn)
sys.modules.update(
    {f"{__name__}.{path}": module for path, module in
     {"distributions": distributions,
      "functional": functional, "nn.parameter": parameter, "nn.modules": nn, "nn.modules.module": nn}.items()}
)  # fmt: skip
hardware.add_modules(sys.modules[__name__])
